"""Fills a broker with what a directory can hold, and checks that another broker serves all of it; run by run.py.

    python client.py PART BOOTSTRAP EXPECTED        PART: one of PARTS, at the end

EXPECTED is a file that the filling parts write and the others read: what each topic, setting, record and committed offset
must be. Prints for each test a line of JSON: {"test":NAME,"failure":TEXT or null,"seconds":S}.
"""

import dataclasses
import hashlib
import json
import os
import sys
import time

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kept import kept

TIMEOUT_S = 30
# How the names of the other clients' topics begin.
OTHERS = "other-"
# Seconds without any record after which partitions that should hold more are taken to be short.
SILENCE_S = 15

# Name: partitions and settings. `again` is deleted and created anew on the way, `gone` is deleted.
TOPICS = {
    "plain": (3, {}),
    # Segments of a size that a few megabytes fill several times, and a record that the default limit refuses.
    "rolled": (2, {"segment.bytes": "2097152", "max.message.bytes": "2000000", "retention.ms": "86400000"}),
    # Compacted by name, but not within this test: each record is to be there.
    "compacted": (2, {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "1.0", "min.compaction.lag.ms": "86400000"}),
    "append-time": (1, {"message.timestamp.type": "LogAppendTime"}),
    "odd.name_with-marks": (1, {"retention.bytes": "1000000000", "index.interval.bytes": "1024"}),
    "empty": (4, {"delete.retention.ms": "1234567"}),
    "again": (1, {"retention.ms": "7200000"}),
    "gone": (1, {}),
}
# Apache Kafka's answers to the first commits on a fresh directory; librdkafka hands them on.
COORDINATOR_NOT_YET = ("NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE")
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclasses.dataclass(frozen=True)
class Record:
    offset: int
    timestamp_type: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple


@dataclasses.dataclass
class Expected:
    """What must be there: by topic its id, number of partitions and settings; by topic and partition its records; by group
    the committed (offset, metadata) of each partition."""

    topics: dict = dataclasses.field(default_factory=dict)
    records: dict = dataclasses.field(default_factory=dict)
    groups: dict = dataclasses.field(default_factory=dict)


class Wrong(Exception):
    """A promise that did not hold."""


def test(name, function, *arguments):
    started, failure = time.monotonic(), None
    try:
        function(*arguments)
    except (Wrong, KafkaException) as error:
        failure = str(error)
    print(json.dumps({"test": name, "failure": failure, "seconds": time.monotonic() - started}), flush=True)
    return failure is None


def in_order(*tests):
    """Tests of which each builds on those before it: the first that fails ends them."""
    all(test(name, function, *arguments) for name, function, *arguments in tests)


def equal(what, got, expected):
    if got != expected:
        raise Wrong(f"{what}: {_short(got)}, expected {_short(expected)}")


def _short(thing):
    text = repr(thing)
    return text if len(text) <= 200 else f"{text[:180]}... ({len(text)} characters)"


# Filling


def fill_first(bootstrap, expected):
    in_order(
        ("topics are created, two are deleted, one of these is created anew", create_topics, bootstrap, expected),
        ("records are produced with every codec", produce_all, bootstrap, expected, "first", 40),
        ("what was produced is read back", check_records, bootstrap, expected),
        ("offsets are committed with their metadata", commit_offsets, bootstrap, expected),
        ("committed offsets are read back", check_groups, bootstrap, expected),
    )


def fill_kafka(bootstrap, expected):
    """What Odradek keeps for Apache Kafka without using it."""
    in_order(("a SCRAM credential is stored", store_credential, bootstrap))


def fill_second(bootstrap, expected):
    in_order(
        ("committed offsets are still there after a restart", check_groups, bootstrap, expected),
        ("records are produced after a restart", produce_all, bootstrap, expected, "second", 20),
        ("what was produced is read back", check_records, bootstrap, expected),
        ("offsets are committed again by one group", commit_half, bootstrap, expected, "readers"),
        ("a member commits and is still in its group when the broker stops", leave_a_member, bootstrap, expected),
    )


def create_topics(bootstrap, expected):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    _create(admin, TOPICS)
    first_id, _ = describe(bootstrap, ["again"])["again"]
    produce(bootstrap, {}, "none", {(name, 0): [_record("deleted", 0, 0)] for name in ("again", "gone")})
    for answer in admin.delete_topics(["again", "gone"], operation_timeout=TIMEOUT_S).values():
        answer.result(TIMEOUT_S)
    _until(lambda: not {"again", "gone"} & set(admin.list_topics(timeout=TIMEOUT_S).topics), "delete the topics")
    _create(admin, {"again": TOPICS["again"]})
    kept = {name: topic for name, topic in TOPICS.items() if name != "gone"}
    _until(lambda: set(kept) <= set(admin.list_topics(timeout=TIMEOUT_S).topics), "know the topics")
    for name, (topic_id, partitions) in describe(bootstrap, kept).items():
        expected.topics[name] = (topic_id, partitions, kept[name][1])
        equal(f"partitions of {name}", partitions, kept[name][0])
    ids = [first_id, *(topic_id for topic_id, _, _ in expected.topics.values())]
    equal("number of different topic ids", len(set(ids)), len(kept) + 1)
    expected.records = {(name, partition): [] for name, (count, _) in kept.items() for partition in range(count)}


def _create(admin, topics):
    new = [NewTopic(name, partitions, 1, config=settings) for name, (partitions, settings) in topics.items()]
    for answer in admin.create_topics(new).values():
        answer.result(TIMEOUT_S)


def _until(condition, what):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise Wrong(f"the broker did not {what} within {TIMEOUT_S} s")
        time.sleep(0.05)


def describe(bootstrap, names):
    """{name: (topic id, number of partitions)}"""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    answers = admin.describe_topics(TopicCollection(list(names)))
    described = {name: answer.result(TIMEOUT_S) for name, answer in answers.items()}
    return {name: (str(topic.topic_id), len(topic.partitions)) for name, topic in described.items()}


def produce_all(bootstrap, expected, stage, count):
    for codec in CODECS:
        batches = {}
        for topic, partition in expected.records:
            if topic == "empty":
                continue
            records = [_record(f"{stage}/{codec}/{topic}", partition, index) for index in range(count)]
            if topic == "rolled":
                # Some 0.5 MB that do not compress, for each codec and partition.
                records += [_large(f"{stage}/{codec}/{partition}/{index}", 50_000) for index in range(10)]
                records += [_large(f"{stage}/{codec}/{partition}", 1_500_000)] if codec == "none" else []
            if topic == "compacted":
                # A record without a key does not belong in a compacted topic.
                records = [dataclasses.replace(record, key=record.key or b"key") for record in records]
            batches[topic, partition] = records
        produce(bootstrap, expected.records, codec, batches)


def _record(name, partition, index):
    key, value = f"key {name}/{partition}/{index} \u00fc".encode(), f"value {name}/{partition}/{index} \u4e16\x00".encode()
    headers = (("name", name.encode()), ("null", None), ("empty", b""), ("name", b"twice")) if index % 3 == 0 else ()
    # A minute between two records, so that a search by time has something to find.
    timestamp = int(time.time() * 1000) - 7_200_000 + index * 60_000
    return Record(
        -1, 1, timestamp, None if index % 7 == 3 else b"" if index % 7 == 4 else key,
        None if index % 7 == 5 else b"" if index % 7 == 6 else value, headers,
    )


def _large(name, size):
    blocks = (hashlib.sha512(f"{name}/{block}".encode()).digest() for block in range(-(-size // 64)))
    return Record(-1, 1, int(time.time() * 1000), name.encode(), b"".join(blocks)[:size], ())


def produce(bootstrap, known, codec, batches):
    """Produces {(topic, partition): records} and enters them into `known`, with the offsets that they must get there."""
    producer = Producer({
        "bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 2, "message.max.bytes": 2_000_000,
        "enable.idempotence": codec in ("none", "zstd"),
    })
    reports = {position: [] for position in batches}
    for (topic, partition), records in batches.items():
        told = reports[topic, partition]
        for record in records:
            producer.produce(
                topic, partition=partition, key=record.key, value=record.value, headers=list(record.headers),
                timestamp=record.timestamp, on_delivery=lambda error, message, told=told: told.append((error, message)),
            )
    if producer.flush(TIMEOUT_S):
        raise Wrong(f"records with codec {codec} were not acknowledged within {TIMEOUT_S} s")
    for (topic, partition), records in batches.items():
        log = known.setdefault((topic, partition), [])
        for record, (error, message) in zip(records, reports[topic, partition], strict=True):
            if error:
                raise Wrong(f"{topic}-{partition}: {error}")
            equal(f"offset of a record of {topic}-{partition}", message.offset(), len(log))
            log.append(dataclasses.replace(record, offset=len(log)))


def commit_offsets(bootstrap, expected):
    for group, topics in {"readers": ["plain"], "others": ["plain", "rolled", "empty"], "g\u00fcte": ["again"]}.items():
        commit(bootstrap, expected, group, {
            position: (len(log) // 3, f"a third, \u00fc {position}") for position, log in expected.records.items()
            if position[0] in topics
        })


def commit_half(bootstrap, expected, group):
    commit(bootstrap, expected, group, {
        (topic, partition): (len(expected.records[topic, partition]) // 2, "half")
        for topic, partition in expected.groups[group]
    })


def commit(bootstrap, expected, group, offsets):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    wanted = [TopicPartition(*position, offset, metadata) for position, (offset, metadata) in offsets.items()]

    def committed():
        try:
            answers = consumer.commit(offsets=wanted, asynchronous=False)
        except KafkaException as error:
            if error.args[0].name() in COORDINATOR_NOT_YET:
                return False
            raise
        for answer in answers:
            if answer.error:
                raise Wrong(f"{group}: {answer}: {answer.error}")
        return True

    _until(committed, f"take the commit of {group}")
    consumer.close()
    expected.groups[group] = offsets


def leave_a_member(bootstrap, expected):
    """The consumer is not closed: this program's end leaves it in the group, as a crashed member would be."""
    group = "with-a-member"
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"
    })
    consumer.subscribe(["plain"])
    _until(lambda: consumer.poll(0.1) is not None, f"give {group} a record")
    committed = consumer.commit(offsets=[TopicPartition("plain", 1, 17, metadata="by a member")], asynchronous=False)
    equal("error of the commit", committed[0].error, None)
    expected.groups[group] = {("plain", 1): (17, "by a member")}
    leave_a_member.consumer = consumer


# Checking


OWN = {"durability": "replicated"}
LONGER = {"retention.ms": "37000000"}
CREDENTIAL = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 5000)


def store_credential(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    upsertion = UserScramCredentialUpsertion("user", CREDENTIAL, b"password", b"salt")
    for answer in admin.alter_user_scram_credentials([upsertion]).values():
        answer.result(TIMEOUT_S)


def check_credential(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    told = admin.describe_user_scram_credentials(["user"])["user"].result(TIMEOUT_S)
    got = [(one.mechanism, one.iterations) for one in told.scram_credential_infos]
    equal("credentials of the user", got, [(CREDENTIAL.mechanism, CREDENTIAL.iterations)])


def check_kafka(bootstrap, expected):
    check(bootstrap, expected)
    test("the SCRAM credential", check_credential, bootstrap)


def own_settings(bootstrap, expected):
    """What Apache Kafka has no such setting for."""
    in_order(
        ("a topic gets a setting of Odradek's own", alter, bootstrap, expected, "plain", OWN),
        ("a topic is created with a setting of Odradek's own", create_own_topic, bootstrap, expected),
        ("the same settings of each topic", check_settings, bootstrap, expected),
    )


def check_own(bootstrap, expected):
    """Apache Kafka keeps what it does not know, without a word of it: Odradek finds it again."""
    check_kafka(bootstrap, expected)
    in_order(
        ("Apache Kafka alters a topic with a setting that it does not know", alter, bootstrap, expected, "own", LONGER),
        ("new records go behind the old ones", produce_all, bootstrap, expected, "last", 5),
        ("what was produced is read back", check_records, bootstrap, expected),
    )


def alter(bootstrap, expected, topic, settings):
    """None takes a setting away."""
    entries = [
        ConfigEntry(
            name, value,
            incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
        )
        for name, value in settings.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)
    topic_id, partitions, known = expected.topics[topic]
    known = {name: value for name, value in {**known, **settings}.items() if value is not None}
    expected.topics[topic] = (topic_id, partitions, known)


def create_own_topic(bootstrap, expected):
    settings = {"retention.ms": "36000000", **OWN}
    _create(AdminClient({"bootstrap.servers": bootstrap}), {"own": (1, settings)})
    produce(bootstrap, expected.records, "zstd", {("own", 0): [_record("own", 0, index) for index in range(10)]})
    expected.topics["own"] = (*describe(bootstrap, ["own"])["own"], settings)


def check(bootstrap, expected):
    test("the same topics, with their ids and partitions", check_topics, bootstrap, expected)
    test("the same settings of each topic", check_settings, bootstrap, expected)
    test("every record, with offset, timestamp, key, value and headers", check_records, bootstrap, expected)
    test("the same ends of each partition", check_ends, bootstrap, expected)
    test("offsets are found by timestamp", check_times, bootstrap, expected)
    test("every committed offset, with its metadata", check_groups, bootstrap, expected)


def carry_on(bootstrap, expected):
    in_order(
        ("a group resumes at its committed offsets and gets exactly the rest", resume, bootstrap, expected, "readers"),
        ("new records go behind the old ones", produce_all, bootstrap, expected, "later", 5),
        ("offsets are committed anew", commit_half, bootstrap, expected, "others"),
        ("a new topic is created", create_later_topic, bootstrap, expected),
    )


def check_topics(bootstrap, expected):
    names = {name for name in AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=TIMEOUT_S).topics}
    equal("topics", {name for name in names if not name.startswith(("__", OTHERS))}, set(expected.topics))
    want = {name: (topic_id, partitions) for name, (topic_id, partitions, _) in expected.topics.items()}
    equal("topic ids and partitions", describe(bootstrap, expected.topics), want)


def check_settings(bootstrap, expected):
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in expected.topics]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for resource, answer in admin.describe_configs(resources).items():
        entries = list(answer.result(TIMEOUT_S).values())
        dynamic = {entry.name: entry.value for entry in entries if entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value}
        # One that a broker does not have it does not tell of.
        names = {entry.name for entry in entries}
        told = {name: value for name, value in expected.topics[resource.name][2].items() if name in names or name not in OWN}
        equal(f"settings of {resource.name}", dynamic, told)


def check_records(bootstrap, expected):
    served = read(bootstrap, {position: len(log) for position, log in expected.records.items()})
    for (topic, partition), log in expected.records.items():
        got = served[topic, partition]
        for index, (have, want) in enumerate(zip(got, log)):
            if expected.topics[topic][2].get("message.timestamp.type") == "LogAppendTime" and want.timestamp_type == 1:
                # The broker's own time: plausible when it is first read, from then on the same.
                if have.timestamp_type != 2 or not want.timestamp <= have.timestamp <= time.time() * 1000:
                    raise Wrong(f"{topic}-{partition} offset {index}: timestamp {have.timestamp_type} {have.timestamp}")
                want = log[index] = dataclasses.replace(want, timestamp_type=2, timestamp=have.timestamp)
            equal(f"{topic}-{partition} record {index}", have, want)
        equal(f"number of records of {topic}-{partition}", len(got), len(log))


def read(bootstrap, counts, isolation="read_committed"):
    """{(topic, partition): records} from their beginnings to their ends, which are expected after so many."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "error",
        "enable.partition.eof": True, "fetch.wait.max.ms": 50, "isolation.level": isolation,
    })
    consumer.assign([TopicPartition(*position, 0) for position in counts])
    records, at_end = {position: [] for position in counts}, set()
    deadline = time.monotonic() + SILENCE_S
    while time.monotonic() < deadline and any(
        position not in at_end or len(records[position]) < count for position, count in counts.items()
    ):
        for message in consumer.consume(1000, 0.05):
            position = message.topic(), message.partition()
            if message.error() and message.error().name() == "_PARTITION_EOF":
                at_end.add(position)
                continue
            if message.error():
                raise Wrong(f"{position}: {message.error()}")
            timestamp_type, timestamp = message.timestamp()
            records[position].append(Record(
                message.offset(), timestamp_type, timestamp, message.key(), message.value(), tuple(message.headers() or ())
            ))
            at_end.discard(position)
            deadline = time.monotonic() + SILENCE_S
    consumer.close()
    return records


def check_ends(bootstrap, expected):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
    for (topic, partition), log in expected.records.items():
        ends = consumer.get_watermark_offsets(TopicPartition(topic, partition), TIMEOUT_S)
        equal(f"first offset and end of {topic}-{partition}", ends, (0, len(log)))
    consumer.close()


def check_times(bootstrap, expected):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
    for (topic, partition), log in expected.records.items():
        for record in log[:: max(1, len(log) // 8)]:
            first = next(one.offset for one in log if one.timestamp >= record.timestamp)
            found = consumer.offsets_for_times([TopicPartition(topic, partition, record.timestamp)], TIMEOUT_S)[0]
            equal(f"first offset of {topic}-{partition} at or after {record.timestamp}", found.offset, first)
    consumer.close()


def check_groups(bootstrap, expected):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for group, offsets in expected.groups.items():
        answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(TIMEOUT_S)
        got = {(tp.topic, tp.partition): (tp.offset, tp.metadata or "") for tp in answer.topic_partitions}
        equal(f"committed offsets of {group}", got, offsets)


def resume(bootstrap, expected, group):
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "error"
    })
    consumer.subscribe(sorted({topic for topic, _ in expected.groups[group]}))
    want = {position: list(range(start, len(expected.records[position])))
            for position, (start, _) in expected.groups[group].items()}
    got = {position: [] for position in want}
    deadline = time.monotonic() + TIMEOUT_S
    while sum(map(len, got.values())) < sum(map(len, want.values())) and time.monotonic() < deadline:
        for message in consumer.consume(1000, 0.5):
            if message.error():
                raise Wrong(str(message.error()))
            got[message.topic(), message.partition()].append(message.offset())
    consumer.close()
    equal(f"offsets given to {group}", got, want)


def create_later_topic(bootstrap, expected):
    # Its records are two hours old: an hour would let them go when the broker first looks.
    settings = {"retention.ms": "36000000"}
    admin = AdminClient({"bootstrap.servers": bootstrap})
    _create(admin, {"later": (1, settings)})
    _until(lambda: "later" in admin.list_topics(timeout=TIMEOUT_S).topics, "know the new topic")
    produce(bootstrap, expected.records, "lz4", {("later", 0): [_record("later", 0, index) for index in range(10)]})
    expected.topics["later"] = (*describe(bootstrap, ["later"])["later"], settings)


PARTS = {
    "fill-first": fill_first, "fill-second": fill_second, "fill-kafka": fill_kafka, "check": check, "carry-on": carry_on,
    "check-again": check, "check-kafka": check_kafka, "own-settings": own_settings, "check-own": check_own,
}


def main():
    part, bootstrap, path = sys.argv[1:]
    with kept(path, Expected()) as expected:
        PARTS[part](bootstrap, expected)
    # Without closing what is open: see leave_a_member.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
