"""The bytes of records in a batch, and of Kafka's numbers of variable length. Needs nothing that has to be installed."""


def unsigned(number):
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def varint(number):
    return unsigned((number << 1) ^ (number >> 63))


def record(offset_delta, timestamp_delta, key, value):
    body = b"\0" + varint(timestamp_delta) + varint(offset_delta) + _nullable(key) + _nullable(value) + varint(0)
    return varint(len(body)) + body


def _nullable(data):
    return varint(-1) if data is None else varint(len(data)) + data


def _table():
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


_CRC_TABLE = list(_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
