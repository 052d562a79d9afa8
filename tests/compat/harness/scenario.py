"""The scenario that every client goes through: issue's "produce, consume by a group that rebalances, commit, restart, resume".

The steps of one client run one after the other; clients run side by side on one broker, each with its own topic and groups.
`RestartGate` is where they meet: when all that still run have come to it, the broker is stopped and started once.
"""

import contextlib
import threading
import time

from . import Failure
from . import records as records_module
from .clients import environment_of
from .process import STEP_TIMEOUT_S, Alone, Member, Producer

PARTITIONS = 6
POLL_S = 0.02
# How many records are read from where a client has sought to.
SOUGHT = 5
HOUR_MS = 3_600_000


class RestartGate:
    """A barrier that a client can also leave for good; the last to come restarts the broker for all."""

    def __init__(self, count, restart):
        self._restart = restart
        self._running = count
        self._waiting = 0
        self._changed = threading.Condition()
        self._done = False
        self._failure = None

    def pass_through(self):
        with self._changed:
            self._waiting += 1
            self._restart_if_last()
            while not self._done:
                self._changed.wait()
            if self._failure:
                raise Failure(f"the broker was not restarted: {self._failure}")

    def leave(self):
        with self._changed:
            self._running -= 1
            self._restart_if_last()

    def _restart_if_last(self):
        if self._done or self._waiting == 0 or self._waiting < self._running:
            return
        try:
            self._restart()
        except Failure as failure:
            self._failure = failure
        self._done = True
        self._changed.notify_all()


class Scenario:
    """One client's way through the steps. `close` kills what is left of its processes."""

    def __init__(self, client, tools, broker, gate, log_folder):
        self.client = client
        self._tools = tools
        self._broker = broker
        self._gate = gate
        self._log_folder = log_folder
        self._topic = f"compat-{client.name}"
        self._other = f"other-{client.name}"
        self._group = f"group-{client.name}"
        self._ledger = records_module.Ledger(PARTITIONS)
        self._committed = {} if client.commits_on_demand else None
        self._producer = None
        self._members = {}
        self._survivor = None
        self._alone = None
        self._at_restart = None

    def steps(self):
        steps = [
            ("creates a topic and produces with every codec, acknowledged at the right offsets", self.produces),
            ("two members share the partitions and read what was produced", self.two_members_read),
            ("a third member joins under load: partitions shared anew, nothing lost", self.third_joins),
            ("a member leaves under load: partitions shared anew, nothing lost", self.one_leaves),
            ("commits what it has read", self.commits),
            ("produces and consumes on, in the same processes, after the broker's restart", self.survives_restart),
            ("a new member resumes at the committed offsets and gets exactly the rest", self.resumes),
        ]
        if self.client.seeks:
            steps.append(("seeks by time: is told the right offset and reads from there", self.seeks_by_time))
        if self.client.admin is not None:
            calls = [call for call in ("alters the settings of", "is told the settings of") if call in self.client.admin]
            name = ", ".join(["creates", "lists", "describes", "deletes", *calls]) + " a topic"
            steps.append((name, self.administers))
        return steps

    def produces(self):
        self._producer = self._start(Producer, "producer", "produce")
        self._producer.create(PARTITIONS)
        self._broker.settle(self._topic)
        for codec in self.client.codecs:
            self._produce("first", codec, 10)

    def two_members_read(self):
        self._join("a")
        self._join("b")
        self._until_shared("a", "b")
        self._until_all_read(*self._members.values())
        self._commit("a", "b")

    def third_joins(self):
        self._join("c")
        self._produce("joining", self.client.codecs[-1], 20)
        self._until_shared("a", "b", "c")
        self._produce("joined", "none", 10)
        self._until_all_read(*self._members.values())

    def one_leaves(self):
        self._members["b"].close()
        self._produce("leaving", self.client.codecs[-1], 20)
        self._until_shared("a", "c")
        self._produce("left", "none", 10)
        self._until_all_read(*self._members.values())

    def commits(self):
        self._commit("a", "c")
        for name in ("a", "c"):
            self._members[name].close()
        self._at_restart = self._ledger.ends()

    def survives_restart(self):
        committed = {} if self.client.commits_on_demand else None
        self._survivor = self._start_member("survivor", f"{self._group}-survivor", committed)
        self._produce("before the restart", "gzip", 15)
        self._until_all_read(self._survivor)
        self._gate.pass_through()
        self._produce("after the restart", "none", 15)
        self._until_all_read(self._survivor)
        self._survivor.close()
        self._producer.close()

    def resumes(self):
        member = self._join("d")
        rest = {
            partition: list(range(self._at_restart[partition], end)) for partition, end in self._ledger.ends().items()
        }
        count = sum(map(len, rest.values()))
        self._until(lambda: len(self._received(member)) >= count, f"give the new member the {count} records that are left")
        member.close()
        got = {partition: [] for partition in rest}
        for partition, offset in self._received(member):
            got[partition].append(offset)
        for partition, offsets in rest.items():
            if got[partition] != offsets:
                raise Failure(f"partition {partition}: expected exactly offsets {offsets}, got {got[partition]}")

    def seeks_by_time(self):
        alone = self._start_alone()
        for partition, end in list(self._ledger.ends().items())[:2]:
            timestamp = self._ledger.timestamp(partition, end // 2)
            expected = self._ledger.first_since(partition, timestamp)
            offset, read = alone.seek(partition, timestamp, SOUGHT)
            if offset != expected:
                raise Failure(f"partition {partition}: the time {timestamp} is at offset {expected}, it was told {offset}")
            if len(read) < SOUGHT or read != [(partition, expected + i) for i in range(len(read))]:
                raise Failure(f"partition {partition}: sought offset {expected}, and read {read}")
        offset, read = alone.seek(0, int(time.time() * 1000) + HOUR_MS, SOUGHT)
        if offset is not None or read:
            raise Failure(f"in an hour there is no record, but it was told {offset} and read {read}")
        if self.client.admin is None:
            alone.close()

    def administers(self):
        alone, name, setting = self._start_alone(), self._other, "retention.ms"
        told = "is told the settings of" in self.client.admin
        self._expect("topics before", name in alone.list(), False)
        alone.create(3, {setting: str(HOUR_MS)} if told else {})
        self._broker.settle(name)
        self._expect("topics", name in alone.list(), True)
        partitions, settings = alone.describe(*([setting] if told else []))
        self._expect("partitions", partitions, 3)
        if told:
            self._expect("settings", settings, {setting: str(HOUR_MS)})
        if "alters the settings of" in self.client.admin:
            alone.alter({setting: str(2 * HOUR_MS)})
            altered = {setting: str(2 * HOUR_MS)}
            self._until(lambda: alone.describe(setting)[1] == altered, f"find the settings {altered}, which it has set")
        alone.delete()
        self._until(lambda: name not in alone.list(), "find the topic gone")
        alone.close()

    @staticmethod
    def _expect(what, got, want):
        if got != want:
            raise Failure(f"{what}: expected {want}, got {got}")

    def close(self):
        for process in [self._producer, self._survivor, self._alone, *self._members.values()]:
            if process is not None:
                process.kill()

    def _start(self, kind, name, role, *more, **options):
        command = [*self.client.command(self._tools), role, self._broker.address, self._topic, *more]
        environment = environment_of(self.client, self._tools, self.client.is_newer)
        return kind(f"{self.client.name}-{name}", command, self._log_folder, environment=environment, **options)

    def _start_member(self, name, group, committed):
        return self._start(Member, name, "consume", group, ledger=self._ledger, committed=committed)

    def _start_alone(self):
        if self._alone is None:
            self._alone = self._start(Alone, "alone", "alone", self._other, ledger=self._ledger)
        return self._alone

    def _join(self, name):
        self._members[name] = self._start_member(name, self._group, self._committed)
        return self._members[name]

    def _produce(self, stage, codec, count):
        now = int(time.time() * 1000)
        records = records_module.make(stage, codec, PARTITIONS, count, now, self.client.abilities)
        self._producer.produce(codec, records, self._ledger.enter(records))

    def _commit(self, *names):
        """Commits by each of the members, which together own all partitions, when they have read to every end.
        A client that commits by itself is left to it: what its members read is committed when they close."""
        if not self.client.commits_on_demand:
            return

        def owners_at_end():
            positions = {}
            for name in names:
                member = self._members[name]
                position = member.positions()
                positions |= {partition: position.get(partition) for partition in member.assignment}
            return positions == self._ledger.ends()

        while True:
            self._until(owners_at_end, "read to the end in every partition that it owns")
            seen = self._count_received(*names)
            committed = {}
            for name in names:
                committed |= self._members[name].commit()
            if committed == self._ledger.ends():
                return
            # After a rebalance a member may read again what it has read to the end before, and is told to commit on its way.
            if self._count_received(*names) == seen:
                raise Failure(f"committed offsets are {committed}, everything read is {self._ledger.ends()}")

    def _count_received(self, *names):
        return sum(len(self._received(self._members[name])) for name in names)

    @staticmethod
    def _received(member):
        member.check_running()
        return list(member.received)

    def _missing(self, *members):
        return self._ledger.all_positions().difference(*(self._received(member) for member in members))

    def _until_all_read(self, *members):
        def told():
            missing = sorted(self._missing(*members))
            return f"read everything: {len(missing)} records are missing, the first are {missing[:6]}"

        self._until(lambda: not self._missing(*members), told)

    def _until_shared(self, *names):
        """Until the members' assignments are a partition of the topic's partitions, shared out evenly."""

        def assignments():
            for name in names:
                self._members[name].check_running()
            return {name: self._members[name].assignment for name in names}

        def shared():
            parts = [part for part in assignments().values() if part is not None]
            sizes = [len(part) for part in parts]
            return (
                len(parts) == len(names)
                and sum(sizes) == PARTITIONS
                and frozenset().union(*parts) == frozenset(range(PARTITIONS))
                and max(sizes) - min(sizes) <= 1
            )

        def told():
            return ", ".join(f"{name}: {sorted(part or ())}" for name, part in assignments().items())

        self._until(shared, lambda: f"share the {PARTITIONS} partitions, assignments are {told()}")

    def _until(self, condition, what):
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                text = what() if callable(what) else what
                raise Failure(f"{self.client.name} did not, within {STEP_TIMEOUT_S} s, {text}")
            time.sleep(POLL_S)


def run(scenario, gate, report):
    """Takes the scenario through its steps; a step that fails fails those behind it too. Always leaves the gate."""
    failed = False
    with contextlib.ExitStack() as stack:
        stack.callback(scenario.close)
        stack.callback(gate.leave)
        for name, step in scenario.steps():
            started = time.monotonic()
            failure = None
            if failed:
                failure = "not reached"
            else:
                try:
                    step()
                except Failure as error:
                    failure, failed = str(error), True
            report.add(scenario.client.name, name, failure, time.monotonic() - started)
