#!/usr/bin/env python3
"""Start-up and idle figures, with their limits.

    cargo build --release -p server && python3 tests/bench/start.py --broker target/release/odradek

Options:
    --broker BIN         the release binary
    --driver uring|sync  handed to it (default uring)
    --starts N           of which the median is taken (default 20)
    --log-mb N           size of the log of the second measurement (default 1000)
    --cache DIR          where the load generator and the data are (default target/bench)

A start is timed from before the process is made to its ready line, read here. "With a log" it is measured after a clean stop
and, for information, after a kill. Prints a line for each figure and at the end `N passed, N failed`; the exit code is 0 only
if none is over its limit.
"""

import argparse
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

import common
from common import Failure

EMPTY_START_MS_MAX = 50
LOADED_START_MS_MAX = 100
IDLE_SECONDS = 10
IDLE_CPU_MS_MAX = 20
IDLE_RESIDENT_MB_MAX = 64
# After a kill recovery reads what is above the checkpoint: told, not judged.
STARTS_AFTER_KILL = 5


class Broker:
    def __init__(self, arguments, data_dir):
        self.command = [
            str(arguments.broker.resolve()), "start", "--listen", "127.0.0.1:0", "--data-dir", str(data_dir),
            "--driver", arguments.driver,
        ]
        self.process = None
        self.address = None

    def start(self):
        """Returns the milliseconds until it serves."""
        started = time.monotonic()
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        line = self.process.stdout.readline()
        took = (time.monotonic() - started) * 1000
        if not line.startswith("ready"):
            raise Failure(f"no ready line: {line!r}")
        self.address = next(word.removeprefix("listen=") for word in line.split() if word.startswith("listen="))
        return took

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(60)
        self.process.stdout.close()
        if how == signal.SIGTERM and code != 0:
            raise Failure(f"exit code {code} on SIGTERM")


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def judge(self, what, value, limit, unit, detail=""):
        is_good = value < limit
        self.passed += is_good
        self.failed += not is_good
        print(f"{'PASS' if is_good else 'FAIL'} {what}: {value:.1f} {unit} (limit {limit} {unit}){detail}", flush=True)


def main():
    arguments = _arguments()
    print(common.machine(), flush=True)
    report = Report()
    folder = arguments.cache / "start-data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _measure(arguments, folder, report)
    except Failure as failure:
        print(f"FAIL {failure}")
        report.failed += 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", type=pathlib.Path, required=True)
    parser.add_argument("--driver", choices=["uring", "sync"], default="uring")
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--log-mb", type=int, default=1000)
    parser.add_argument("--cache", type=pathlib.Path, default=common.DEFAULT_CACHE)
    return parser.parse_args()


def _measure(arguments, folder, report):
    times = []
    for number in range(arguments.starts):
        broker = Broker(arguments, folder / f"empty-{number}")
        times.append(broker.start())
        broker.stop()
    _judge_starts(report, "start on an empty directory", times, EMPTY_START_MS_MAX)

    broker = Broker(arguments, folder / "filled")
    broker.start()
    _judge_idle(report, "idle, nothing stored", broker)
    count = arguments.log_mb * 1_000_000 // common.VALUE_BYTES
    common.kload(
        common.build_kload(arguments.cache), "produce", broker.address, "filled", "-n", count, "-s", common.VALUE_BYTES,
        producer=common.TUNED,
    )
    broker.stop()
    times = []
    for _ in range(arguments.starts):
        times.append(broker.start())
        broker.stop()
    _judge_starts(report, f"start with {arguments.log_mb} MB of log", times, LOADED_START_MS_MAX)

    broker.start()
    _judge_idle(report, f"idle, {arguments.log_mb} MB stored", broker)
    times = []
    for _ in range(STARTS_AFTER_KILL):
        broker.stop(signal.SIGKILL)
        times.append(broker.start())
    print(f"     start with {arguments.log_mb} MB of log after a kill: {_spread(times)}", flush=True)
    broker.stop()


def _spread(times):
    return f"median {statistics.median(times):.1f} ms of {len(times)} ({min(times):.1f} to {max(times):.1f})"


def _judge_starts(report, what, times, limit):
    report.judge(what, statistics.median(times), limit, "ms", f"; {_spread(times)}")


def _judge_idle(report, what, broker):
    pid = broker.process.pid
    # What a start leaves to do is not idling.
    time.sleep(1)
    before = common.cpu_seconds(pid)
    time.sleep(IDLE_SECONDS)
    used_ms = (common.cpu_seconds(pid) - before) * 1000
    report.judge(f"{what}: CPU in {IDLE_SECONDS} s", used_ms, IDLE_CPU_MS_MAX, "ms")
    report.judge(f"{what}: memory", common.resident_mb(pid), IDLE_RESIDENT_MB_MAX, "MB")


if __name__ == "__main__":
    sys.exit(main())
