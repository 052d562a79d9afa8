"""As much of Kafka's protocol as a test needs that wants to say itself what is in a batch, and see what is in an answer.

`Connection` sends one request at a time; `batch` makes record batches, sound ones or, with `header`, such as lie.
"""

import dataclasses
import gzip
import pathlib
import socket
import struct
import sys

import lz4.frame
import snappy
import zstandard
from aiokafka.record.util import calc_crc32c

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "compat"))

from harness.batches import record  # noqa: E402

TIMEOUT_S = 60
# Produce, Fetch, ListOffsets, DeleteRecords: the last versions before the compact encoding; of ListOffsets the one that knows of
# the largest timestamp.
PRODUCE = (0, 8)
FETCH = (1, 11)
LIST_OFFSETS = (2, 7)
DELETE_RECORDS = (21, 1)
FETCH_BYTES_MAX = 64 << 20
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

COMPRESS = {
    "none": bytes,
    "gzip": gzip.compress,
    "snappy": lambda plain: b"\x82SNAPPY\0" + struct.pack(">iii", 1, 1, len(raw := snappy.compress(plain))) + raw,
    "lz4": lambda plain: lz4.frame.compress(plain, block_linked=False),
    "zstd": zstandard.ZstdCompressor().compress,
}


def batch(records, codec="none", producer=(-1, -1, -1), payload=None, **header):
    """A batch of (key, value, timestamp) records. `payload` takes their place, and `header` that of its fields."""
    base = records[0][2]
    plain = b"".join(
        record(delta, timestamp - base, key, value) for delta, (key, value, timestamp) in enumerate(records)
    )
    fields = {
        "attributes": CODECS.index(codec),
        "last_offset_delta": len(records) - 1,
        "base_timestamp": base,
        "max_timestamp": max(timestamp for _, _, timestamp in records),
        "count": len(records),
        **header,
    }
    checked = struct.pack(
        ">hiqqqhii", fields["attributes"], fields["last_offset_delta"], fields["base_timestamp"], fields["max_timestamp"],
        *producer, fields["count"],
    ) + (COMPRESS[codec](plain) if payload is None else payload)
    return struct.pack(">qiibI", 0, len(checked) + 9, -1, 2, calc_crc32c(checked)) + checked


@dataclasses.dataclass(frozen=True)
class Batch:
    """What the header of a stored batch says."""

    base_offset: int
    last_offset: int
    attributes: int
    base_timestamp: int
    max_timestamp: int
    count: int


def headers(data):
    """The headers of the whole batches in what a fetch gave."""
    found, at = [], 0
    while at + 61 <= len(data):
        base_offset, length = struct.unpack_from(">qi", data, at)
        if at + 12 + length > len(data):
            break
        attributes, delta, base_timestamp, max_timestamp = struct.unpack_from(">hiqq", data, at + 21)
        (count,) = struct.unpack_from(">i", data, at + 57)
        found.append(Batch(base_offset, base_offset + delta, attributes, base_timestamp, max_timestamp, count))
        at += 12 + length
    return found


def _string(text):
    return struct.pack(">h", len(text)) + text.encode()


class Answer:
    """Reads forward."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return values if len(values) > 1 else values[0]

    def string(self):
        length = self.take("h")
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def bytes(self):
        length = max(self.take("i"), 0)
        self.at += length
        return self.data[self.at - length : self.at]


class Connection:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, api, body, tagged=b""):
        key, version = api
        frame = struct.pack(">hhih", key, version, 1, -1) + tagged + body
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)
        (length,) = struct.unpack(">i", self._receive(4))
        answer = Answer(self._receive(length))
        answer.take("i")
        return answer

    def _receive(self, length):
        data = bytearray()
        while len(data) < length:
            part = self.socket.recv(min(length - len(data), 1 << 20))
            if not part:
                raise ConnectionError("the broker closed the connection")
            data += part
        return bytes(data)

    def produce(self, topic, data, acks=-1):
        """The error, the base offset, the numbers of the records that are named as wrong, and the text."""
        body = struct.pack(">hhi", -1, acks, TIMEOUT_S * 1000) + struct.pack(">i", 1) + _string(topic)
        body += struct.pack(">iii", 1, 0, len(data)) + data
        answer = self.call(PRODUCE, body)
        answer.take("i")
        answer.string()
        _, _, error, base_offset, _, _, count = answer.take("iihqqqi")
        named = []
        for _ in range(count):
            named.append(answer.take("i"))
            answer.string()
        return error, base_offset, named, answer.string()

    def fetch(self, topic, offset):
        """The error, the high watermark and the bytes."""
        body = struct.pack(">iiiibii", -1, 0, 1, FETCH_BYTES_MAX, 0, 0, -1)
        body += struct.pack(">i", 1) + _string(topic) + struct.pack(">iiiqqi", 1, 0, -1, offset, -1, FETCH_BYTES_MAX)
        answer = self.call(FETCH, body + struct.pack(">i", 0) + _string(""))
        answer.take("ihii")
        answer.string()
        _, _, error, high_watermark, _, _ = answer.take("iihqqq")
        for _ in range(max(answer.take("i"), 0)):
            answer.take("qq")
        answer.take("i")
        return error, high_watermark, answer.bytes()

    def list_offset(self, topic, timestamp):
        """The error, the offset and its timestamp."""
        name = bytes([len(topic) + 1]) + topic.encode()
        body = struct.pack(">ib", -1, 0) + b"\2" + name + b"\2" + struct.pack(">iiq", 0, -1, timestamp) + b"\0\0\0"
        answer = self.call(LIST_OFFSETS, body, tagged=b"\0")
        answer.take("b")
        answer.take("ib")
        answer.take(f"{answer.take('b') - 1}s")
        answer.take("b")
        _, error, found, offset, _ = answer.take("ihqqi")
        return error, offset, found

    def delete_records(self, topic, offset):
        """The error and the first offset that is left."""
        body = struct.pack(">i", 1) + _string(topic) + struct.pack(">iiqi", 1, 0, offset, TIMEOUT_S * 1000)
        answer = self.call(DELETE_RECORDS, body)
        answer.take("ii")
        answer.string()
        _, _, first, error = answer.take("iiqh")
        return error, first
