"""What a connection costs a broker that has answered its ApiVersions and its Metadata, and then hears nothing more of it."""

import pathlib
import resource
import socket
import struct
import time

from common import Failure

# Before them, so that what the first ones need once is not counted: code, classes, buffers.
WARM = 200
ANSWER_TIMEOUT_S = 60
# Memory that was free for so long is given back.
QUIET_S = 6
# Handles of this process beside its connections.
OWN_HANDLES = 100
API_VERSIONS, METADATA = 18, 3


def measure(server, count):
    """Memory and file handles of `count` idle connections, each."""
    _raise_limit(count + OWN_HANDLES)
    _close(_connect(server, WARM))
    time.sleep(QUIET_S)
    memory, handles = _resident_bytes(server), _handle_count(server)
    connections = _connect(server, count)
    try:
        time.sleep(QUIET_S)
        memory = _resident_bytes(server) - memory
        handles = _handle_count(server) - handles
    finally:
        _close(connections)
    return {"connections": count, "kib": memory / count / 1024, "handles": handles / count}


def _connect(server, count):
    host, port = server.address.rsplit(":", 1)
    connections = []
    for _ in range(count):
        connection = socket.create_connection((host, int(port)), timeout=ANSWER_TIMEOUT_S)
        connections.append(connection)
        # No topics, so that what is measured is the connection.
        _ask(connection, API_VERSIONS, 0, b"")
        _ask(connection, METADATA, 1, struct.pack(">i", 0))
    return connections


def _ask(connection, key, version, body):
    client_id = b"idle"
    frame = struct.pack(">hhih", key, version, 1, len(client_id)) + client_id + body
    connection.sendall(struct.pack(">i", len(frame)) + frame)
    size = struct.unpack(">i", _receive(connection, 4))[0]
    _receive(connection, size)


def _receive(connection, count):
    received = b""
    while len(received) < count:
        more = connection.recv(count - len(received))
        if not more:
            raise Failure("the broker closed an idle connection")
        received += more
    return received


def _close(connections):
    for connection in connections:
        connection.close()


def _raise_limit(wanted):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Failure(f"{wanted} file handles are needed, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _resident_bytes(server):
    for line in pathlib.Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise Failure(f"{server.name} is gone")


def _handle_count(server):
    return len(list(pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir()))
