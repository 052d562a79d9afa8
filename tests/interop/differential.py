#!/usr/bin/env python3
"""Odradek and Apache Kafka take the same records and the same settings, and consumers have to see the same.

    python3 tests/interop/differential.py --broker target/release/odradek --driver uring

Options:
    --broker BIN         the binary that is compared with Apache Kafka
    --driver uring|sync  handed to the binary (default uring)
    --shards N           handed to the binary (default 2)
    --case NAME          only this one; can be repeated
    --cache DIR          where clients and jars are installed and logs are kept (default target/compat)

Both brokers run side by side with short intervals. differential_client.py takes both through each case: what is produced,
altered, deleted. After each case it compares first and last offsets, every record, what ListOffsets finds by time, and which
segments lie on disk; so again after a restart of both, and after Odradek was killed by SIGKILL.

Prints one line per test and at the end `N passed, N failed`; the exit code is 0 only if tests ran and none failed.
"""

import json
import pathlib
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "compat"))

# The harness is beside this folder, so its path has to be known first.
from harness import Failure, broker, program, report  # noqa: E402

CLIENT_TIMEOUT_S = 300
# Of both brokers: old records go within seconds, and what is cleaned is cleaned at once.
SETTINGS = {
    "log.retention.check.interval.ms": "500",
    "log.initial.task.delay.ms": "500",
    "log.cleaner.backoff.ms": "500",
    "log.segment.delete.delay.ms": "1000",
}


def main():
    arguments = _arguments()
    results = report.Report()
    tools = program.installed(arguments, {"python", "jars"}, results)
    if tools is None:
        return results.close()
    _run(arguments, tools, program.new_folder(arguments, "differential-runs"), results)
    return results.close()


def _arguments():
    parser = program.parser(__doc__)
    parser.add_argument("--case", action="append", dest="cases", default=[])
    return program.parse(parser)


def _run(arguments, tools, folder, results):
    settings = [f"{name}={value}" for name, value in SETTINGS.items()]
    odradek = broker.Odradek(folder / "odradek", arguments.broker, arguments.driver, arguments.shards, settings)
    kafka = broker.Kafka(folder / "kafka", tools, settings=SETTINGS)
    try:
        for server in (odradek, kafka):
            server.start()
        _client(tools, folder, (odradek, kafka), results, "cases", *arguments.cases)
        for server in (odradek, kafka):
            server.restart()
        _client(tools, folder, (odradek, kafka), results, "restarted", *arguments.cases)
        odradek.kill()
        odradek.start()
        _client(tools, folder, (odradek, kafka), results, "killed", *arguments.cases)
        for server in (odradek, kafka):
            server.stop()
    except Failure as failure:
        results.add("brokers", "start, stop and start again", str(failure), 0)
    finally:
        for server in (odradek, kafka):
            server.kill()


def _client(tools, folder, servers, results, part, *cases):
    """Runs one part of differential_client.py, which prints a JSON line per test."""
    command = [tools.python, HERE / "differential_client.py", part, folder / "facts.json"]
    for server in servers:
        command += [server.address, server.data_dir]
    log_path = folder / f"{part}.log"
    with open(log_path, "wb") as log, subprocess.Popen(
        [*map(str, command), *cases], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
    ) as client:
        watchdog = threading.Timer(CLIENT_TIMEOUT_S, client.kill)
        watchdog.start()
        for line in client.stdout:
            result = json.loads(line)
            results.add(part, result["test"], result["failure"], result["seconds"])
        code = client.wait()
        watchdog.cancel()
    if code != 0:
        tail = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-8:]
        results.add(part, "runs to its end", f"exit {code} ({log_path})" + "".join(f"\n      | {t}" for t in tail), 0)


if __name__ == "__main__":
    sys.exit(main())
