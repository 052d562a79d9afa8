"""Exactly once: transactional producers, consumers of committed records, and programs that read, change and write on.

    python exactly_once_client.py PART BOOTSTRAP EXPECTED        PART: one of PARTS, at the end

EXPECTED is a file that holds what became of every transaction, from broker to broker. Prints for each test a line of JSON, as
client.py does. Run by exactly_once.py.
"""

import collections
import os
import random
import sys
import threading
import time

import client
from client import Wrong, equal, in_order
from confluent_kafka import Consumer, IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from kept import kept

TOPIC, INPUT, OUTPUT, STORM = "once", "once-in", "once-out", "once-storm"
PARTITIONS = 3
TIMEOUT_S = client.TIMEOUT_S
# Long enough that no coordinator aborts what is left open on purpose.
LONG_MS, SHORT_MS = 600_000, (1500, 6000, 24_000)
INPUTS, WORKERS, CHUNK = 240, 2, 20
STORM_S = 12


def producer(bootstrap, name, timeout_ms=LONG_MS, **more):
    made = Producer({
        "bootstrap.servers": bootstrap, "transactional.id": name, "transaction.timeout.ms": timeout_ms, "linger.ms": 1, **more,
    })
    made.init_transactions(TIMEOUT_S)
    return made


def create(bootstrap, *topics):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for name, future in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).items():
        try:
            future.result(TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise
    client._until(lambda: set(topics) <= set(admin.list_topics(timeout=TIMEOUT_S).topics), "know the topics")


def send(made, topic, values, errors=None):
    """Sends each value to a partition by its number, and waits."""
    def told(error, _message):
        if error:
            (errors if errors is not None else failed).append(error)

    failed = []
    for value in values:
        number = int(value.rsplit(b"-", 1)[1])
        made.produce(topic, partition=number % PARTITIONS, key=b"k", value=value, on_delivery=told)
    made.flush(TIMEOUT_S)
    if failed:
        raise KafkaException(failed[0])


def values(name, count=6):
    return [b"%s-%d" % (name.encode(), number) for number in range(count)]


def ends(bootstrap, topic, level):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(PARTITIONS)}
    answers = admin.list_offsets(wanted, isolation_level=level)
    return {position.partition: answer.result(TIMEOUT_S).offset for position, answer in answers.items()}


def read(bootstrap, topic, level="read_committed"):
    """All values of a topic that a consumer of this level may see now, by partition in order."""
    isolation = IsolationLevel.READ_COMMITTED if level == "read_committed" else IsolationLevel.READ_UNCOMMITTED
    to = ends(bootstrap, topic, isolation)
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "reader", "isolation.level": level, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "enable.partition.eof": True,
    })
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    got, done = {partition: [] for partition in range(PARTITIONS)}, set()
    deadline = time.monotonic() + TIMEOUT_S
    while len(done) < PARTITIONS:
        if time.monotonic() > deadline:
            raise Wrong(f"{topic}: read {got} up to {to} in {TIMEOUT_S} s")
        for message in consumer.consume(num_messages=500, timeout=0.2):
            if message.error():
                if message.error().name() != "_PARTITION_EOF":
                    raise KafkaException(message.error())
                if message.offset() >= to[message.partition()]:
                    done.add(message.partition())
                continue
            got[message.partition()].append(message.value())
    consumer.close()
    return got


def flat(got):
    return sorted(value for part in got.values() for value in part)


# Transactions, one after the other


def basics(bootstrap, expected):
    in_order(
        ("topics are made", create, bootstrap, TOPIC, INPUT, OUTPUT, STORM),
        ("committed transactions are seen, and no other", commit_and_abort, bootstrap, expected),
        ("a producer that comes with the same id fences the one before", fence, bootstrap, expected),
        ("what its producer leaves open is aborted when its time is up", time_out, bootstrap, expected),
        ("what is read, changed and written in transactions is written once", transform, bootstrap, expected),
    )


def commit_and_abort(bootstrap, expected):
    made = producer(bootstrap, "one")
    other = producer(bootstrap, "two")
    for number in range(12):
        one, two = values(f"one{number}"), values(f"two{number}")
        made.begin_transaction()
        send(made, TOPIC, one[:3])
        other.begin_transaction()
        send(other, TOPIC, two)
        send(made, TOPIC, one[3:])
        if number % 3 == 1:
            made.abort_transaction(TIMEOUT_S)
        else:
            made.commit_transaction(TIMEOUT_S)
            expected["committed"] += one
        if number % 4 == 2:
            other.abort_transaction(TIMEOUT_S)
        else:
            other.commit_transaction(TIMEOUT_S)
            expected["committed"] += two
        expected["sent"] += one + two
    # One without a record, either way.
    made.begin_transaction()
    made.commit_transaction(TIMEOUT_S)
    made.begin_transaction()
    made.abort_transaction(TIMEOUT_S)
    same(bootstrap, expected)


def same(bootstrap, expected):
    equal("committed records", flat(read(bootstrap, TOPIC)), sorted(expected["committed"]))
    equal("all records", flat(read(bootstrap, TOPIC, "read_uncommitted")), sorted(expected["sent"]))


def fence(bootstrap, expected):
    first = producer(bootstrap, "fenced")
    first.begin_transaction()
    lost = values("fenced")
    send(first, TOPIC, lost)
    expected["sent"] += lost
    second = producer(bootstrap, "fenced")
    try:
        first.commit_transaction(TIMEOUT_S)
    except KafkaException as error:
        if not error.args[0].fatal():
            raise Wrong(f"fenced by {error}, which is not fatal") from None
    else:
        raise Wrong("the fenced producer has committed")
    second.begin_transaction()
    kept = values("fencing")
    send(second, TOPIC, kept)
    second.commit_transaction(TIMEOUT_S)
    expected["sent"] += kept
    expected["committed"] += kept
    same(bootstrap, expected)


def time_out(bootstrap, expected):
    # A slow machine may need longer for the looks than the first limits leave.
    for limit_ms in SHORT_MS:
        if time_out_after(limit_ms, bootstrap, expected):
            return
    raise Wrong(f"nothing could be seen within {SHORT_MS[-1]} ms")


def time_out_after(limit_ms, bootstrap, expected):
    """Whether the open transaction was looked at before its time was up."""
    late = producer(bootstrap, "late", limit_ms)
    begun = time.monotonic()
    late.begin_transaction()
    lost = values("late")
    send(late, TOPIC, lost)
    expected["sent"] += lost
    behind = producer(bootstrap, "behind")
    behind.begin_transaction()
    kept = values("behind")
    send(behind, TOPIC, kept)
    behind.commit_transaction(TIMEOUT_S)
    expected["sent"] += kept
    expected["committed"] += kept
    end = ends(bootstrap, TOPIC, IsolationLevel.READ_UNCOMMITTED)
    held_back = ends(bootstrap, TOPIC, IsolationLevel.READ_COMMITTED) != end
    in_time = time.monotonic() - begun < limit_ms / 1000
    if in_time and not held_back:
        raise Wrong("an open transaction does not hold the last stable offset back")
    client._until(lambda: all_stable(bootstrap, TOPIC), "abort what takes too long")
    same(bootstrap, expected)
    try:
        late.commit_transaction(TIMEOUT_S)
    except KafkaException:
        return held_back
    raise Wrong("a transaction that was aborted is committed")


def all_stable(bootstrap, topic):
    return ends(bootstrap, topic, IsolationLevel.READ_COMMITTED) == ends(bootstrap, topic, IsolationLevel.READ_UNCOMMITTED)


# Consume, transform, produce


def transform(bootstrap, _expected):
    plain = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    wanted = values("in", INPUTS)
    send(plain, INPUT, wanted)
    failures, stop = [], threading.Event()
    threads = [threading.Thread(target=work, args=(bootstrap, number, stop, failures)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    want = sorted(b"out-" + value for value in wanted)
    try:
        client._until(lambda: failures or len(flat(read(bootstrap, OUTPUT))) >= len(want), "write on what was read")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    equal("what was written on", flat(read(bootstrap, OUTPUT)), want)
    equal("the group's offsets", committed(bootstrap), ends(bootstrap, INPUT, IsolationLevel.READ_UNCOMMITTED))


def committed(bootstrap):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "transformers"})
    found = consumer.committed([TopicPartition(INPUT, partition) for partition in range(PARTITIONS)], TIMEOUT_S)
    consumer.close()
    return {position.partition: position.offset for position in found}


def work(bootstrap, number, stop, failures):
    try:
        chance = random.Random(number)
        consumer = Consumer({
            "bootstrap.servers": bootstrap, "group.id": "transformers", "isolation.level": "read_committed",
            "auto.offset.reset": "earliest", "enable.auto.commit": False, "session.timeout.ms": 6000,
        })
        consumer.subscribe([INPUT])
        made = producer(bootstrap, f"worker-{number}")
        while not stop.is_set():
            batch = [message for message in consumer.consume(num_messages=CHUNK, timeout=0.3) if not message.error()]
            if not batch:
                continue
            made.begin_transaction()
            for message in batch:
                made.produce(OUTPUT, partition=message.partition(), value=b"out-" + message.value())
            positions = collections.defaultdict(int)
            for message in batch:
                positions[message.partition()] = max(positions[message.partition()], message.offset() + 1)
            offsets = [TopicPartition(INPUT, partition, offset) for partition, offset in positions.items()]
            try:
                made.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), TIMEOUT_S)
                if chance.random() < 0.3:
                    raise KafkaException(None)
                made.commit_transaction(TIMEOUT_S)
            except KafkaException:
                # By chance, or because the group was shared anew: from the committed offsets on again.
                made.abort_transaction(TIMEOUT_S)
                rewind(consumer)
        consumer.close()
    except Exception as error:  # noqa: BLE001
        failures.append(Wrong(f"worker {number}: {error!r}"))


def rewind(consumer):
    assigned = consumer.assignment()
    for position in consumer.committed(assigned, TIMEOUT_S):
        position.offset = max(position.offset, 0)
        try:
            consumer.seek(position)
        except KafkaException:
            # It is another's by now.
            continue


# What is open when a broker goes


def leave(bootstrap, expected):
    in_order(("transactions are left open", leave_open, bootstrap, expected))


def leave_open(bootstrap, expected):
    leave_open.kept = []
    for name in ("left-a", "left-b"):
        made = producer(bootstrap, name)
        made.begin_transaction()
        lost = values(f"{name}{len(expected['sent'])}")
        send(made, TOPIC, lost)
        expected["sent"] += lost
        made.send_offsets_to_transaction(
            [TopicPartition(INPUT, 0, 1)], reader_of(bootstrap).consumer_group_metadata(), TIMEOUT_S
        )
        # Its end is this program's: nothing ends its transaction.
        leave_open.kept.append(made)
    behind = producer(bootstrap, "behind")
    behind.begin_transaction()
    kept = values(f"behind{len(expected['sent'])}")
    send(behind, TOPIC, kept)
    behind.commit_transaction(TIMEOUT_S)
    expected["sent"] += kept
    expected["hidden"] = kept


def reader_of(bootstrap):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "left"})
    leave_open.kept.append(consumer)
    return consumer


def resume(bootstrap, expected):
    in_order(
        ("open transactions hold back what lies behind them", held_back, bootstrap, expected),
        ("whoever comes with their ids ends them, and goes on", go_on, bootstrap, expected),
    )


def held_back(bootstrap, expected):
    client._until(lambda: len(flat(read(bootstrap, TOPIC))) >= len(expected["committed"]), "show what was committed before")
    same(bootstrap, expected)
    if all_stable(bootstrap, TOPIC):
        raise Wrong("the transactions that were left open are not open")


def go_on(bootstrap, expected):
    for name in ("left-a", "left-b"):
        made = producer(bootstrap, name)
        made.begin_transaction()
        kept = values(f"{name}-again{len(expected['sent'])}")
        send(made, TOPIC, kept)
        made.commit_transaction(TIMEOUT_S)
        expected["sent"] += kept
        expected["committed"] += kept
    expected["committed"] += expected.pop("hidden")
    client._until(lambda: all_stable(bootstrap, TOPIC), "end what was left open")
    same(bootstrap, expected)


# Transactions while the broker is killed


def storm(bootstrap, expected):
    in_order(("transactions end whole, or not at all, while the broker is killed", storm_on, bootstrap, expected))


def storm_on(bootstrap, expected):
    fates, failures, until = {}, [], time.monotonic() + STORM_S
    threads = [threading.Thread(target=blow, args=(bootstrap, number, until, fates, failures)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    # Whoever comes with the ids ends what is left.
    for number in range(3):
        producer(bootstrap, f"storm-{number}")
    client._until(lambda: all_stable(bootstrap, STORM), "end all transactions")
    got = collections.Counter(flat(read(bootstrap, STORM)))
    twice = [value for value, count in got.items() if count > 1]
    if twice:
        raise Wrong(f"{len(twice)} records are there twice: {twice[:5]}")
    counts = collections.Counter(fates.values())
    for name, fate in fates.items():
        seen = sum(value in got for value in values(name))
        whole = len(values(name))
        if (fate == "committed" and seen != whole) or (fate == "aborted" and seen) or seen not in (0, whole):
            raise Wrong(f"{seen} of {whole} records of {name} are seen, which was {fate}")
    if counts["committed"] < 20:
        raise Wrong(f"too little happened: {counts}")
    expected["storm"] = dict(counts)
    print(counts, file=sys.stderr)


def blow(bootstrap, number, until, fates, failures):
    chance = random.Random(number)
    made, count = None, 0
    try:
        while time.monotonic() < until:
            if made is None:
                made = producer(bootstrap, f"storm-{number}")
            name = f"storm{number}x{count}"
            count += 1
            fates[name] = "unknown"
            try:
                made.begin_transaction()
                send(made, STORM, values(name))
                if chance.random() < 0.2:
                    made.abort_transaction(TIMEOUT_S)
                    fates[name] = "aborted"
                    continue
                commit_again(made)
                fates[name] = "committed"
            except KafkaException as error:
                print(f"{name}: {error}", file=sys.stderr)
                if error.args[0].txn_requires_abort():
                    try:
                        made.abort_transaction(TIMEOUT_S)
                        continue
                    except KafkaException as second:
                        print(f"{name}: {second}", file=sys.stderr)
                made = None
    except Exception as error:  # noqa: BLE001
        failures.append(Wrong(f"producer {number}: {error!r}"))


def commit_again(made):
    for _ in range(20):
        try:
            made.commit_transaction(TIMEOUT_S)
            return
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
    raise Wrong("a commit was tried again 20 times")


PARTS = {"once": basics, "once-leave": leave, "once-resume": resume, "once-storm": storm}


def main():
    part, bootstrap, path = sys.argv[1:]
    with kept(path, {"committed": [], "sent": []}) as expected:
        PARTS[part](bootstrap, expected)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
