#!/usr/bin/env python3
"""Clients that push their metrics (KIP-714), as they come, against a broker that was told to take them.

    python3 tests/compat/telemetry.py --broker target/release/odradek --driver uring

Options:
    --broker BIN         the binary to start
    --driver uring|sync  handed to the binary (default uring)
    --shards N           handed to the binary (default 2)
    --cache DIR          where clients are installed and logs are kept (default target/compat)

A subscription asks for metrics every half second; each client produces until the broker's log shows some of its metrics by
name, with a value, and then ends, which the log shows, too. Apache Kafka has nothing that shows them: there is no reference.

Prints one line per test and at the end `N passed, N failed`; the exit code is 0 only if tests ran and none failed.
"""

import re
import subprocess
import sys
import time

from harness import Failure, broker, program, report

PATIENCE_S = 60
TOPIC = "telemetry"
LIBRDKAFKA = """
import sys
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": sys.argv[1], "client.id": sys.argv[2], "enable.metrics.push": True})
for line in sys.stdin:
    producer.produce(sys.argv[3], b"value")
    producer.flush(10)
"""


def _librdkafka(tools, server, client):
    return [tools.python, "-c", LIBRDKAFKA, server.address, client, TOPIC]


def _java(tools, server, client):
    return tools.java(
        "-cp", f"{tools.jars}/*", "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", server.address, "--topic", TOPIC,
        "--command-property", f"client.id={client}", "--command-property", "enable.metrics.push=true", heap_mb=128,
    )


# A client, how it is started, and what some metric of it is called.
CLIENTS = {
    "librdkafka": (_librdkafka, r"org\.apache\.kafka\.producer\.connection\.creation\.total"),
    "java": (_java, r"org\.apache\.kafka\.producer\.connection\.creation\.total"),
}


def main():
    arguments = program.parse(program.parser(__doc__))
    results = report.Report()
    tools = program.installed(arguments, {"python", "jars"}, results)
    if tools is None:
        return results.close()
    folder = program.new_folder(arguments, "telemetry-runs")

    def make():
        return [broker.Odradek(folder, arguments.broker, arguments.driver, arguments.shards, ["odradek.client.telemetry=true"], "info,broker::telemetry=debug")]

    def run_all(server):
        _subscribe(tools, server)
        for name, (command, metric) in CLIENTS.items():
            started, failure = time.monotonic(), None
            try:
                _run(command(tools, server, f"telemetry-{name}"), server, f"telemetry-{name}", metric)
            except Failure as error:
                failure = str(error)
            results.add(name, "pushes its metrics, which are shown", failure, time.monotonic() - started)

    program.with_servers(make, run_all, results)
    return results.close()


def _subscribe(tools, server):
    command = tools.java(
        "-cp", f"{tools.jars}/*", "org.apache.kafka.tools.ClientMetricsCommand", "--bootstrap-server", server.address, "--alter",
        "--name", "all", "--metrics", "org.apache.kafka.producer.", "--interval", "500", "--match", "client_id=telemetry-.*", heap_mb=64,
    )
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode != 0:
        raise Failure(f"no subscription: {done.stdout}{done.stderr}")


def _run(command, server, client, metric):
    errors = open(server.folder / f"{client}.log", "wb")
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=errors, stderr=errors, text=True)
    try:
        _until(server, process, rf"client metric client={client} metric={metric} value=[0-9.]+")
        _until(server, process, rf"client metrics client={client} instance=\S{{22}} software=\S+ version=\S+ address=127.0.0.1 metrics=[1-9]\d* values=[1-9]\d* bytes=[1-9]\d* last=false")
        process.stdin.close()
        if process.wait(PATIENCE_S) != 0:
            raise Failure(f"it ended with {process.returncode} ({errors.name})")
        _until(server, None, rf"client metrics client={client} .* last=true")
    except subprocess.TimeoutExpired:
        raise Failure(f"it does not end ({errors.name})") from None
    finally:
        process.kill()
        process.wait()
        errors.close()


def _until(server, process, pattern):
    """Waits until the broker's log has such a line, and has the process produce meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while not re.search(pattern, server.log_path.read_text(encoding="utf-8", errors="replace")):
        if time.monotonic() > deadline:
            raise Failure(f"nothing like {pattern!r} within {PATIENCE_S} s{server.log_tail()}")
        if process is not None:
            if process.poll() is not None:
                raise Failure(f"the client ended with {process.returncode}")
            process.stdin.write("a line\n")
            process.stdin.flush()
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
