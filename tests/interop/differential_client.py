"""The cases of differential.py, and what is compared after each.

    python differential_client.py cases|restarted|killed FACTS ODRADEK ITS_DIRECTORY KAFKA ITS_DIRECTORY [CASE..]

A case is a function that is given one broker and does the same to each; what it returns (errors, answers) has to be the
same, and so has what is seen afterwards. A new case is a function with `@case(...)`: `settles` says, of Apache Kafka's view,
when its background work is done. FACTS keeps what is the same for every part: the clock that the records go by.
Prints for each test a line of JSON: {"test":NAME,"failure":TEXT or null,"seconds":S}.
"""

import dataclasses
import json
import os
import pathlib
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

TIMEOUT_S = 30
# Background work of one broker that the other has done already.
SETTLE_S = 20
HOUR_MS = 3_600_000
MIB = 1 << 20

CASES = {}


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    settings: dict
    run: object
    settles: object
    # What differs by its nature: timestamps that the broker gives.
    ignores_time: bool


class Wrong(Exception):
    """A promise that did not hold."""


def case(settings=None, settles=lambda view: True, ignores_time=False):
    def add(run):
        name = run.__name__.replace("_", "-")
        CASES[name] = Case(name, settings or {}, run, settles, ignores_time)
        return run

    return add


class Broker:
    """One of the two, with a topic of one partition for the case."""

    def __init__(self, name, address, directory, now_ms):
        self.name = name
        self.address = address
        self.directory = pathlib.Path(directory)
        self.now_ms = now_ms
        self.admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        self.topic = None

    def create(self, settings):
        topic = NewTopic(self.topic, num_partitions=1, replication_factor=1, config=settings)
        for answer in self.admin.create_topics([topic], operation_timeout=TIMEOUT_S).values():
            answer.result(TIMEOUT_S)
        # Apache Kafka answers before it leads.
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self.offset(OffsetSpec.latest())
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def produce(self, batches, codec="none"):
        """Batches of (key, value, timestamp) records, each a batch of its own; the errors by place."""
        errors = []
        for place, batch in enumerate(batches):
            # A batch is closed when it has so many records.
            producer = Producer({
                "bootstrap.servers": self.address, "linger.ms": 2000, "batch.num.messages": len(batch),
                "compression.type": codec, "queue.buffering.max.kbytes": 1 << 16, "message.max.bytes": 4 * MIB,
                "batch.size": 4 * MIB, "message.timeout.ms": TIMEOUT_S * 1000,
            })

            def told(error, message, place=place):
                if error is not None:
                    errors.append((place, error.name()))

            for key, value, timestamp in batch:
                producer.produce(self.topic, value, key, partition=0, timestamp=timestamp, on_delivery=told)
            if producer.flush(TIMEOUT_S):
                raise Wrong(f"{self.name} did not acknowledge batch {place}")
        return sorted(set(errors))

    def delete_records(self, offset, topic=None):
        asked = TopicPartition(topic or self.topic, 0, offset)
        answer = self.admin.delete_records([asked], operation_timeout=TIMEOUT_S)[asked]
        try:
            return answer.result(TIMEOUT_S).low_watermark
        except KafkaException as error:
            return error.args[0].name()

    def alter(self, **settings):
        """Settings by their names with `_` for `.`; None takes one away."""
        entries = [
            ConfigEntry(
                name.replace("_", "."), value,
                incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
            )
            for name, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, self.topic, incremental_configs=entries)
        try:
            for answer in self.admin.incremental_alter_configs([resource]).values():
                answer.result(TIMEOUT_S)
            return None
        except KafkaException as error:
            return error.args[0].name()

    def settings(self):
        """The settings in force, with where they come from."""
        resource = ConfigResource(ResourceType.TOPIC, self.topic)
        found = self.admin.describe_configs([resource])[resource].result(TIMEOUT_S)
        return {name: (entry.value, int(entry.source)) for name, entry in found.items()}

    def offset(self, spec):
        asked = TopicPartition(self.topic, 0)
        found = self.admin.list_offsets({asked: spec})[asked].result(TIMEOUT_S)
        return found.offset, found.timestamp

    def view(self, ignores_time=False):
        """What a consumer sees of the topic, and what lies on disk."""
        first, end = self.offset(OffsetSpec.earliest())[0], self.offset(OffsetSpec.latest())[0]
        records = self._records(first, end)
        times = sorted({record[1] for record in records})
        asked = [] if ignores_time else [
            moment for seen in times[:: max(1, len(times) // 10)] for moment in (seen - 1, seen, seen + 1)
        ]
        return {
            "first and last offset": (first, end),
            "records": [(*record[:1], None, *record[2:]) for record in records] if ignores_time else records,
            "offsets by time": {moment: self.offset(OffsetSpec.for_timestamp(moment)) for moment in asked},
            "newest record": None if ignores_time else self.offset(OffsetSpec.max_timestamp()),
            "segments": self.segments(),
        }

    def segments(self):
        names = (self.directory / f"{self.topic}-0").glob("*.log")
        return sorted(int(path.stem) for path in names)

    def _records(self, first, end):
        consumer = Consumer({
            "bootstrap.servers": self.address, "group.id": "unused", "enable.auto.commit": False,
            "enable.partition.eof": True, "auto.offset.reset": "error", "check.crcs": True,
        })
        consumer.assign([TopicPartition(self.topic, 0, first)])
        records = []
        deadline = time.monotonic() + TIMEOUT_S
        try:
            while time.monotonic() < deadline:
                for message in consumer.consume(1000, 0.5):
                    if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                        return records
                    if message.error():
                        raise Wrong(f"{self.name}: {message.error()}")
                    kind, timestamp = message.timestamp()
                    headers = tuple(message.headers() or ())
                    records.append((message.offset(), timestamp, kind, message.key(), message.value(), headers))
        finally:
            consumer.close()
        raise Wrong(f"{self.name} gave {len(records)} records from {first} and not the end, {end}")


def batches(count, size, timestamp, value_bytes=1000, keys=None):
    """`count` batches of `size` records; `timestamp` gives each batch its own from its place."""
    return [
        [
            (
                b"key %d" % ((batch * size + index) % keys) if keys else None,
                (b"%d/%d " % (batch, index)).ljust(value_bytes, b"."),
                timestamp(batch) + index,
            )
            for index in range(size)
        ]
        for batch in range(count)
    ]


def has_let_go(view):
    return view["first and last offset"][0] > 0


def is_empty(view):
    first, end = view["first and last offset"]
    return first == end


# Retention


@case({"segment.bytes": str(MIB), "retention.bytes": str(2 * MIB), "retention.ms": "-1"}, has_let_go)
def retention_by_size(broker):
    return broker.produce(batches(100, 50, lambda batch: broker.now_ms + batch * 100))


@case({"segment.bytes": str(MIB), "retention.ms": str(HOUR_MS)}, has_let_go)
def retention_by_time(broker):
    def timestamp(batch):
        return broker.now_ms - (3 * HOUR_MS if batch < 50 else 0) + batch * 100

    return broker.produce(batches(100, 50, timestamp))


@case({"segment.bytes": str(MIB), "retention.ms": str(HOUR_MS)}, is_empty)
def retention_of_the_active_segment(broker):
    return broker.produce(batches(30, 50, lambda batch: broker.now_ms - 3 * HOUR_MS + batch * 100))


@case({"segment.bytes": str(MIB), "retention.ms": str(HOUR_MS)}, has_let_go)
def a_young_record_keeps_what_is_behind_it(broker):
    def timestamp(batch):
        return broker.now_ms - (0 if batch == 30 else 3 * HOUR_MS)

    return broker.produce(batches(80, 50, timestamp))


@case({"segment.bytes": str(MIB), "retention.ms": "-1"}, has_let_go)
def settings_altered_while_running(broker):
    told = [broker.produce(batches(60, 50, lambda batch: broker.now_ms - 3 * HOUR_MS + batch * 100))]
    told.append(broker.alter(retention_ms="-1", segment_bytes=str(2 * MIB)))
    told.append(broker.produce(batches(60, 50, lambda batch: broker.now_ms + batch * 100)))
    told.append(broker.alter(retention_ms=str(HOUR_MS), segment_bytes=None))
    told.append(broker.alter(no_such_setting="1"))
    told.append(broker.alter(retention_ms="many"))
    told.append(broker.alter(retention_ms="-2"))
    return told


# DeleteRecords


@case({"segment.bytes": str(MIB)}, has_let_go)
def delete_records(broker):
    told = [broker.produce(batches(60, 50, lambda batch: broker.now_ms + batch * 100))]
    for offset in (10, 5, 0, 1234, 3001, 2001, -2, 99999):
        told.append(broker.delete_records(offset))
    told.append(broker.delete_records(0, "no-such-topic"))
    return told


@case({}, is_empty)
def delete_all_records(broker):
    return [
        broker.produce(batches(5, 7, lambda batch: broker.now_ms + batch)),
        broker.delete_records(-1),
        broker.delete_records(-1),
        broker.delete_records(35),
        broker.delete_records(36),
    ]


@case({}, has_let_go)
def delete_within_a_batch(broker):
    return [
        broker.produce(batches(3, 10, lambda batch: broker.now_ms + batch * 100), "lz4"),
        broker.delete_records(13),
    ]


@case({"cleanup.policy": "compact"})
def delete_records_of_a_compacted_topic(broker):
    return [
        broker.produce(batches(1, 10, lambda batch: broker.now_ms, keys=20)),
        broker.delete_records(5),
        broker.delete_records(-1),
        broker.delete_records(99),
    ]


# Rolling


@case({"segment.ms": "60000", "retention.ms": "-1"})
def roll_by_time(broker):
    times = [0, 30, 60, 61, 90, 10, 121, 122, 400, 399, 461]
    return broker.produce(batches(len(times), 3, lambda batch: broker.now_ms - HOUR_MS + times[batch] * 1000))


@case({"segment.index.bytes": "64", "index.interval.bytes": "2000", "retention.ms": "-1"})
def roll_by_index_size(broker):
    return broker.produce(batches(80, 3, lambda batch: broker.now_ms + batch * 10))


@case({"segment.index.bytes": "64", "index.interval.bytes": "2000", "retention.ms": "-1"})
def roll_by_index_size_without_new_times(broker):
    return broker.produce(batches(60, 3, lambda batch: broker.now_ms - batch * 10))


# Timestamps


@case({"message.timestamp.type": "LogAppendTime"}, ignores_time=True)
def log_append_time(broker):
    told = [broker.produce(batches(3, 4, lambda batch: broker.now_ms - batch * HOUR_MS), codec) for codec in ("none", "zstd")]
    told.append(broker.alter(message_timestamp_type="CreateTime"))
    told.append(broker.produce(batches(2, 4, lambda batch: broker.now_ms)))
    return told


@case({"message.timestamp.before.max.ms": str(2 * HOUR_MS), "message.timestamp.after.max.ms": str(4 * HOUR_MS)})
def timestamps_out_of_bounds(broker):
    hours = [0, -1, -3, -1, 3, 5, 0]
    told = [broker.produce(batches(len(hours), 2, lambda batch: broker.now_ms + hours[batch] * HOUR_MS))]
    # One record alone is out of bounds.
    old = [(None, b"young", broker.now_ms), (None, b"old", broker.now_ms - 3 * HOUR_MS)]
    told.append(broker.produce([old]))
    return told


@case({"index.interval.bytes": "1000"})
def offsets_by_time(broker):
    return broker.produce(batches(60, 5, lambda batch: broker.now_ms + (batch * 37 % 60) * 1000, value_bytes=200))


@case({"index.interval.bytes": "1000"})
def offsets_by_time_in_compressed_batches(broker):
    return [
        broker.produce(batches(6, 9, lambda batch: broker.now_ms + batch * 1000, value_bytes=200), codec)
        for codec in ("gzip", "snappy", "lz4", "zstd")
    ]


# Settings


@case({"retention.ms": "7200000", "cleanup.policy": "compact,delete"})
def described_settings(broker):
    told = broker.settings()
    # Odradek has one of its own, and knows of no other node's.
    told.pop("durability", None)
    return {name: value for name, value in told.items() if not name.startswith("file.delete.delay")}


def test(name, function, *arguments):
    started, failure = time.monotonic(), None
    try:
        function(*arguments)
    except (Wrong, KafkaException) as error:
        failure = str(error)
    print(json.dumps({"test": name, "failure": failure, "seconds": time.monotonic() - started}), flush=True)


def do(one, odradek, kafka):
    told = []
    for broker in (kafka, odradek):
        broker.topic = one.name
        broker.create(one.settings)
        told.append(one.run(broker))
    differ("answers", told[1], told[0])
    compare(one, odradek, kafka, one.settles)


def compare(one, odradek, kafka, settles=lambda view: True):
    odradek.topic = kafka.topic = one.name
    expected = kafka.view(one.ignores_time)
    deadline = time.monotonic() + SETTLE_S
    while not (settles(expected) and expected == kafka.view(one.ignores_time)):
        if time.monotonic() > deadline:
            raise Wrong(f"Apache Kafka did not settle: {short(expected['first and last offset'])}")
        time.sleep(0.7)
        expected = kafka.view(one.ignores_time)
    deadline = time.monotonic() + SETTLE_S
    while True:
        got = odradek.view(one.ignores_time)
        if got == expected:
            return
        if time.monotonic() > deadline:
            for what, value in expected.items():
                differ(what, got[what], value)
        time.sleep(0.3)


def differ(what, got, expected):
    if got == expected:
        return
    if isinstance(got, dict):
        names = [name for name in {**got, **expected} if got.get(name) != expected.get(name)]
        got, expected = ({name: both.get(name) for name in names} for both in (got, expected))
    elif isinstance(got, list) and len(got) == len(expected):
        pairs = [pair for pair in zip(got, expected) if pair[0] != pair[1]]
        got, expected = pairs[0]
    raise Wrong(f"{what}: {short(got)}, Apache Kafka: {short(expected)}")


def short(thing):
    text = repr(thing)
    return text if len(text) <= 300 else f"{text[:280]}... ({len(text)} characters)"


def main():
    part, facts, *rest = sys.argv[1:]
    path = pathlib.Path(facts)
    if not path.exists():
        path.write_text(json.dumps({"now_ms": int(time.time() * 1000)}), encoding="utf-8")
    now_ms = json.loads(path.read_text(encoding="utf-8"))["now_ms"]
    odradek, kafka = Broker("Odradek", *rest[:2], now_ms), Broker("Apache Kafka", *rest[2:4], now_ms)
    for name in rest[4:] or CASES:
        one = CASES[name]
        if part == "cases":
            test(name, do, one, odradek, kafka)
        else:
            test(name, compare, one, odradek, kafka)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
