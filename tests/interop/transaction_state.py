"""Writes into the log of `__transaction_state` of a stopped broker what its coordinator writes when it is decided how a transaction ends.

A coordinator is in that state for a moment only, between its decision and the markers, which no test can hit. So the decision is
appended here, in the format of either broker, behind all that is in the log: a copy of the id's newest record, with the
other state, and for a client of the second generation (KIP-890) with the next epoch.
"""

import struct
import time

from harness import Failure, batches

ONGOING = 1
PREPARED = {"commit": 2, "abort": 3}
# A batch: base offset, length, leader epoch, magic, CRC; the CRC covers what follows.
HEAD = struct.Struct(">qiibI")
# Attributes, last offset delta, first and largest timestamp, producer id, epoch, sequence, count of records.
REST = struct.Struct(">hiqqqhii")
# A value: version, producer id, epoch, timeout, state; the partitions follow, and the times.
VALUE = struct.Struct(">hqhib")
PREVIOUS_PRODUCER_ID, CLIENT_VERSION = 0, 2


def decide(data_dir, transactional_id, outcome, client_version):
    """The transaction of this id, which is open, is to end so, by a client of this generation."""
    for folder in sorted(data_dir.glob("__transaction_state-*")):
        logs = sorted(folder.glob("*.log"))
        if not logs:
            continue
        end, last, newest = _walk(logs[-1], transactional_id)
        if newest is not None:
            batch = _batch(last, transactional_id, _decided(newest, outcome, client_version))
            with open(logs[-1], "r+b") as log:
                log.seek(end)
                log.write(batch)
            return
    raise Failure(f"no record of {transactional_id} in {data_dir}")


def _walk(path, transactional_id):
    """Where the last whole batch ends, (next offset, leader epoch), and the id's newest value."""
    data, at, newest, last = path.read_bytes(), 0, None, (0, 0)
    while at + HEAD.size + REST.size <= len(data):
        base, length, leader_epoch, magic, crc = HEAD.unpack_from(data, at)
        batch = data[at : at + 12 + length]
        if length <= 0 or magic != 2 or batches.crc32c(batch[HEAD.size :]) != crc:
            break
        _flags, last_delta, *_, count = REST.unpack_from(batch, HEAD.size)
        for key, value in _records(batch[HEAD.size + REST.size :], count):
            if key[4:].decode() == transactional_id:
                newest = value
        last = (base + last_delta + 1, leader_epoch)
        at += 12 + length
    return at, last, newest


def _records(data, count):
    at = 0
    for _ in range(count):
        size, at = _varint(data, at)
        end = at + size
        at += 1  # attributes
        _timestamp, at = _varint(data, at)
        _offset, at = _varint(data, at)
        parts = []
        for _ in range(2):
            size, at = _varint(data, at)
            parts.append(None if size < 0 else data[at : at + size])
            at += max(size, 0)
        yield parts
        at = end


def _varint(data, at):
    number, at = _unsigned(data, at)
    return (number >> 1) ^ -(number & 1), at


def _unsigned(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _decided(value, outcome, client_version):
    version, producer_id, epoch, timeout, state = VALUE.unpack_from(value)
    if state != ONGOING:
        raise Failure(f"a transaction is in state {state}, not open")
    body = value[VALUE.size :]
    if client_version == 2:
        if version < 1:
            raise Failure("the record has no place for a client's generation")
        body, tags = _tagged(body)
        tags |= {PREVIOUS_PRODUCER_ID: struct.pack(">q", producer_id), CLIENT_VERSION: struct.pack(">h", client_version)}
        body += batches.unsigned(len(tags)) + b"".join(
            batches.unsigned(tag) + batches.unsigned(len(data)) + data for tag, data in sorted(tags.items())
        )
        epoch += 1
    return VALUE.pack(version, producer_id, epoch, timeout, PREPARED[outcome]) + body


def _tagged(body):
    """What comes before the tagged fields, and these by their tags."""
    at = 0

    def number():
        nonlocal at
        value, at = _unsigned(body, at)
        return value

    for _ in range(number() - 1):  # topics
        length = number() - 1
        at += length
        count = number() - 1
        at += 4 * count  # partitions
        if number():
            raise Failure("a topic of the record has tagged fields")
    at += 16  # the times
    plain, tags = body[:at], {}
    for _ in range(number()):
        tag, size = number(), number()
        tags[tag] = body[at : at + size]
        at += size
    if at != len(body):
        raise Failure(f"{len(body) - at} bytes are left behind the record's tagged fields")
    return plain, tags


def _batch(last, transactional_id, value):
    offset, leader_epoch = last
    name = transactional_id.encode()
    record = batches.record(0, 0, struct.pack(">hh", 0, len(name)) + name, value)
    now = int(time.time() * 1000)
    rest = REST.pack(0, 0, now, now, -1, -1, -1, 1) + record
    return HEAD.pack(offset, len(rest) + HEAD.size - 12, leader_epoch, 2, batches.crc32c(rest)) + rest
