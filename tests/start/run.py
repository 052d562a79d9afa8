#!/usr/bin/env python3
"""How fast a broker is there, and what it costs when nothing happens. For a quiet machine: not a stage of the test command.

    python3 tests/start/run.py --broker target/release/odradek

Options:
    --broker BIN         a release build
    --driver uring|sync  handed to the binary (default uring)
    --log-bytes N        size of the log of the second start (default 1 GiB); on a disk, not on tmpfs
    --cache DIR          where the client is installed and the data is put (default target/compat)

Starts it 20 times on an empty directory and 20 times, after a clean stop and once after kill -9, on a directory with a
log. The times are the ready line's own and, beside them, those from fork to ready line. Then an idle broker is watched
for ten seconds. The limits are those of the first issue: medians of 50 ms and 100 ms, 20 ms of CPU, 64 MB of memory.

Prints one line per test and at the end `N passed, N failed`.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "compat"))

from harness import Failure, install, report  # noqa: E402

STARTS = 20
EMPTY_MS_MAX = 50
FULL_MS_MAX = 100
IDLE_S = 10
IDLE_CPU_MS_MAX = 20
MEMORY_MB_MAX = 64
FILL_TIMEOUT_S = 600

FILL = """
import sys
from confluent_kafka import Producer
bootstrap, total = sys.argv[1], int(sys.argv[2])
value = bytes(1000)
producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "batch.size": 500000, "acks": "all"})
for _ in range(total // len(value)):
    while True:
        try:
            producer.produce("filled", value=value)
            break
        except BufferError:
            producer.poll(0.1)
    producer.poll(0)
if producer.flush(60):
    raise SystemExit("not all was acknowledged")
"""


class Broker:
    def __init__(self, arguments, folder):
        started = time.monotonic()
        self._process = subprocess.Popen(
            [arguments.broker, "start", "--listen", "127.0.0.1:0", "--data-dir", folder, "--driver", arguments.driver],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        line = self._process.stdout.readline()
        self.wall_ms = (time.monotonic() - started) * 1000
        found = re.fullmatch(r"ready listen=(\S+) .* ms=(\d+)\n", line)
        if not found:
            raise Failure(f"not ready: {line!r}: {self._process.communicate()[1][-1000:]}")
        self.address, self.ms = found[1], int(found[2])

    def end(self, how):
        self._process.send_signal(how)
        _, log = self._process.communicate(timeout=120)
        if how == signal.SIGTERM and self._process.returncode != 0:
            raise Failure(f"exit {self._process.returncode}: {log[-1000:]}")

    def cpu_ms(self):
        fields = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def memory_mb(self):
        status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", type=pathlib.Path, required=True)
    parser.add_argument("--driver", choices=["uring", "sync"], default="uring")
    parser.add_argument("--log-bytes", type=int, default=1 << 30)
    parser.add_argument("--cache", type=pathlib.Path, default=install.DEFAULT_CACHE)
    arguments = parser.parse_args()
    arguments.cache = arguments.cache.resolve()
    results = report.Report()
    folder = arguments.cache / "start"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        for name, test in (("empty", empty), ("idle", idle), ("log", full)):
            started, failure = time.monotonic(), None
            try:
                said = test(arguments, folder / name)
            except (Failure, subprocess.SubprocessError) as error:
                said, failure = test.__doc__, str(error)
            results.add(name, said, failure, time.monotonic() - started)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return results.close()


def empty(arguments, folder):
    """starts on an empty directory"""
    starts = []
    for number in range(STARTS):
        broker = Broker(arguments, folder.with_name(f"{folder.name}-{number}"))
        starts.append(broker)
        broker.end(signal.SIGTERM)
    return judge("an empty directory", starts, EMPTY_MS_MAX)


def full(arguments, folder):
    """starts on a directory with a log"""
    tools = install.install(arguments.cache, {"python"})
    broker = Broker(arguments, folder)
    subprocess.run([tools.python, "-c", FILL, broker.address, str(arguments.log_bytes)], check=True, timeout=FILL_TIMEOUT_S)
    broker.end(signal.SIGKILL)
    killed = Broker(arguments, folder)
    killed.end(signal.SIGTERM)
    starts = []
    for _ in range(STARTS):
        broker = Broker(arguments, folder)
        starts.append(broker)
        broker.end(signal.SIGTERM)
    size = f"{arguments.log_bytes >> 20} MiB of log"
    return f"{judge(size, starts, FULL_MS_MAX)}; once after kill -9: {killed.ms}"


def judge(what, starts, limit):
    ms = statistics.median(start.ms for start in starts)
    wall = statistics.median(start.wall_ms for start in starts)
    spread = f"{min(start.ms for start in starts)}-{max(start.ms for start in starts)}"
    said = f"ready on {what} in {ms:.0f} ms ({spread}; {wall:.0f} from the fork), median of {STARTS}"
    if ms > limit:
        raise Failure(f"{said}: over {limit}")
    return said


def idle(arguments, folder):
    """idles"""
    broker = Broker(arguments, folder)
    before = broker.cpu_ms()
    time.sleep(IDLE_S)
    cpu, memory = broker.cpu_ms() - before, broker.memory_mb()
    broker.end(signal.SIGTERM)
    said = f"idle for {IDLE_S} s: {cpu:.0f} ms of CPU, {memory:.0f} MB of memory at most"
    if cpu >= IDLE_CPU_MS_MAX or memory >= MEMORY_MB_MAX:
        raise Failure(f"{said}: over {IDLE_CPU_MS_MAX} ms or {MEMORY_MB_MAX} MB")
    return said


if __name__ == "__main__":
    sys.exit(main())
