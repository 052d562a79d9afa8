"""Transactions that are open, of which another program then writes how they end; and what has to become of them.

    python prepared_client.py PART BOOTSTRAP EXPECTED        PART: one of PARTS, at the end

EXPECTED is a file that holds what became of every transaction, from broker to broker. Prints for each test a line of JSON, as
client.py does. Run by prepared.py.
"""

import os
import sys

import client
from client import in_order
from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from exactly_once_client import INPUT, TIMEOUT_S, TOPIC, all_stable, create, ends, flat, producer, read
from kept import kept
from prepared_cases import DECIDED, OPEN


def prepare(bootstrap, expected):
    in_order(("transactions are left open, with records and offsets", leave_open, bootstrap, expected))


def leave_open(bootstrap, expected):
    create(bootstrap, TOPIC, INPUT)
    expected["round"] += 1
    leave_open.kept = []
    for name in [*DECIDED, OPEN]:
        made = producer(bootstrap, name)
        made.begin_transaction()
        # The open one alone holds a partition back.
        values = [f"{name}-{expected['round']}-{number}" for number in range(4)]
        send_to(made, TOPIC, [2] if name == OPEN else [0, 1], values)
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"group-{name}"})
        made.send_offsets_to_transaction([TopicPartition(INPUT, 0, expected["round"])], consumer.consumer_group_metadata(), TIMEOUT_S)
        expected["left"][name] = values
        # Its end is this program's: nothing ends its transaction.
        leave_open.kept += [made, consumer]


def send_to(made, topic, partitions, values):
    failed = []
    for number, value in enumerate(values):
        made.produce(
            topic, partition=partitions[number % len(partitions)], value=value, on_delivery=lambda error, _: error and failed.append(error)
        )
    made.flush(TIMEOUT_S)
    if failed:
        raise KafkaException(failed[0])


def prepared(bootstrap, expected):
    in_order(
        ("what was decided to be committed is seen, what was to be aborted is not, and the open one is open", ended, bootstrap, expected),
        ("the producers of all of them come back and go on", go_on, bootstrap, expected),
    )


def ended(bootstrap, expected):
    committed = [name for name, (outcome, _) in DECIDED.items() if outcome == "commit"]
    seen = [value for name in committed for value in expected["left"][name]]

    def stable():
        both = [ends(bootstrap, TOPIC, level) for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)]
        return [both[0][partition] == both[1][partition] for partition in range(3)]

    client._until(lambda: all(stable()[:2]), "end what was decided to end")
    client.equal("the partitions without an open transaction", stable(), [True, True, False])
    expected["committed"] += seen
    client.equal("committed records", [one.decode() for one in flat(read(bootstrap, TOPIC))], sorted(expected["committed"]))
    for name in DECIDED:
        if name in committed:
            expected["offsets"][name] = expected["round"]
        client.equal(f"the offset of group-{name}", offset_of(bootstrap, name), expected["offsets"].get(name))


def offset_of(bootstrap, name):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"group-{name}"})
    [position] = consumer.committed([TopicPartition(INPUT, 0)], TIMEOUT_S)
    consumer.close()
    return position.offset if position.offset >= 0 else None


def go_on(bootstrap, expected):
    for name in [*DECIDED, OPEN]:
        made = producer(bootstrap, name)
        made.begin_transaction()
        values = [f"{name}-{expected['round']}-again-{number}" for number in range(3)]
        send_to(made, TOPIC, [0, 1, 2], values)
        made.commit_transaction(TIMEOUT_S)
        expected["committed"] += values
    client._until(lambda: all_stable(bootstrap, TOPIC), "end what was left open")
    client.equal("committed records", [one.decode() for one in flat(read(bootstrap, TOPIC))], sorted(expected["committed"]))


PARTS = {"prepare": prepare, "prepared": prepared}


def main():
    part, bootstrap, path = sys.argv[1:]
    with kept(path, {"committed": [], "left": {}, "offsets": {}, "round": 0}) as expected:
        PARTS[part](bootstrap, expected)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
