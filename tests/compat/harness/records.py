"""The records that a run produces, known beforehand: what each partition must hold at each offset.

A `Ledger` is the truth of one topic. Records are entered before they are produced, each into a partition that it names, so
the offset of every one is known without asking the broker: partitions are dense and start at 0.
"""

import base64
import dataclasses
import hashlib
import threading

from . import Failure

# One value per codec that spans several fetch buffers of a small client and compresses, and one that does not compress.
LARGE_VALUE_BYTES = 150_000


@dataclasses.dataclass(frozen=True)
class Record:
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple = ()
    timestamp: int | None = None

    def to_json(self):
        return {
            "partition": self.partition,
            "key": encode(self.key),
            "value": encode(self.value),
            "headers": [[name, encode(value)] for name, value in self.headers],
            "timestamp": self.timestamp,
        }


def encode(data):
    return None if data is None else base64.b64encode(data).decode("ascii")


def decode(text):
    return None if text is None else base64.b64decode(text)


def from_json(event):
    return Record(
        partition=event["partition"], key=decode(event["key"]), value=decode(event["value"]),
        headers=tuple((name, decode(value)) for name, value in event["headers"]), timestamp=event["timestamp"],
    )


def make(stage, codec, partitions, count, first_timestamp, abilities):
    """`count` records for each partition, no two alike, among them the awkward ones that the client can send."""
    records = []
    for partition in range(partitions):
        for index in range(count):
            name = f"{stage}/{codec}/{partition}/{index}"
            records.append(Record(
                partition=partition,
                key=_key(name, index, abilities),
                value=_value(name, index, partition, abilities),
                headers=_headers(name, index, abilities),
                timestamp=first_timestamp + len(records) if "timestamps" in abilities else None,
            ))
    return records


def _key(name, index, abilities):
    if index % 5 == 3:
        return None if "null keys" in abilities else f"key {name}".encode()
    if index % 5 == 4 and "empty keys" in abilities:
        return b""
    return f"key {name} \u00fc\u4e16".encode() + (b"\x00\xff\n\t" if "binary" in abilities else b"")


def _value(name, index, partition, abilities):
    if index == 5 and "null values" in abilities:
        return None
    if index == 6 and "empty values" in abilities:
        return b""
    if index == 7 and partition == 0:
        return (f"large {name};".encode() * LARGE_VALUE_BYTES)[:LARGE_VALUE_BYTES]
    if index == 8 and partition == 1 and "binary" in abilities:
        return b"".join(hashlib.sha512(f"{name} {i}".encode()).digest() for i in range(LARGE_VALUE_BYTES // 64))
    return f"value {name} \u00fc\u4e16".encode() + (b"\x00\xff\n\t" if "binary" in abilities else b"")


def _headers(name, index, abilities):
    if "headers" not in abilities or index % 3 == 2:
        return ()
    headers = [("name", name.encode()), ("\u00fcnicode", b"\x00\xff\n")]
    if "empty headers" in abilities:
        headers.append(("empty", b""))
    if index % 3 == 1 and "null headers" in abilities:
        headers += [("null", None), ("name", b"again")]
    return tuple(headers)


class Ledger:
    """What a topic of `partitions` partitions must hold. Safe to use from several threads."""

    def __init__(self, partitions):
        self._partitions = [[] for _ in range(partitions)]
        self._lock = threading.Lock()

    def enter(self, records):
        """Enters the records, in order, and returns the offset that each must get."""
        with self._lock:
            offsets = []
            for record in records:
                partition = self._partitions[record.partition]
                offsets.append(len(partition))
                partition.append(record)
            return offsets

    def ends(self):
        with self._lock:
            return {partition: len(records) for partition, records in enumerate(self._partitions)}

    def all_positions(self):
        return {(partition, offset) for partition, end in self.ends().items() for offset in range(end)}

    def first_since(self, partition, timestamp):
        """The first offset whose record is of that time or later; None if there is none."""
        with self._lock:
            records = enumerate(self._partitions[partition])
            return next((offset for offset, record in records if record.timestamp >= timestamp), None)

    def timestamp(self, partition, offset):
        with self._lock:
            return self._partitions[partition][offset].timestamp

    def check(self, got, offset):
        """Fails unless `got` is, field by field, what was produced at its partition and offset. A time that the client gave
        a record by itself is taken from the first that reads it; to all others it has to be the same."""
        with self._lock:
            partition = self._partitions[got.partition] if 0 <= got.partition < len(self._partitions) else []
            if not 0 <= offset < len(partition):
                raise Failure(f"a record nobody produced: partition {got.partition} offset {offset}, value {_short(got.value)}")
            expected = partition[offset]
        for field in dataclasses.fields(Record):
            want, have = getattr(expected, field.name), getattr(got, field.name)
            if field.name == "timestamp" and want is None:
                with self._lock:
                    partition[offset] = dataclasses.replace(expected, timestamp=have)
                continue
            if want != have:
                raise Failure(
                    f"partition {got.partition} offset {offset}: {field.name} is {_short(have)}, produced was {_short(want)}"
                )


def _short(thing):
    text = repr(thing)
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"
