#!/usr/bin/env python3
"""Fills a topic for each damage, and looks at what is served of it afterwards; run by damages.py.

    python damages_client.py PART BOOTSTRAP EXPECTED        PART: one of PARTS, at the end

Beside EXPECTED, outcomes.txt says of each topic how many records have to be served, and how many are lost behind them. EXPECTED
holds what was served then. Prints for each test a line of JSON, as client.py does.
"""

import pathlib
import sys
import time

import client
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from damage_cases import CASES, RECORDS, name_of
from kept import kept

# Where the log's leader epoch is above the partition's, which grows with each start, nothing is appended.
REFUSING = ("a-later-leader-epoch",)
REFUSAL_TIMEOUT_MS = 1000
# Damage is an error that the client tries again: so long it is let.
PATIENCE_S = 3


def cases(bootstrap, _expected, _folder):
    client.in_order(("a topic is filled for each case", fill, bootstrap))


def fill(bootstrap):
    client._create(AdminClient({"bootstrap.servers": bootstrap}), {name_of(case): (1, {}) for case in CASES})
    producer = Producer({"bootstrap.servers": bootstrap})
    for index in range(RECORDS):
        for case in CASES:
            producer.produce(name_of(case), partition=0, value=f"{case}/{index}".encode() * 20)
        # One batch a record.
        if producer.flush(client.TIMEOUT_S):
            raise client.Wrong("records were not acknowledged")


def told(folder):
    """Of each topic its name, the records that have to be served at first, and how many are lost behind them."""
    for line in (folder / "outcomes.txt").read_text(encoding="utf-8").splitlines():
        name, records, lost = line.split(" ")
        yield name, int(records), int(lost)


def outcomes(bootstrap, expected, folder):
    for name, records, lost in told(folder):
        client.test(f"{name}: what the table says", outcome, bootstrap, expected, name, records, lost > 0)


def outcome(bootstrap, expected, name, records, is_damaged):
    served, damage = consume(bootstrap, name, is_damaged)
    client.equal("records", len(served), records)
    client.equal("damage behind them", damage, is_damaged)
    expected[name] = served


def consume(bootstrap, name, is_damaged):
    """The (offset, value) of the records up to the end, or to what is damaged."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "earliest",
        "enable.partition.eof": True, "fetch.wait.max.ms": 50,
    })
    consumer.assign([TopicPartition(name, 0, 0)])
    served, damage = [], False
    deadline = time.monotonic() + (PATIENCE_S if is_damaged else client.TIMEOUT_S)
    while time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is None:
            damage = is_damaged
            continue
        if message.error() and message.error().name() == "_PARTITION_EOF":
            damage = False
            break
        if message.error():
            damage = True
            break
        served.append((message.offset(), message.value()))
    else:
        if not is_damaged:
            raise client.Wrong("the end was not reached")
    consumer.close()
    return served, damage


def append(bootstrap, expected, folder):
    for name, records, lost in told(folder):
        records = RECORDS - lost if lost else records
        client.test(
            f"{name}: takes records again, or says that it does not", append_one, bootstrap, expected, name, records
        )


def append_one(bootstrap, expected, name, records):
    answers = []
    timeout_ms = REFUSAL_TIMEOUT_MS if name in REFUSING else client.TIMEOUT_S * 1000
    producer = Producer({"bootstrap.servers": bootstrap, "message.timeout.ms": timeout_ms})
    producer.produce(name, partition=0, value=b"later", on_delivery=lambda *answer: answers.append(answer))
    producer.flush(client.TIMEOUT_S)
    (error, message), = answers
    client.equal("whether a record is taken", error is None, name not in REFUSING)
    served, _ = consume(bootstrap, name, False)
    client.equal("records that were served before", served[:len(expected[name])], expected[name])
    later = [(message.offset(), b"later")] if error is None else []
    client.equal("records", len(served), records + len(later))
    client.equal("the last record", served[records:], later)
    expected[name] = served


def mended(bootstrap, expected, _folder):
    for name, records in expected.items():
        client.test(f"{name}: Apache Kafka serves the same", same, bootstrap, name, records)


def same(bootstrap, name, records):
    client.equal("records", consume(bootstrap, name, False)[0], records)


PARTS = {"cases": cases, "outcomes": outcomes, "append": append, "mended": mended}


def main():
    part, bootstrap, path = sys.argv[1:]
    with kept(path, {}) as expected:
        PARTS[part](bootstrap, expected, pathlib.Path(path).parent)


if __name__ == "__main__":
    main()
