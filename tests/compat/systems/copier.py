"""Apache Kafka's own TransactionalMessageCopier, while its broker is killed: what comes out is what went in, once and in order."""

import random
import time

from harness import Failure

from .running import Program, Topics, until

SOURCE, TARGET = "copier-in", "copier-out"
PARTITIONS = 2
RECORDS = 6000
TRANSACTION_SIZE = 10
KILLS = 4
# From the copying's next step to the kill, so that kills meet every part of a transaction.
PAUSES_S = (0.0, 0.3)
# Each time that a copier gives up, which it does when it was fenced or timed out, another goes on.
STARTS_MAX = 20


def copy(tools, server, folder):
    topics, chance = Topics(tools, server), random.Random(890)
    for topic in (SOURCE, TARGET):
        topics.create(topic, PARTITIONS)
    topics.write(SOURCE, [(f"key-{number}", f"value-{number}") for number in range(RECORDS)])
    wanted = _by_partition(topics.read(SOURCE))
    copiers = [_Copier(tools, server, folder, partition) for partition in range(PARTITIONS)]
    try:
        for copier in copiers:
            copier.start()
        for kill in range(1, KILLS + 1):
            # By progress, not by time: a fast machine is killed as often as a slow one. Markers and aborted records count, too.
            reached = RECORDS * kill // (KILLS + 1)
            until(lambda reached=reached: sum(topics.ends(TARGET).values()) >= reached, f"{reached} records are copied", *copiers)
            time.sleep(chance.uniform(*PAUSES_S))
            if all(copier.is_done() for copier in copiers):
                raise Failure(f"everything was copied before kill {kill} of {KILLS}")
            server.kill()
            server.start()
        until(lambda: all(copier.is_done() for copier in copiers), "the copiers come to their ends")
    finally:
        for copier in copiers:
            copier.kill()
    got = _by_partition(topics.read(TARGET))
    for partition in range(PARTITIONS):
        if got[partition] != wanted[partition]:
            raise Failure(_difference(partition, got[partition], wanted[partition]))


def _by_partition(records):
    values = {partition: [] for partition in range(PARTITIONS)}
    for record in records:
        values[record["partition"]].append((record["key"], record["value"]))
    return values


def _difference(partition, got, wanted):
    at = next((at for at, (one, other) in enumerate(zip(got, wanted, strict=False)) if one != other), min(len(got), len(wanted)))
    return f"partition {partition}: {len(got)} records came of {len(wanted)}; the {at}-th is {got[at:at + 1]}, not {wanted[at:at + 1]}"


class _Copier:
    """Of one partition; it ends when it has copied what was there at its first start."""

    def __init__(self, tools, server, folder, partition):
        self._command = tools.java(
            "-cp", f"{tools.jars}/*", "org.apache.kafka.tools.TransactionalMessageCopier", "--broker-list", server.address,
            "--input-topic", SOURCE, "--input-partition", partition, "--output-topic", TARGET, "--transactional-id", f"copier-{partition}",
            "--consumer-group", f"copiers-{partition}", "--transaction-size", TRANSACTION_SIZE, "--enable-random-aborts",
            "--use-group-metadata", heap_mb=128,
        )
        self._name = f"copier-{partition}"
        self._folder = folder
        self._program = None
        self._starts = 0

    def start(self):
        self._starts += 1
        if self._starts > STARTS_MAX:
            raise Failure(f"{self._name} was started {STARTS_MAX} times and is not done")
        self._program = Program(self._name, self._command, self._folder)

    def is_done(self):
        code = self._program.exit_code()
        if code is not None and code != 0:
            self.start()
        return code == 0

    def check_running(self):
        self.is_done()

    def kill(self):
        if self._program is not None:
            self._program.kill()
