"""The cases of differential.py, and what is compared after each.

    python differential_client.py cases|restarted|killed FACTS ODRADEK ITS_DIRECTORY KAFKA ITS_DIRECTORY [CASE..]

A case is a function that is given one broker and does the same to each; what it returns (errors, answers) has to be the
same, and so has what is seen afterwards. A new case is a function with `@case(...)`: `settles` says, of Apache Kafka's view,
when its background work is done. FACTS keeps what is the same for every part: the clock that the records go by.
Batches are made here and not by a client, so that both brokers get the same bytes; a client reads the records.
Prints for each test a line of JSON: {"test":NAME,"failure":TEXT or null,"seconds":S}.
"""

import dataclasses
import json
import os
import pathlib
import random
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

import protocol

TIMEOUT_S = 15
# Background work of one broker that the other has done already.
SETTLE_S = 12
HOUR_MS = 3_600_000
MIB = 1 << 20
# Times that stand for a place in the log.
LATEST, EARLIEST, MAX_TIMESTAMP = -1, -2, -3
# Apache Kafka has no better one for what its codecs cannot read; clients see a batch that is refused for good.
UNKNOWN_SERVER_ERROR, INVALID_RECORD = -1, 87

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


def case(settings=None, settles=lambda broker: True, ignores_time=False):
    def add(run):
        name = run.__name__.replace("_", "-")
        CASES[name] = Case(name, settings or {}, run, settles, ignores_time)
        return run

    return add


class Broker:
    """One of the two, with a topic of one partition for the case."""

    def __init__(self, name, address, directory, now_ms):
        self.name = name
        self.directory = pathlib.Path(directory)
        self.now_ms = now_ms
        self.admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        self.consumer = Consumer({
            "bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False, "log_level": 0,
            "enable.partition.eof": True, "auto.offset.reset": "error", "check.crcs": True, "fetch.wait.max.ms": 10,
        })
        self.connection = protocol.Connection(address)
        self.topic = None
        # Records of topics that were read together: a consumer needs a second to begin.
        self.read = {}

    def create(self, settings):
        topic = NewTopic(self.topic, num_partitions=1, replication_factor=1, config=settings)
        for answer in self.admin.create_topics([topic], operation_timeout=TIMEOUT_S).values():
            answer.result(TIMEOUT_S)
        # Apache Kafka answers before it leads.
        self.wait(lambda: self.connection.list_offset(self.topic, LATEST)[0] == 0, "leads")

    def wait(self, is_so, what):
        deadline = time.monotonic() + TIMEOUT_S
        while not is_so():
            if time.monotonic() > deadline:
                raise Wrong(f"it did not come to be that {self.name} {what}")
            time.sleep(0.05)

    def produce(self, batches, codec="none", pause_s=0, **options):
        """Batches of (key, value, timestamp) records; of each that was refused its place, the error and which records."""
        told = []
        for place, records in enumerate(batches):
            time.sleep(pause_s)
            error, _, named, text = self.connection.produce(self.topic, protocol.batch(records, codec, **options))
            if error:
                told.append((place, error, named, text is not None))
        return told

    def delete_records(self, offset, topic=None):
        return self.connection.delete_records(topic or self.topic, offset)

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
        except KafkaException as error:
            return error.args[0].name()
        # Apache Kafka answers before it knows.
        known = {name.replace("_", "."): value for name, value in settings.items() if value is not None}
        self.wait(lambda: known.items() <= {name: value for name, (value, _) in self.settings().items()}.items(), "knows")
        return None

    def settings(self):
        """The settings in force, with where they come from."""
        resource = ConfigResource(ResourceType.TOPIC, self.topic)
        found = self.admin.describe_configs([resource])[resource].result(TIMEOUT_S)
        return {name: (entry.value, int(entry.source)) for name, entry in found.items()}

    def offset(self, timestamp):
        error, offset, found = self.connection.list_offset(self.topic, timestamp)
        if error:
            raise Wrong(f"{self.name}: error {error} for the offset of {timestamp}")
        return offset, found

    def view(self, ignores_time=False):
        """What a consumer sees of the topic, and what lies on disk."""
        first, end = self.offset(EARLIEST)[0], self.offset(LATEST)[0]
        records = self._records()
        times = sorted({record[1] for record in records})
        asked = [] if ignores_time else [
            moment for seen in times[:: max(1, len(times) // 20)] for moment in (seen - 1, seen, seen + 1)
        ]
        newest = self.offset(MAX_TIMESTAMP)
        if newest[0] < first:
            # Apache Kafka names a record that is deleted already.
            newest = (-1, -1)
        return {
            "first and last offset": (first, end),
            "records": [(*record[:1], None, *record[2:]) for record in records] if ignores_time else records,
            "batches": self._batches(first, end, ignores_time),
            "offsets by time": {moment: self.offset(moment) for moment in asked},
            "newest record": newest[:1] if ignores_time else newest,
            "segments": self.segments() if end > 0 else [],
        }

    def segments(self):
        names = (self.directory / f"{self.topic}-0").glob("*.log")
        return sorted(int(path.stem) for path in names)

    def _batches(self, first, end, ignores_time):
        found, offset = [], first
        while offset < end:
            error, _, data = self.connection.fetch(self.topic, offset)
            if error:
                raise Wrong(f"{self.name}: error {error} for a fetch of {offset}")
            headers = protocol.headers(data)
            if not headers:
                break
            found += headers
            offset = headers[-1].last_offset + 1
        return [(*known(header), *((None,) if ignores_time else (header.max_timestamp,))) for header in found]

    def _records(self):
        if self.topic not in self.read:
            self.read_together([self.topic])
        return self.read.pop(self.topic)

    def read_together(self, topics):
        """Reads all records of these topics."""
        starts = {}
        for topic in topics:
            (_, first, _), (_, end, _) = (self.connection.list_offset(topic, at) for at in (EARLIEST, LATEST))
            self.read[topic] = []
            if first < end:
                starts[topic] = first
        if not starts:
            return
        self.consumer.assign([TopicPartition(topic, 0, first) for topic, first in starts.items()])
        deadline = time.monotonic() + TIMEOUT_S
        try:
            while starts:
                if time.monotonic() > deadline:
                    raise Wrong(f"{self.name} did not give the records of {', '.join(starts)} to the end")
                for message in self.consumer.consume(1000, 0.02):
                    if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                        starts.pop(message.topic(), None)
                        continue
                    if message.error():
                        raise Wrong(f"{self.name}: {message.error()}")
                    kind, timestamp = message.timestamp()
                    headers = tuple(message.headers() or ())
                    self.read[message.topic()].append(
                        (message.offset(), timestamp, kind, message.key(), message.value(), headers)
                    )
        finally:
            self.consumer.unassign()


def known(header):
    """What has to be the same in a batch's header: not the base timestamp, from which the records' count, or which is the
    delete horizon, a time of the round that set it."""
    return header.base_offset, header.last_offset, header.attributes, header.count


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


def refusals(told):
    """Without the texts, of which each broker has its own where it has one."""
    return [
        (place, INVALID_RECORD if error == UNKNOWN_SERVER_ERROR else error, named)
        for answers in told for place, error, named, _ in answers
    ]


def has_let_go(broker):
    return broker.offset(EARLIEST)[0] > 0


def is_empty(broker):
    return broker.offset(EARLIEST) == broker.offset(LATEST)


def is_cleaned(broker):
    """Up to the active segment: what was cleaned fits into one. Seen twice, since a look may miss a file that is replaced."""

    def looks_so():
        folder = broker.directory / f"{broker.topic}-0"
        is_at_work = any(True for suffix in ("cleaned", "swap") for _ in folder.glob(f"*.log.{suffix}"))
        return len(broker.segments()) <= 2 and not is_at_work

    if not looks_so():
        return False
    time.sleep(0.1)
    return looks_so()


# Retention


@case({"segment.bytes": str(MIB), "retention.bytes": str(2 * MIB), "retention.ms": "-1"}, has_let_go)
def retention_by_size(broker):
    return broker.produce(batches(100, 50, lambda batch: broker.now_ms + batch * 100))


@case({"segment.bytes": str(MIB), "retention.ms": "-1"}, has_let_go)
def retention_by_time(broker):
    def timestamp(batch):
        return broker.now_ms - (3 * HOUR_MS if batch < 50 else 0) + batch * 100

    # Set when all is there: a check in between would roll a segment whose records are old so far.
    return broker.produce(batches(100, 50, timestamp)), broker.alter(retention_ms=str(HOUR_MS))


@case({"segment.bytes": str(MIB), "retention.ms": "-1"}, has_let_go)
def retention_by_time_and_size(broker):
    def timestamp(batch):
        return broker.now_ms - (3 * HOUR_MS if batch < 25 else 0) + batch * 100

    told = [broker.produce(batches(100, 50, timestamp), codec="none")]
    told.append(broker.alter(retention_ms=str(HOUR_MS), retention_bytes=str(3 * MIB)))
    return told


@case({"segment.bytes": str(MIB), "retention.ms": str(HOUR_MS)}, is_empty)
def retention_of_the_active_segment(broker):
    return broker.produce(batches(30, 50, lambda batch: broker.now_ms - 3 * HOUR_MS + batch * 100))


@case({"segment.bytes": str(MIB), "retention.ms": "-1"}, has_let_go)
def a_young_record_keeps_what_is_behind_it(broker):
    def timestamp(batch):
        return broker.now_ms - (0 if batch == 30 else 3 * HOUR_MS)

    return broker.produce(batches(80, 50, timestamp)), broker.alter(retention_ms=str(HOUR_MS))


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
    # Apart in time: of two that came in the same millisecond the first would be the newest.
    made = batches(3, 4, lambda batch: broker.now_ms - batch * HOUR_MS)
    told = [broker.produce(made, codec, pause_s=0.005) for codec in protocol.CODECS]
    told.append(broker.alter(message_timestamp_type="CreateTime"))
    told.append(broker.produce(batches(2, 4, lambda batch: broker.now_ms)))
    return told


@case({"message.timestamp.before.max.ms": str(2 * HOUR_MS), "message.timestamp.after.max.ms": str(4 * HOUR_MS)})
def timestamps_out_of_bounds(broker):
    hours = [0, -1, -3, -1, 3, 5, 0]
    told = [broker.produce(batches(len(hours), 2, lambda batch: broker.now_ms + hours[batch] * HOUR_MS))]
    for codec in protocol.CODECS:
        # One record alone is out of bounds, or several; one that has no time is not.
        for offsets in ([0, -3, 1], [0, 5], [-3, 0, 5, 1, -3], [-1, -2.1, 4.1]):
            records = [(None, b"value", broker.now_ms + int(offset * HOUR_MS)) for offset in offsets]
            told.append(broker.produce([records], codec))
        told.append(broker.produce([[(None, b"no time", -1), (b"k", b"nor here", -1)]], codec))
        told.append(broker.produce([[(None, b"now", broker.now_ms), (b"k", b"no time", -1)]], codec))
    # As a consumer of old records would alter them.
    told.append(broker.alter(message_timestamp_before_max_ms=str(4 * HOUR_MS)))
    told.append(broker.produce([[(None, b"old", broker.now_ms - 3 * HOUR_MS)]]))
    return told


@case()
def headers_that_lie_about_time(broker):
    told = []
    for codec in protocol.CODECS:
        records = [(None, b"%d" % index, broker.now_ms + time_ms) for index, time_ms in enumerate((5, 900, 30))]
        for claimed in (broker.now_ms - 100_000, broker.now_ms + 50, broker.now_ms + 100 * HOUR_MS, -1, 0, -77):
            told.append(broker.produce([records], codec, max_timestamp=claimed))
        told.append(broker.produce([records], codec, attributes=8 | protocol.CODECS.index(codec)))
    return told


@case()
def batches_that_are_broken(broker):
    told = []
    records = [(b"key", b"value %d" % index, broker.now_ms + index) for index in range(20)]
    sound = protocol.batch(records)[61:]
    for codec in protocol.CODECS:
        compress = protocol.COMPRESS[codec]
        for payload in (compress(sound[:-3]), compress(sound + b"more"), compress(b"\xff" * 100), compress(sound)[:-9]):
            told.append(broker.produce([records], codec, payload=payload))
        for fields in ({"count": 19}, {"count": 21}, {"last_offset_delta": 18}, {"count": 0}, {"last_offset_delta": -1}):
            told.append(broker.produce([records], codec, **fields))
        told.append(broker.produce([records], codec))
    return refusals(told)


@case({"max.decompressed.message.bytes": "100000"})
def batches_that_hold_more_than_is_allowed(broker):
    told = []
    for codec in protocol.CODECS:
        for size in (1000, 90_000, 99_980, 110_000, 500_000):
            told.append(broker.produce([[(None, b"." * size, broker.now_ms)]], codec))
    return refusals(told)


@case({"index.interval.bytes": "1000"})
def offsets_by_time(broker):
    return broker.produce(batches(60, 5, lambda batch: broker.now_ms + (batch * 37 % 60) * 1000, value_bytes=200))


@case({"index.interval.bytes": "1000"})
def offsets_by_time_in_compressed_batches(broker):
    return [
        broker.produce(batches(6, 9, lambda batch: broker.now_ms + batch * 1000, value_bytes=200), codec)
        for codec in ("gzip", "snappy", "lz4", "zstd")
    ]


# Compaction


def compacted(**settings):
    """Settings of a topic that is not cleaned before `clean` says so: what a round sees is then the same for both."""
    return {
        "cleanup.policy": "compact", "segment.ms": "60000", "min.cleanable.dirty.ratio": "1.0",
        "delete.retention.ms": "86400000", **{name.replace("_", "."): value for name, value in settings.items()},
    }


def fill(broker, count, size, keys, codec="none", start=0, **options):
    """`count` batches, with a segment for every five of them, and one that closes the last."""
    told = broker.produce(
        batches(count, size, lambda batch: broker.now_ms - HOUR_MS + (start + batch // 5) * 61_000, 50, keys), codec, **options
    )
    closing = broker.now_ms - HOUR_MS + (start + count // 5 + 1) * 61_000
    return told + broker.produce([[(b"closes", b"%d" % start, closing)]])


def clean(broker):
    """Has the log cleaned, up to its active segment."""
    told = broker.alter(min_cleanable_dirty_ratio="0.001")
    broker.wait(lambda: is_cleaned(broker), "compacts")
    return told, broker.alter(min_cleanable_dirty_ratio="1.0")


def tombstones(broker, keys, place, codec="none"):
    records = [(b"key %d" % key, None, broker.now_ms - HOUR_MS + place * 61_000) for key in keys]
    return broker.produce([records], codec)


def compaction_with(codec):
    def run(broker):
        told = [fill(broker, 40, 7, 23, codec)]
        told.append(tombstones(broker, range(0, 23, 3), 20, codec))
        told.append(fill(broker, 5, 3, 4, codec, start=21))
        told.append(clean(broker))
        return told

    run.__name__ = f"compaction_with_{codec}"
    return run


for _codec in protocol.CODECS:
    case(compacted())(compaction_with(_codec))


@case(compacted())
def compaction_again(broker):
    told = [fill(broker, 30, 5, 17, "lz4"), clean(broker)]
    told += [fill(broker, 20, 5, 9, "zstd", start=10), clean(broker)]
    told += [fill(broker, 5, 1, 1, start=20), clean(broker)]
    return told


@case(compacted(delete_retention_ms="0"))
def tombstones_go_when_their_time_has_come(broker):
    told = [fill(broker, 20, 5, 13), tombstones(broker, range(13), 6), fill(broker, 5, 2, 3, start=7), clean(broker)]
    # The round before gave them their time; this one finds it past.
    time.sleep(0.01)
    told += [fill(broker, 5, 2, 3, start=10), clean(broker)]
    return told


@case(compacted())
def batches_of_idempotent_producers(broker):
    told = []
    for producer in (7001, 7002):
        for sequence in range(6):
            records = [
                (b"key %d" % index, b"%d %d" % (producer, sequence), broker.now_ms - HOUR_MS + sequence * 61_000)
                for index in range(4)
            ]
            told.append(broker.produce([records], producer=(producer, 0, sequence * 4)))
    told.append(fill(broker, 5, 4, 4, start=8))
    told.append(clean(broker))
    return told


@case(compacted(min_compaction_lag_ms=str(HOUR_MS)))
def young_records_are_not_compacted(broker):
    def timestamp(batch):
        return broker.now_ms - 3 * HOUR_MS + batch * HOUR_MS // 10

    told = [broker.produce(batches(30, 5, timestamp, 50, 6))]
    before = len(broker.segments())
    told.append(broker.alter(min_cleanable_dirty_ratio="0.001"))
    broker.wait(lambda: len(broker.segments()) < before, "compacts")
    return told


@case(compacted(max_compaction_lag_ms=str(2 * HOUR_MS), segment_ms=str(24 * HOUR_MS)))
def old_records_are_compacted_whatever_their_share(broker):
    # Segments are rolled by the lag; no share of dirty bytes is enough for a round.
    def timestamp(batch):
        return broker.now_ms - 20 * HOUR_MS + batch * HOUR_MS // 2

    told = [broker.produce(batches(40, 5, timestamp, 50, 6))]
    broker.wait(lambda: is_cleaned(broker), "compacts")
    return told


@case(compacted(cleanup_policy="compact,delete", retention_ms="-1"))
def compaction_and_retention(broker):
    def timestamp(batch):
        return broker.now_ms - (3 * HOUR_MS if batch < 20 else HOUR_MS // 2) + batch * 30_000

    told = [broker.produce(batches(40, 5, timestamp, 50, 11)), broker.alter(retention_ms=str(HOUR_MS))]
    # The other way round a round would put what is old into one segment with what is not.
    broker.wait(lambda: broker.offset(EARLIEST)[0] == 100 and broker.segments()[0] == 100, "lets old records go")
    told.append(clean(broker))
    return told


@case(compacted(segment_ms=str(HOUR_MS), max_compaction_lag_ms="1000"))
def time_alone_rolls_no_segment(broker):
    # Old enough for the lag and for `segment.ms`, and in an active segment until something is appended.
    return broker.produce(batches(3, 5, lambda batch: broker.now_ms - 3 * HOUR_MS, 50, 4))


@case({"cleanup.policy": "compact"})
def records_without_a_key(broker):
    told = []
    for codec in protocol.CODECS:
        for keys in ([b"a", None, b""], [None, None], [b"a", b"b"]):
            told.append(broker.produce([[(key, b"value", broker.now_ms) for key in keys]], codec))
        # The reason that is named first is the missing key, but one bad time makes it a matter of time.
        told.append(broker.produce([[(None, b"1", broker.now_ms + 9 * HOUR_MS), (b"k", b"2", broker.now_ms)]], codec))
        told.append(broker.produce([[(None, b"1", broker.now_ms), (b"k", b"2", broker.now_ms + 9 * HOUR_MS)]], codec))
    return told


# Recompression


def recompression_to(kind, **levels):
    settings = {"compression.type": kind, **{f"compression.{name}.level": level for name, level in levels.items()}}

    def run(broker):
        told = []
        for codec in protocol.CODECS:
            told.append(broker.produce(batches(3, 40, lambda batch: broker.now_ms + batch * 100, keys=7), codec))
            told.append(broker.produce([[(None, b"", broker.now_ms)]], codec, producer=(9000, 0, 0)))
            # There already, also where it is told apart by more than its bytes.
            told.append(broker.produce([[(None, b"", broker.now_ms)]], codec, producer=(9000, 0, 0)))
            # Refused as what was sent, not as what became of it.
            told.append(broker.produce([[(None, b"late", broker.now_ms + 99 * HOUR_MS), (None, b"", broker.now_ms)]], codec))
            told.append(broker.produce([[(None, b"lies", broker.now_ms)]], codec, max_timestamp=broker.now_ms - 5))
            told += [refusals([broker.produce([[(None, b"few", broker.now_ms)]], codec, count=2)])]
            # Larger than the topic takes, before or after.
            noise = random.Random(1).randbytes(60_000)
            told.append(refusals([broker.produce([[(None, b"." * 60_000, broker.now_ms)]], codec)]))
            told.append(refusals([broker.produce([[(None, noise, broker.now_ms)]], codec)]))
        told.append(broker.alter(compression_type="producer"))
        told.append(broker.produce(batches(1, 5, lambda batch: broker.now_ms), "gzip"))
        told.append(broker.alter(compression_type="uncompressed", message_timestamp_type="LogAppendTime"))
        told.append([answers[:2] for answers in broker.produce(batches(1, 5, lambda batch: broker.now_ms), "lz4")])
        return told

    run.__name__ = f"recompression_to_{kind}"
    case({**settings, "max.message.bytes": "50000"}, ignores_time=True)(run)


recompression_to("uncompressed")
recompression_to("gzip", gzip="9")
recompression_to("snappy")
recompression_to("lz4", lz4="17")
recompression_to("zstd", zstd="-7")


# Settings


@case({"retention.ms": "7200000", "cleanup.policy": "compact,delete"})
def described_settings(broker):
    told = broker.settings()
    # Odradek has one of its own, and Apache Kafka writes one for the whole cluster when it formats a directory.
    told.pop("durability", None)
    told["min.insync.replicas"] = told["min.insync.replicas"][:1]
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


def settle(broker, chosen):
    for one in chosen:
        broker.topic = one.name
        broker.wait(lambda one=one: one.settles(broker), f"settles {one.name}")
    # What is to go goes with one of the next checks, which come every half second.
    time.sleep(1.2)


def compare(one, odradek, kafka):
    odradek.topic = kafka.topic = one.name
    deadline = time.monotonic() + SETTLE_S
    expected = kafka.view(one.ignores_time)
    while True:
        got = odradek.view(one.ignores_time)
        if got == expected:
            return
        if time.monotonic() > deadline:
            for what, value in expected.items():
                differ(what, got[what], value)
        time.sleep(0.2)
        # Apache Kafka may not have been at its end.
        expected = kafka.view(one.ignores_time)


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
    chosen = [CASES[name] for name in rest[4:] or CASES]
    # All are made before the first is compared: the waits for background work pass together.
    for one in chosen if part == "cases" else []:
        test(f"{one.name}: answers", do, one, odradek, kafka)
    for broker in (odradek, kafka):
        test(f"{broker.name} settles", settle, broker, chosen)
        test(f"{broker.name} gives all records", broker.read_together, [one.name for one in chosen])
    for one in chosen:
        test(one.name, compare, one, odradek, kafka)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
