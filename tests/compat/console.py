#!/usr/bin/env python3
"""The console in a headless browser: every page is clicked through, with real traffic and 10,000 topics.

    python3 tests/compat/console.py --broker target/release/odradek --driver uring

Options:
    --broker BIN         the binary to start
    --driver uring|sync  handed to the binary (default uring)
    --shards N           handed to the binary (default 2)
    --topics N           so many topics are there (default 10000)
    --pictures DIR       where the pictures of the pages go (default: the run's folder)
    --cache DIR          where clients are installed and logs are kept (default target/compat)

The browser is Debian's Chromium (package `chromium`), led by playwright-core (clients/console). How long the pages took is
printed. Then the same broker without `odradek.console=write`: nothing can be changed, and nobody is served whom another
site sent.

Prints one line per test and at the end `N passed, N failed`; the exit code is 0 only if tests ran and none failed.
"""

import contextlib
import http.client
import json
import pathlib
import shutil
import subprocess
import sys
import time

from harness import Failure, broker, install, program, report

BROWSER_TIMEOUT_S = 400
PREPARE = """
import json, sys
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

address, count = sys.argv[1], int(sys.argv[2])
admin = AdminClient({"bootstrap.servers": address})
topics = [NewTopic("orders", 3), NewTopic("bytes", 1), NewTopic("traffic", 1)]
topics += [NewTopic(f"many-{number:05}", 1) for number in range(count)]
for start in range(0, len(topics), 500):
    for made in admin.create_topics(topics[start:start + 500], operation_timeout=60, request_timeout=90).values():
        made.result()
producer = Producer({"bootstrap.servers": address})
for number in range(60):
    value = json.dumps({"amount": number, "customer": f"customer {number}"})
    producer.produce("orders", value, key=f"key {number % 5}", partition=number % 3, headers={"source": "test"})
    producer.flush(30)
producer.produce("bytes", bytes([255, 0, 254]))
producer.flush(30)
"""
# A member that has committed the start and reads no further; traffic beside it. Until stdin ends.
TRAFFIC = """
import sys, threading
from confluent_kafka import Consumer, Producer, TopicPartition

address = sys.argv[1]
consumer = Consumer({"bootstrap.servers": address, "group.id": "readers", "client.id": "console-reader", "enable.auto.commit": False})
consumer.subscribe(["orders"])
while not consumer.assignment():
    consumer.poll(0.2)
consumer.commit(offsets=[TopicPartition("orders", partition, 0) for partition in range(3)], asynchronous=False)
producer = Producer({"bootstrap.servers": address, "linger.ms": 50})
print("going", flush=True)
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
while not over.wait(0.01):
    for _ in range(20):
        producer.produce("traffic", b"v" * 500)
    producer.poll(0)
    consumer.pause(consumer.assignment())
    consumer.poll(0)
producer.flush(10)
consumer.close()
"""


def main():
    arguments = _arguments()
    results = report.Report()
    tools = program.installed(arguments, {"python", "console"}, results)
    if tools is None:
        return results.close()
    folder = program.new_folder(arguments, "console-runs")
    port = broker.free_port()

    def server(console):
        settings = [f"admin.listen=127.0.0.1:{port}", f"odradek.console={console}"]
        return broker.Odradek(folder / console, arguments.broker, arguments.driver, arguments.shards, settings)

    program.with_servers(lambda: [server("write")], lambda one: _browse(arguments, tools, one, port, folder, results), results)
    program.with_servers(lambda: [server("read")], lambda _one: _turn_away(port, results), results)
    return results.close()


def _arguments():
    parser = program.parser(__doc__)
    parser.add_argument("--topics", type=int, default=10_000)
    parser.add_argument("--pictures", type=pathlib.Path)
    return program.parse(parser)


def _browse(arguments, tools, server, port, folder, results):
    browser = shutil.which("chromium")
    if browser is None:
        raise Failure("`chromium` is missing: it shows the console (Debian's package chromium)")
    pictures = (arguments.pictures or folder / "pictures").resolve()
    pictures.mkdir(parents=True, exist_ok=True)
    _run([tools.python, "-c", PREPARE, server.address, arguments.topics])
    with _traffic(tools, server):
        command = [
            "node", install.CLIENTS / "console" / "browse.js", tools.node_modules("console") / "playwright-core", browser,
            f"http://127.0.0.1:{port}/", pictures,
        ]
        for line in _run(command, check=False).splitlines():
            told = json.loads(line)
            if "times" in told:
                slowest = sorted(told["times"].items(), key=lambda item: -item[1])
                print(f"      with {arguments.topics} topics: " + ", ".join(f"{page} {ms} ms" for page, ms in slowest), flush=True)
            else:
                results.add("console", told["name"], told["failure"], told["ms"] / 1000)


def _run(command, check=True):
    done = subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        timeout=BROWSER_TIMEOUT_S, check=False,
    )
    if done.returncode != 0 and (check or not done.stdout):
        raise Failure(f"{command[0]} exited with {done.returncode}: {done.stderr.strip()[-1500:]}")
    return done.stdout


@contextlib.contextmanager
def _traffic(tools, server):
    process = subprocess.Popen(
        [str(tools.python), "-c", TRAFFIC, server.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        if process.stdout.readline() != "going\n":
            raise Failure("the traffic did not begin")
        yield
        process.stdin.close()
        process.wait(30)
    finally:
        process.kill()
        process.wait()


JSON_TYPE = {"Content-Type": "application/json"}
# What is asked, with what, and what comes back.
REQUESTS = (
    ("an address in Host is served", "GET", "/console/api/topics", {}, None, 200),
    ("localhost in Host is served", "GET", "/console/", {"Host": "localhost:1"}, None, 200),
    ("a name in Host that was led here is not", "GET", "/console/api/topics", {"Host": "example.org"}, None, 403),
    ("another site in Origin is not", "GET", "/console/api/topics", {"Origin": "http://example.org"}, None, 403),
    ("nothing is changed without the switch", "POST", "/console/api/create", JSON_TYPE, b'{"name": "t"}', 403),
    ("a form of another site is no request", "POST", "/console/api/create", {"Content-Type": "text/plain"}, b'{"name": "t"}', 403),
    ("a number that is none is refused", "GET", "/console/api/topics?from=-1", {}, None, 400),
    ("an offset without a partition is refused", "GET", "/console/api/messages?topic=t&from=3", {}, None, 400),
    ("a topic that is not there is told", "GET", "/console/api/topic?name=t", {}, None, 422),
    ("metrics are served beside it", "GET", "/metrics", {}, None, 200),
)


def _turn_away(port, results):
    for name, method, path, headers, body, expected in REQUESTS:
        started, failure = time.monotonic(), None
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != expected:
                failure = f"{answer.status} instead of {expected}: {text[:200]}"
        except OSError as error:
            failure = str(error)
        finally:
            connection.close()
        results.add("console", name, failure, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
