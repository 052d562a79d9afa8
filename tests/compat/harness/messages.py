"""Any message of Kafka's protocol as a tree of Python values, to bytes and back, by the table in crates/wire/schema.

A structure is a dict by field name, an array a list, `uuid` 16 bytes, `records` bytes. A value that no version has is left
out. Decoding what is not the message is a `Failure`.
"""

import dataclasses
import pathlib
import re
import struct

from . import Failure
from .batches import unsigned
from .install import REPO

SCHEMA = REPO / "crates" / "wire" / "schema" / "api"
NUMBERS = {"int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "int64": ">q", "float64": ">d", "bool": ">?"}
API_VERSIONS = 18


@dataclasses.dataclass
class Field:
    name: str
    type: str
    is_array: bool
    versions: tuple
    nullable: tuple | None
    tag: int | None
    fields: list | None


@dataclasses.dataclass
class Message:
    name: str
    key: int
    versions: tuple
    flexible: tuple | None
    fields: list


def load():
    """The requests and the responses, by API key."""
    requests, responses = {}, {}
    for path in sorted(pathlib.Path(SCHEMA).glob("*.txt")):
        for text in re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip()):
            lines = text.splitlines()
            head = re.match(r"(request|response) (\S+) key (\d+) versions (\S+) flexible (\S+)", lines[0])
            if head:
                kind, name, key, versions, flexible = head.groups()
                versions = _range(versions, None)
                flexible = None if flexible == "none" else _range(flexible, versions[1])
                message = Message(name, int(key), versions, flexible, _fields(lines[1:], versions[1], {}))
                (requests if kind == "request" else responses)[int(key)] = message
    return requests, responses


def _range(text, newest):
    first, dash, last = text.partition("-")
    if first.endswith("+"):
        return int(first[:-1]), newest
    return int(first), int(last) if dash else int(first)


def _fields(lines, newest, structures):
    fields = []
    while lines:
        indent = len(lines[0]) - len(lines[0].lstrip())
        words = lines.pop(0).split()
        below = []
        while lines and len(lines[0]) - len(lines[0].lstrip()) > indent:
            below.append(lines.pop(0))
        name, kind = words[0], words[1]
        if name == "struct":
            structures[kind] = _fields(below, newest, structures)
            continue
        is_null_always = kind.endswith("?")
        is_array = kind.startswith("[]")
        kind = kind.removeprefix("[]").removesuffix("?")
        versions, nullable, tag = (0, newest), (0, newest) if is_null_always else None, None
        rest = words[2:]
        while rest:
            word = rest.pop(0)
            if re.fullmatch(r"\d+(\+|-\d+)?", word):
                versions = _range(word, newest)
            elif word == "nullable":
                nullable = _range(rest.pop(0), newest)
            elif word == "tag":
                tag = int(rest.pop(0))
            elif word == "default":
                rest.pop(0)
        if below:
            structures[kind] = _fields(below, newest, structures)
        fields.append(Field(name, kind, is_array, versions, nullable, tag, structures.get(kind)))
    return fields


def has(versions, version):
    return versions is not None and versions[0] <= version <= versions[1]


def request(message, version, correlation_id, client_id, body):
    """A whole frame."""
    flexible = has(message.flexible, version)
    name = client_id.encode()
    head = struct.pack(">hhih", message.key, version, correlation_id, len(name)) + name + (b"\0" if flexible else b"")
    frame = bytearray(head)
    _write_fields(frame, message.fields, version, flexible, body)
    return struct.pack(">i", len(frame)) + bytes(frame)


def response(message, version, frame):
    """The tree of a response without its size."""
    reader = _Reader(frame)
    flexible = has(message.flexible, version)
    try:
        reader.take(4)
        if flexible and message.key != API_VERSIONS:
            reader.tags()
        tree = _read_fields(reader, message.fields, version, flexible)
        if reader.position != len(frame):
            raise Failure(f"{len(frame) - reader.position} bytes too many")
    except Failure as failure:
        raise Failure(f"{message.name} {version}: {failure}: {frame.hex()}") from None
    return tree


def _write_fields(out, fields, version, flexible, tree):
    tagged = []
    for field in fields:
        if not has(field.versions, version):
            continue
        if field.tag is not None:
            if field.name in tree:
                tagged.append(field)
            continue
        _write(out, field, version, flexible, tree.get(field.name, _DEFAULT))
    if flexible:
        out += unsigned(len(tagged))
        for field in sorted(tagged, key=lambda one: one.tag):
            value = bytearray()
            _write(value, field, version, flexible, tree[field.name])
            out += unsigned(field.tag) + unsigned(len(value)) + value


_DEFAULT = object()


def _write(out, field, version, flexible, value):
    if field.is_array:
        value = [] if value is _DEFAULT else value
        _write_length(out, None if value is None else len(value), flexible, ">i")
        for one in value or ():
            _write_one(out, field, version, flexible, one)
    else:
        _write_one(out, field, version, flexible, value)


def _write_one(out, field, version, flexible, value):
    if field.type in NUMBERS:
        out += struct.pack(NUMBERS[field.type], 0 if value is _DEFAULT else value)
    elif field.type == "uuid":
        out += bytes(16) if value is _DEFAULT else value
    elif field.type in ("string", "bytes", "records"):
        if value is _DEFAULT:
            value = None if field.nullable else ""
        raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        _write_length(out, None if raw is None else len(raw), flexible, ">h" if field.type == "string" else ">i")
        out += raw or b""
    elif field.nullable and not field.is_array and (value is None or value is _DEFAULT):
        out += b"\xff"
    else:
        out += b"\1" if field.nullable and not field.is_array else b""
        _write_fields(out, field.fields, version, flexible, {} if value is _DEFAULT else value)


def _write_length(out, length, flexible, form):
    if flexible:
        out += unsigned(0 if length is None else length + 1)
    else:
        out += struct.pack(form, -1 if length is None else length)


class _Reader:
    def __init__(self, data):
        self.data, self.position = data, 0

    def take(self, count):
        if count < 0 or self.position + count > len(self.data):
            raise Failure(f"{count} bytes at {self.position} of {len(self.data)}")
        self.position += count
        return self.data[self.position - count : self.position]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def unsigned(self):
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def length(self, flexible, form):
        return self.unsigned() - 1 if flexible else self.number(form)

    def tags(self):
        return {self.unsigned(): self.take(self.unsigned()) for _ in range(self.unsigned())}


def _read_fields(reader, fields, version, flexible):
    tree = {}
    here = [field for field in fields if has(field.versions, version)]
    for field in here:
        if field.tag is None:
            tree[field.name] = _read(reader, field, version, flexible)
    if flexible:
        tags = reader.tags()
        for field in here:
            if field.tag in tags:
                tree[field.name] = _read(_Reader(tags[field.tag]), field, version, flexible)
    return tree


def _read(reader, field, version, flexible):
    if not field.is_array:
        return _read_one(reader, field, version, flexible)
    length = reader.length(flexible, ">i")
    return None if length < 0 else [_read_one(reader, field, version, flexible) for _ in range(length)]


def _read_one(reader, field, version, flexible):
    if field.type in NUMBERS:
        return reader.number(NUMBERS[field.type])
    if field.type == "uuid":
        return bytes(reader.take(16))
    if field.type in ("string", "bytes", "records"):
        length = reader.length(flexible, ">h" if field.type == "string" else ">i")
        raw = None if length < 0 else bytes(reader.take(length))
        return raw.decode("utf-8", "replace") if field.type == "string" and raw is not None else raw
    # An array's elements are never null.
    if field.nullable and not field.is_array and reader.number(">b") < 0:
        return None
    return _read_fields(reader, field.fields, version, flexible)
