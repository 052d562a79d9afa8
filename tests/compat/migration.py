#!/usr/bin/env python3
"""Groups that change their protocol while they work: a rolling upgrade from the classic protocol to KIP-848's and back.

    python3 tests/compat/migration.py --broker target/release/odradek --driver uring
    python3 tests/compat/migration.py --broker kafka                # the reference: Apache Kafka itself

Options:
    --broker BIN|kafka   the binary to start as the broker, or `kafka` for Apache Kafka
    --driver uring|sync  handed to the binary (default uring)
    --client NAME        only this one; can be repeated: confluent-kafka or java (default: both)
    --shards N           handed to the binary (default 2)
    --cache DIR          where clients are installed and logs are kept (default target/compat)

Three members share a topic under traffic. One by one they leave and come back with the other protocol, and then again with
the first one; in the middle of each way the broker is killed (kill -9) and started again. Every record is to be read, in
order, and a record is given twice only behind an offset that was committed: harness/process.py checks each as it comes.

Prints one line per test and at the end `N passed, N failed`; the exit code is 0 only if tests ran and none failed.
"""

import contextlib
import subprocess
import sys
import threading
import time

from harness import Failure, broker, program, report, scenario
from harness.clients import CLIENTS_UNDER_TEST, GROUP_SETTINGS, environment_of
from harness.process import Member, Producer

CLIENTS = [client for client in CLIENTS_UNDER_TEST if client.name in ("confluent-kafka", "java")]
# Members whose broker was killed ask again within a second.
SETTINGS = {
    **dict.fromkeys(GROUP_SETTINGS, "300"),
    "group.consumer.assignment.interval.ms": "200",
}
# How often a batch is produced while members come and go.
TRAFFIC_PAUSE_S = 0.2
TYPE_SCRIPT = """
import sys
from confluent_kafka.admin import AdminClient
admin = AdminClient({"bootstrap.servers": sys.argv[1]})
listed = admin.list_consumer_groups().result(30).valid
for group in listed:
    print(f"{group.group_id}: {group.type.name}")
"""


class Traffic:
    """Produces while it is entered; a failure of it is raised at the end."""

    def __init__(self, produce):
        self._produce = produce
        self._is_over = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self._is_over.wait(TRAFFIC_PAUSE_S):
                self._produce()
        except Failure as failure:
            self._failure = failure

    def __enter__(self):
        self._thread.start()

    def __exit__(self, kind, _error, _trace):
        self._is_over.set()
        self._thread.join()
        if kind is None and self._failure:
            raise self._failure


class Migration(scenario.Scenario):
    """One client's group on its way there and back."""

    def __init__(self, client, tools, server, folder):
        super().__init__(client, tools, server, None, folder)
        self._topic, self._group = f"migration-{client.name}", f"migrating-{client.name}"
        self._batch = 0

    def steps(self):
        return (
            ("three classic members share the partitions", self.begins),
            ("is upgraded member by member under traffic, the broker killed in between", self.upgrades),
            ("is downgraded member by member under traffic, the broker killed in between", self.downgrades),
            ("nothing is lost and everything is committed", self.ends),
        )

    def begins(self):
        self._producer = self._start(Producer, "producer", "produce")
        self._producer.create(scenario.PARTITIONS)
        self._broker.settle(self._topic)
        self._send()
        for name in ("a0", "b0", "c0"):
            self._come(name, is_newer=False)
        self._until_shared("a0", "b0", "c0")
        self._commit("a0", "b0", "c0")
        self._expect_type("CLASSIC")

    def upgrades(self):
        self._roll(("a0", "b0", "c0"), ("a1", "b1", "c1"), is_newer=True)
        self._expect_type("CONSUMER")

    def downgrades(self):
        self._roll(("a1", "b1", "c1"), ("a2", "b2", "c2"), is_newer=False)
        self._expect_type("CLASSIC")

    def ends(self):
        self._until_all_read(*self._members.values())
        self._commit("a2", "b2", "c2")
        for name in ("a2", "b2", "c2"):
            self._members[name].close()
        self._producer.close()

    def _roll(self, before, after, is_newer):
        there = list(before)
        for at, (old, new) in enumerate(zip(before, after, strict=True)):
            with Traffic(self._send):
                self._come(new, is_newer)
                there.append(new)
                self._until_shared(*there)
                self._members[old].close()
                there.remove(old)
                self._until_shared(*there)
            self._commit(*there)
            if at == 1:
                # Members of both protocols are in the group. Nobody produces: what is sent again could be there twice.
                self._broker.kill()
                self._broker.start()
                self._send()
                self._until_all_read(*self._members.values())
                self._until_shared(*there)
                self._commit(*there)

    def _come(self, name, is_newer):
        command = [*self.client.command(self._tools), "consume", self._broker.address, self._topic, self._group]
        environment = environment_of(self.client, self._tools, is_newer)
        self._members[name] = Member(
            f"{self.client.name}-migration-{name}", command, self._log_folder, self._ledger, self._committed, environment
        )

    def _send(self):
        self._batch += 1
        self._produce(f"batch {self._batch}", "none", 3)

    def _expect_type(self, expected):
        done = subprocess.run(
            [self._tools.python, "-c", TYPE_SCRIPT, self._broker.address], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
        )
        if f"{self._group}: {expected}" not in done.stdout.splitlines():
            raise Failure(f"the group is not of type {expected}: {done.stdout.strip()!r}")


def main():
    arguments = _arguments()
    results = report.Report()
    clients = [client for client in CLIENTS if client.name in arguments.clients]
    parts = {"python"} | {part for client in clients for part in client.parts}
    tools = program.installed(arguments, parts | ({"jars"} if arguments.broker == "kafka" else set()), results)
    if tools is None:
        return results.close()
    folder = program.new_folder(arguments, "migrations")
    for client in clients:
        _run(arguments, tools, folder / client.name, client, results)
    return results.close()


def _arguments():
    names = [client.name for client in CLIENTS]
    parser = program.parser(__doc__)
    parser.add_argument("--client", choices=names, action="append", dest="clients")
    arguments = program.parse(parser)
    arguments.clients = arguments.clients or names
    return arguments


def _run(arguments, tools, folder, client, results):
    with contextlib.ExitStack() as stack:
        try:
            if arguments.broker == "kafka":
                server = broker.Kafka(folder, tools, settings=SETTINGS)
            else:
                settings = [f"{name}={value}" for name, value in SETTINGS.items()]
                server = broker.Odradek(folder, arguments.broker, arguments.driver, arguments.shards, settings)
            stack.callback(server.kill)
            server.start()
        except Failure as failure:
            results.add("broker", "starts", str(failure), 0)
            return
        gate = scenario.RestartGate(1, server.restart)
        scenario.run(Migration(client, tools, server, folder), gate, results)
        started, failure = time.monotonic(), None
        try:
            server.stop()
        except Failure as error:
            failure = str(error)
        results.add("broker", "stops cleanly on SIGTERM", failure, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
