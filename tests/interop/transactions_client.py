#!/usr/bin/env python3
"""Transactions on a broker, and whether another one serves what became of them; run by takeover.py.

    python transactions_client.py PART BOOTSTRAP EXPECTED        PART: one of PARTS, at the end

EXPECTED is a file that holds each record's digest and transaction, what became of each transaction, and where the partitions
end. Prints for each test a line of JSON, as client.py does.
"""

import hashlib
import os
import random
import sys

import client
from client import Wrong, equal, in_order
from confluent_kafka import IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from kept import kept

TOPIC = f"{client.OTHERS}transactions"
PARTITIONS = (0, 1)
# The least that Apache Kafka takes: a few megabytes fill several.
SETTINGS = {"segment.bytes": "1048576"}
ROUNDS, RECORDS, SIZE = 10, 6, 20_000
LEVELS = {"read_committed": IsolationLevel.READ_COMMITTED, "read_uncommitted": IsolationLevel.READ_UNCOMMITTED}
# So long that no coordinator aborts what is left open.
TIMEOUT_MS = 900_000


class Transactional:
    """A producer with a transactional id that tells apart what it sent in which transaction."""

    def __init__(self, bootstrap, expected, name, codec):
        self.expected = expected
        self.producer = Producer({
            "bootstrap.servers": bootstrap, "transactional.id": name, "transaction.timeout.ms": TIMEOUT_MS,
            "compression.type": codec, "linger.ms": 1, "message.max.bytes": 1_000_000,
        })
        self.producer.init_transactions(client.TIMEOUT_S)

    def begin(self):
        self.producer.begin_transaction()
        self.number = len(self.expected["fates"])
        self.expected["fates"].append("open")

    def send(self, partitions=PARTITIONS, count=RECORDS):
        send(self.producer, self.expected, self.number, partitions, count)

    def end(self, fate):
        (self.producer.commit_transaction if fate == "commit" else self.producer.abort_transaction)(client.TIMEOUT_S)
        self.expected["fates"][self.number] = fate


def send(producer, expected, transaction, partitions, count):
    """Sends records and waits for them, so that batches of several producers alternate."""

    def told(error, message):
        if error:
            raise KafkaException(error)
        digest = hashlib.sha256(message.value()).digest()
        expected["records"][message.partition()][message.offset()] = (digest, transaction)

    for partition in partitions:
        for _ in range(count):
            # Incompressible, so that the segments are full whatever the codec.
            producer.produce(TOPIC, partition=partition, key=b"key", value=random.randbytes(SIZE), on_delivery=told)
    if producer.flush(client.TIMEOUT_S):
        raise Wrong("records were not acknowledged")


def begin(bootstrap, expected):
    in_order(("transactions are committed, aborted and left open", transact, bootstrap, expected, "c", PARTITIONS[1:], ROUNDS))


def more(bootstrap, expected):
    in_order(("more of them, with another one open", transact, bootstrap, expected, "d", PARTITIONS[:1], 3))


def transact(bootstrap, expected, left_open, where, rounds):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if not expected:
        client._create(admin, {TOPIC: (len(PARTITIONS), SETTINGS)})
        client._until(lambda: TOPIC in admin.list_topics(timeout=client.TIMEOUT_S).topics, "know the topic")
        expected.update(records={partition: {} for partition in PARTITIONS}, fates=[], ends={})
    one, other = Transactional(bootstrap, expected, "a", "none"), Transactional(bootstrap, expected, "b", "lz4")
    open_one = Transactional(bootstrap, expected, left_open, "zstd")
    # Its end is this program's: nothing ends its transaction.
    transact.left_open = open_one
    plain = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number in range(rounds):
        one.begin()
        one.send()
        other.begin()
        if number == rounds - 2:
            open_one.begin()
            open_one.send(where, 2)
        other.send()
        send(plain, expected, None, PARTITIONS, 1)
        if number % 2 == 0:
            one.send(count=1)
        one.end("commit" if number % 3 else "abort")
        other.send(count=1)
        other.end("abort" if number % 4 == 1 else "commit")
    # Their end is known; where the markers lie, the broker that wrote them says.
    note_ends(bootstrap, expected)
    same(bootstrap, expected)


def ends_of(bootstrap, level):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = {TopicPartition(TOPIC, partition): OffsetSpec.latest() for partition in PARTITIONS}
    answers = admin.list_offsets(wanted, isolation_level=LEVELS[level])
    return {position.partition: answer.result(client.TIMEOUT_S).offset for position, answer in answers.items()}


def note_ends(bootstrap, expected):
    """Where the logs end: once the markers are there, which follow the answer to who has ended a transaction."""
    def are_there():
        expected["ends"] = ends_of(bootstrap, "read_uncommitted")
        return ends_of(bootstrap, "read_committed") == {partition: last_stable(expected, partition) for partition in PARTITIONS}

    client._until(are_there, "have the markers of all that has ended")


def last_stable(expected, partition):
    open_ones = [offset for offset, (_, transaction) in expected["records"][partition].items()
                 if transaction is not None and expected["fates"][transaction] == "open"]
    return min(open_ones, default=expected["ends"][partition])


def seen(expected, level, partition):
    """What a consumer has to see: offsets and digests."""
    end = last_stable(expected, partition) if level == "read_committed" else expected["ends"][partition]
    is_seen = lambda transaction: (  # noqa: E731
        level == "read_uncommitted" or transaction is None or expected["fates"][transaction] == "commit"
    )
    records = expected["records"][partition]
    return [(offset, records[offset][0]) for offset in sorted(records) if offset < end and is_seen(records[offset][1])]


def same(bootstrap, expected):
    for level in LEVELS:
        stable = {partition: last_stable(expected, partition) for partition in PARTITIONS}
        want = stable if level == "read_committed" else expected["ends"]
        equal(f"ends for {level}", ends_of(bootstrap, level), want)
        wanted = {(TOPIC, partition): seen(expected, level, partition) for partition in PARTITIONS}
        read = client.read(bootstrap, {position: len(records) for position, records in wanted.items()}, level)
        for position, records in wanted.items():
            got = [(record.offset, hashlib.sha256(record.value).digest()) for record in read[position]]
            equal(f"offsets for {level} of {position}", [offset for offset, _ in got], [offset for offset, _ in records])
            equal(f"records for {level} of {position}", got, records)


def check(bootstrap, expected):
    in_order(("consumers see of every transaction what became of it", same, bootstrap, expected))


def add(bootstrap, expected):
    in_order(
        ("records are added behind transactions", add_plain, bootstrap, expected),
        ("what was added is where transactions let it be seen", same, bootstrap, expected),
    )


def add_plain(bootstrap, expected):
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    send(producer, expected, None, PARTITIONS, 60)
    for partition in PARTITIONS:
        expected["ends"][partition] += 60


def end(bootstrap, expected):
    in_order(
        ("consumers see of every transaction what became of it", same, bootstrap, expected),
        ("the transactions that were left open end, and others follow", end_open, bootstrap, expected),
    )


def end_open(bootstrap, expected):
    open_ones = sum(fate == "open" for fate in expected["fates"])
    for name in ("c", "d")[:open_ones]:
        # Whoever comes with its id ends what its last owner left.
        Transactional(bootstrap, expected, name, "none")
    expected["fates"] = ["abort" if fate == "open" else fate for fate in expected["fates"]]
    for fate in ("abort", "commit"):
        one = Transactional(bootstrap, expected, "a", "gzip")
        one.begin()
        one.send(count=2)
        one.end(fate)
    note_ends(bootstrap, expected)
    same(bootstrap, expected)


PARTS = {"transact": begin, "transact-more": more, "transactions": check, "transactions-add": add, "transactions-end": end}


def main():
    part, bootstrap, path = sys.argv[1:]
    with kept(path, {}) as expected:
        PARTS[part](bootstrap, expected)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
