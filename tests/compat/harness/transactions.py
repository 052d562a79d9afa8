"""What every client with transactions goes through: commits, aborts, offsets in transactions, fencing, and a broker that is killed.

The steps of one client run one after the other; clients run side by side on one broker, and meet where it is killed (`gate`,
scenario.py's). The protocol between this and the clients is process.py's, role `transact`. What has been committed and
sent is kept here; after the steps that change it a client of the same kind reads the topic, with both isolation levels.
"""

from . import Failure
from .clients import environment_of
from .process import Transactor

PARTITIONS = 3
SOURCE_COUNT = 12


class Steps:
    """One client's way through the steps. `close` kills what is left of its processes."""

    def __init__(self, client, tools, broker, topics, gate, log_folder):
        self.client = client
        self._tools = tools
        self._broker = broker
        self._topics = topics
        self._gate = gate
        self._log_folder = log_folder
        self._topic = f"transactions-{client.name}"
        self._source = f"source-{client.name}"
        self._group = f"copies-{client.name}"
        self._processes = []
        self._transactor = None
        self._reads = 0
        # By partition in order.
        self._sent = {partition: [] for partition in range(PARTITIONS)}
        self._committed = {partition: [] for partition in range(PARTITIONS)}

    def steps(self):
        return [
            ("what it commits is seen, what it aborts is not", self.commits_and_aborts),
            ("the group's offsets move with the transactions that they are in", self.copies),
            ("a producer that comes with the same id fences the one before", self.fences),
            ("a transaction goes on, and ends, over kill -9 of the broker", self.survives_kill),
        ]

    def commits_and_aborts(self):
        for topic in (self._topic, self._source):
            self._topics.create(topic, PARTITIONS)
        self._transactor = self._start("one")
        for number in range(6):
            self._transactor.begin()
            # In two parts, so that the second finds the partitions in the transaction already.
            values = [self._send(self._transactor, f"basic-{number}-{part}") for part in range(2)]
            self._end(self._transactor, "abort" if number % 3 == 1 else "commit", *values)
        self._check()

    def copies(self):
        self._transactor.begin()
        written = [(number % PARTITIONS, f"source-{number}") for number in range(SOURCE_COUNT)]
        self._transactor.send(self._source, written)
        self._end(self._transactor, "commit")
        half, seen = SOURCE_COUNT // 2, []
        for outcome in ("abort", "commit", "commit"):
            self._transactor.begin()
            copied = self._transactor.copy(self._source, self._group, half)
            self._note_sent(copied)
            self._end(self._transactor, outcome, copied)
            if outcome == "commit":
                seen += copied
            committed = sum(offset for offset in self._topics.committed(self._group, self._source).values() if offset > 0)
            if committed != len(seen):
                raise Failure(f"the group's offsets tell of {committed} records, {len(seen)} were copied in committed transactions")
        if sorted(seen) != sorted(written):
            raise Failure(f"copied in committed transactions: {sorted(seen)}, and {sorted(written)} was to be copied")
        self._check()

    def fences(self):
        self._transactor.begin()
        self._send(self._transactor, "fenced")
        second = self._start("two")
        # There are clients that initialise their ids with their first transactions.
        second.begin()
        if not self._transactor.is_fenced_when_it_commits():
            raise Failure("the producer that was there before has committed")
        self._transactor.kill()
        self._transactor = second
        self._end(second, "commit", self._send(second, "fencing"))
        self._check()

    def survives_kill(self):
        self._transactor.begin()
        values = [self._send(self._transactor, "before the kill")]
        self._gate.pass_through()
        values.append(self._send(self._transactor, "after the kill"))
        self._end(self._transactor, "commit", *values)
        self._check()
        self._transactor.close()

    def close(self):
        for process in self._processes:
            process.kill()

    def _start(self, name):
        command = [*self.client.command(self._tools), "transact", self._broker.address, self._topic, f"id-{self.client.name}"]
        environment = environment_of(self.client, self._tools, self.client.is_newer)
        process = Transactor(f"{self.client.name}-{name}", command, self._log_folder, environment=environment)
        self._processes.append(process)
        process.wait_until_ready()
        return process

    def _send(self, transactor, name):
        values = [(partition, f"{name}-{number}") for partition in range(PARTITIONS) for number in range(3)]
        transactor.send(self._topic, values)
        self._note_sent(values)
        return values

    def _note_sent(self, values):
        for partition, value in values:
            self._sent[partition].append(value)

    def _end(self, transactor, outcome, *values):
        transactor.end(outcome)
        if outcome == "commit":
            for partition, value in (one for some in values for one in some):
                self._committed[partition].append(value)

    def _check(self):
        """A consumer of either level reads up to the records of a last transaction, and has seen what it was to see."""
        self._reads += 1
        last = f"last-{self._reads}"
        values = [(partition, last) for partition in range(PARTITIONS)]
        self._transactor.begin()
        self._transactor.send(self._topic, values)
        self._note_sent(values)
        self._end(self._transactor, "commit", values)
        for level, wanted in (("read_committed", self._committed), ("read_uncommitted", self._sent)):
            got = self._transactor.read(level, PARTITIONS, last)
            for partition in range(PARTITIONS):
                if got[partition] != wanted[partition]:
                    raise Failure(f"partition {partition}, {level}: read {got[partition]}, and it is {wanted[partition]}")
