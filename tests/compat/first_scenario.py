#!/usr/bin/env python3
"""The first scenario, as the user wrote it down: a fresh topic, 25 messages, a flush after each, 25 polls of a second.

run.py calls `run`, which starts this file with the venv's Python once for each part; by hand, against any broker:

    python first_scenario.py BOOTSTRAP subscribe|assign|partitions|again|warm-up TOPIC

`subscribe` produces to the topic, which must not exist yet, and reads it back as group1 and as group3; `assign` produces
to it and reads it back by assign and seek. Each reading is exactly 25 calls of `consume(num_messages=1, timeout=1.0)`,
which must give all 25 messages, in order, with their keys and offsets. Exits non-zero, saying why, if not.
`partitions` does so with a topic that may have several, of which the order is not known.
`again` only reads what a `subscribe` before it has produced, as a group of its own.

`warm-up` only joins a group, and is for Apache Kafka: on a fresh directory it takes its first group two to three polls to
come by its partitions (__consumer_offsets is made first), so it would fail its own first scenario. Odradek gets no warm-up.
"""

import subprocess
import sys
import time

MESSAGES = 25
# 25 polls of a second for each of two groups, and the rest.
TIMEOUT_S = 90


def warm_up(tools, bootstrap):
    subprocess.run([tools.python, __file__, bootstrap, "warm-up", "warm-up"], check=True, timeout=TIMEOUT_S)


def run(tools, bootstrap, folder, results):
    """Runs both parts against a broker on which neither topic exists, and adds a result for each."""
    for part, topic, promise in (
        ("subscribe", "some_topic", "25 messages to a new topic, read by group1 and again by group3 in 25 polls each"),
        ("assign", "another_topic", "25 messages to a new topic, read by assign and seek in 25 polls"),
    ):
        started = time.monotonic()
        done = subprocess.run(
            [tools.python, __file__, bootstrap, part, topic], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False,
        )
        (folder / f"first-scenario-{part}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        failure = None if done.returncode == 0 else done.stderr.strip()[-2000:] or f"exit {done.returncode}"
        results.add("first-scenario", promise, failure, time.monotonic() - started)


def produce(bootstrap, topic):
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap})
    for idx in range(0, MESSAGES):
        producer.produce(topic, key=bytes(idx), value=b"Msg %d" % idx)
        producer.flush()


def read(bootstrap, topic, group, subscribe):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"})
    if subscribe:
        consumer.subscribe([topic])
    else:
        tp = TopicPartition(topic=topic, partition=0, offset=0)
        consumer.assign([tp])
        consumer.seek(tp)
    got = []
    for _ in range(MESSAGES):
        msg = consumer.consume(num_messages=1, timeout=1.0)
        if len(msg) > 0:
            print(msg[0].value())
            got.append(msg[0])
    consumer.close()
    check(group, got)


def read_any_order(bootstrap, topic):
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "group1", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    got = [message for _ in range(MESSAGES) for message in consumer.consume(num_messages=1, timeout=1.0)]
    consumer.close()
    told = sorted(message.value() for message in got if not message.error())
    if told != sorted(b"Msg %d" % idx for idx in range(MESSAGES)):
        raise SystemExit(f"{len(told)} of {MESSAGES} messages: {told}")


def check(group, got):
    errors = [message.error() for message in got if message.error()]
    if errors:
        raise SystemExit(f"{group}: {errors[0]}")
    # An empty key is a key of no bytes, not no key.
    told = [(message.key(), message.value(), message.partition(), message.offset()) for message in got]
    want = [(bytes(idx), b"Msg %d" % idx, 0, idx) for idx in range(MESSAGES)]
    if told != want:
        wrong = next((i for i, pair in enumerate(zip(told, want)) if pair[0] != pair[1]), len(told))
        have = told[wrong] if wrong < len(told) else "nothing"
        raise SystemExit(f"{group}: {len(told)} of {MESSAGES} messages; number {wrong} is {have}, not {want[wrong]}")


def join(bootstrap, topic):
    from confluent_kafka import Consumer

    produce(bootstrap, topic)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic})
    consumer.subscribe([topic])
    while not consumer.assignment():
        consumer.poll(0.1)
    consumer.close()


def topics(bootstrap):
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=10).topics


def main():
    bootstrap, part, topic = sys.argv[1:]
    if part == "warm-up":
        join(bootstrap, topic)
        return
    if part == "again":
        read(bootstrap, topic, "group4", subscribe=True)
        return
    if part == "partitions":
        produce(bootstrap, topic)
        read_any_order(bootstrap, topic)
        return
    if topic in topics(bootstrap):
        raise SystemExit(f"{topic} exists already: the scenario is about a topic that does not")
    produce(bootstrap, topic)
    if part == "subscribe":
        read(bootstrap, topic, "group1", subscribe=True)
        read(bootstrap, topic, "group3", subscribe=True)
    else:
        read(bootstrap, topic, "group1", subscribe=False)


if __name__ == "__main__":
    main()
