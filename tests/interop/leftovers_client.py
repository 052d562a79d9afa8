#!/usr/bin/env python3
"""What compaction, DeleteRecords and retention leave of topics, and whether another broker serves just that; run by run.py
and takeover.py.

    python leftovers_client.py PART BOOTSTRAP EXPECTED        PART: one of PARTS, at the end

EXPECTED is a file that holds of each partition where it begins and ends and which records it has. Prints for each test a line
of JSON, as client.py does.
"""

import hashlib
import random
import sys
import time

import client
from client import Wrong, equal, in_order
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from kept import kept

COMPACTED, DELETED, RETAINED = (f"{client.OTHERS}{name}" for name in ("compacted", "deleted", "retained"))
SEGMENT = {"segment.bytes": "1048576"}
TOPICS = {
    # A partition for each codec.
    COMPACTED: (len(client.CODECS), {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", **SEGMENT}),
    DELETED: (1, SEGMENT),
    RETAINED: (1, {"retention.bytes": "1048576", **SEGMENT}),
}
# Nothing more is compacted, so that the next broker finds what this one left.
QUIET = {"min.cleanable.dirty.ratio": "1.0", "min.compaction.lag.ms": "604800000"}
KEYS, ROUNDS, SIZE = 50, 6, 10_000
DELETED_BEFORE = 150
PATIENCE_S = 30


def leave(bootstrap, expected):
    in_order(
        ("topics are filled that lose records", fill, bootstrap),
        ("they lose what they have to", lose, bootstrap),
        ("what is left is noted", note, bootstrap, expected),
    )


def fill(bootstrap):
    client._create(AdminClient({"bootstrap.servers": bootstrap}), TOPICS)
    for number, codec in enumerate(client.CODECS):
        positions = [(COMPACTED, number)] + ([(DELETED, 0), (RETAINED, 0)] if codec == "none" else [])
        producer = Producer({
            "bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 5, "enable.idempotence": codec == "zstd",
        })
        failures = []
        for index in range(KEYS * ROUNDS):
            for topic, partition in positions:
                producer.produce(
                    topic, partition=partition, key=f"key {index % KEYS}".encode(), value=random.randbytes(SIZE),
                    on_delivery=lambda error, _: failures.append(error) if error else None,
                )
            producer.poll(0)
        if producer.flush(client.TIMEOUT_S) or failures:
            raise Wrong(f"{codec}: not acknowledged {failures[:1]}")


def lose(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    deleted = admin.delete_records([TopicPartition(DELETED, 0, DELETED_BEFORE)])
    for answer in deleted.values():
        equal("first offset of what is left", answer.result(client.TIMEOUT_S).low_watermark, DELETED_BEFORE)
    _until_still(bootstrap)
    resource = ConfigResource(ConfigResource.Type.TOPIC, COMPACTED, incremental_configs=[
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in QUIET.items()
    ])
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(client.TIMEOUT_S)
    _until_still(bootstrap)


def _until_still(bootstrap):
    """Until compaction and retention have worked on every partition, and nothing more goes."""
    deadline = time.monotonic() + PATIENCE_S
    before = None
    while time.monotonic() < deadline:
        found = facts(bootstrap)
        shrunk = all(len(records) < KEYS * ROUNDS for _, records in found.values())
        if shrunk and found == before:
            return
        before = found
        time.sleep(1)
    sizes = {position: len(records) for position, (_, records) in before.items()}
    raise Wrong(f"after {PATIENCE_S} s there are still {sizes} of {KEYS * ROUNDS} records")


def facts(bootstrap):
    """Of each partition its first offset and its end, and its records: offset, key and digest of the value."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "earliest",
        "enable.partition.eof": True, "fetch.wait.max.ms": 50,
    })
    positions = [(topic, partition) for topic, (count, _) in TOPICS.items() for partition in range(count)]
    found = {}
    for topic, partition in positions:
        ends = consumer.get_watermark_offsets(TopicPartition(topic, partition), client.TIMEOUT_S)
        found[topic, partition] = (ends, [])
    consumer.assign([TopicPartition(*position, ends[0]) for position, (ends, _) in found.items()])
    at_end = set()
    deadline = time.monotonic() + client.TIMEOUT_S
    while len(at_end) < len(positions):
        if time.monotonic() > deadline:
            raise Wrong(f"the ends of {set(positions) - at_end} were not reached")
        for message in consumer.consume(1000, 0.05):
            position = message.topic(), message.partition()
            if message.error() and message.error().name() == "_PARTITION_EOF":
                at_end.add(position)
            elif message.error():
                raise Wrong(f"{position}: {message.error()}")
            else:
                digest = hashlib.sha256(message.value()).hexdigest()
                found[position][1].append((message.offset(), message.key(), digest))
    consumer.close()
    return found


def note(bootstrap, expected):
    expected.update(facts(bootstrap))


def same(bootstrap, expected):
    for position, (ends, records) in facts(bootstrap).items():
        want_ends, want_records = expected[position]
        equal(f"first offset and end of {position}", ends, want_ends)
        equal(f"offsets of {position}", [one[0] for one in records], [one[0] for one in want_records])
        equal(f"records of {position}", records, want_records)


def check(bootstrap, expected):
    in_order(("what compaction, DeleteRecords and retention left is served, and nothing else", same, bootstrap, expected))


PARTS = {"leave": leave, "left": check}


def main():
    part, bootstrap, path = sys.argv[1:]
    with kept(path, {}) as expected:
        PARTS[part](bootstrap, expected)


if __name__ == "__main__":
    main()
