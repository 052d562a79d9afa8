#!/usr/bin/env python3
"""Apache Kafka and Odradek take over each other's data directories: all that was written there must be served.

    python3 tests/interop/run.py --broker target/release/odradek --driver uring
    python3 tests/interop/run.py --broker kafka        # the reference: Apache Kafka takes over its own directory

Options:
    --broker BIN|kafka   the binary that writes the directory, or `kafka`
    --driver uring|sync  handed to the binary (default uring)
    --shards N           handed to the binary (default 2)
    --cache DIR          where clients and jars are installed and logs are kept (default target/compat)

The broker is started on an empty directory, filled (client.py), stopped by SIGTERM and started again on the way, and stopped
for good. Then Apache Kafka is started on the directory, as the same node, with other ports: it must find nothing to repair,
serve every topic, setting, record and committed offset, and carry on; and so again after its own restart.
The other way round is in takeover.py; what Odradek has to refuse is in refusals.py.

Prints one line per test and at the end `N passed, N failed`; the exit code is 0 only if tests ran and none failed.
"""

import json
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "compat"))

# The harness is beside this folder, so its path has to be known first.
import consumer_groups  # noqa: E402
import damages  # noqa: E402
import exactly_once  # noqa: E402
import kafka_log  # noqa: E402
import prepared  # noqa: E402
import refusals  # noqa: E402
import takeover  # noqa: E402
from harness import Failure, broker, program, report  # noqa: E402

CLIENT_TIMEOUT_S = 240
# The parts of other programs than client.py.
PROGRAMS = {
    "transactions_client": ("transact", "transact-more", "transactions", "transactions-add", "transactions-end"),
    "leftovers_client": ("leave", "left"),
    "consumer_groups_client": ("begin", "resume"),
    "exactly_once_client": ("once", "once-leave", "once-resume", "once-storm"),
    "prepared_client": ("prepare", "prepared"),
    "damages_client": ("cases", "outcomes", "append", "mended"),
}

def main():
    arguments = program.parse(program.parser(__doc__))
    results = report.Report()
    tools = program.installed(arguments, {"python", "jars"}, results)
    if tools is None:
        return results.close()
    folder = program.new_folder(arguments, "interop-runs")
    _run(arguments, tools, folder, results)
    if arguments.broker != "kafka":
        takeover.run(arguments, tools, folder, results, run_client)
        refusals.run(arguments, tools, folder, results)
        consumer_groups.run(arguments, tools, folder, results, run_client)
        exactly_once.run(arguments, tools, folder, results, run_client)
        prepared.run(arguments, tools, folder, results, run_client)
        damages.run(arguments, tools, folder, results, run_client)
    return results.close()


def _run(arguments, tools, folder, results):
    servers = []
    try:
        if arguments.broker == "kafka":
            writer = broker.Kafka(folder / "writer", tools, settings=takeover.SOON)
        else:
            settings = [*takeover.SNAPSHOTS, *(f"{name}={value}" for name, value in takeover.SOON.items())]
            writer = broker.Odradek(folder / "writer", arguments.broker, arguments.driver, arguments.shards, settings=settings)
        servers.append(writer)
        if not _write(tools, folder, writer, results):
            return
        properties = _meta_properties(writer.data_dir)
        settings = {"node.id": properties["node.id"]}
        reader = broker.Kafka(folder / "reader", tools, settings=settings, data_dir=writer.data_dir)
        servers.append(reader)
        _read(tools, folder, reader, results)
    except Failure as failure:
        results.add("directory", "can be written and taken over", str(failure), 0)
    finally:
        for server in servers:
            server.kill()


def _write(tools, folder, writer, results):
    """Fills the directory over two runs of the broker; whether all of it went well."""
    writer.start()
    filled = run_client(tools, folder, writer, results, "fill-first")
    filled = filled and run_client(tools, folder, writer, results, "leave")
    writer.restart()
    # Either way it is stopped by SIGTERM, so that a failing part leaves the directory to look at.
    filled = filled and run_client(tools, folder, writer, results, "fill-second")
    writer.stop()
    return filled


def _read(tools, folder, reader, results):
    started, failure = time.monotonic(), None
    try:
        reader.start()
    except Failure as error:
        failure = str(error)
    results.add("takeover", "Apache Kafka starts on the directory", failure, time.monotonic() - started)
    if failure:
        return
    kafka_log.check(reader, results, "")
    run_client(tools, folder, reader, results, "check")
    run_client(tools, folder, reader, results, "left")
    run_client(tools, folder, reader, results, "carry-on")
    reader.restart()
    run_client(tools, folder, reader, results, "check-again")
    reader.stop()


def _meta_properties(data_dir):
    lines = (data_dir / "meta.properties").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def run_client(tools, folder, server, results, part):
    """Runs one part of a client's program, which prints a JSON line per test; returns whether all passed."""
    program = next((program for program, parts in PROGRAMS.items() if part in parts), "client")
    command = [tools.python, HERE / f"{program}.py", part, server.address, folder / f"{program}.pickle"]
    log_path = folder / f"{part}.log"
    with open(log_path, "wb") as log:
        try:
            done = subprocess.run(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                timeout=CLIENT_TIMEOUT_S, check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"{part} took over {CLIENT_TIMEOUT_S} s ({log_path})") from None
    passed = True
    for line in done.stdout.splitlines():
        result = json.loads(line)
        results.add(part, result["test"], result["failure"], result["seconds"])
        passed = passed and result["failure"] is None
    if done.returncode != 0:
        tail = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-8:]
        results.add(part, "runs to its end", f"exit {done.returncode} ({log_path})" + "".join(f"\n      | {t}" for t in tail), 0)
        passed = False
    return passed


if __name__ == "__main__":
    sys.exit(main())
