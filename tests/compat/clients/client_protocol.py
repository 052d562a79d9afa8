"""The Python clients' end of the line protocol that harness/process.py describes."""

import base64
import json
import os
import queue
import sys
import threading

PRODUCE, CONSUME, ALONE, TRANSACT = "produce", "consume", "alone", "transact"


class Session:
    """What the program was asked for, and its two streams. Commands are read by a thread, so that a consumer can poll."""

    def __init__(self):
        self.role, self.bootstrap, self.topic = sys.argv[1:4]
        self.group = sys.argv[4] if self.role == CONSUME else None
        # Whether its consumers are members of KIP-848's groups.
        self.is_newer = os.environ.get("GROUP_PROTOCOL") == "consumer"
        self.other = sys.argv[4] if self.role == ALONE else None
        self.transactional_id = sys.argv[4] if self.role == TRANSACT else None
        self._commands = queue.Queue()
        # Several threads of one client may have something to say, and a line longer than a buffer is not written in one go.
        self._saying = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in sys.stdin:
            self._commands.put(json.loads(line))
        self._commands.put({"do": "close"})

    def next_command(self):
        return self._commands.get()

    def command_if_any(self):
        try:
            return self._commands.get_nowait()
        except queue.Empty:
            return None

    def say(self, event, **fields):
        line = json.dumps({"event": event, **fields}) + "\n"
        with self._saying:
            sys.stdout.write(line)
            sys.stdout.flush()

    def say_record(self, partition, offset, key, value, headers, timestamp):
        self.say(
            "record", partition=partition, offset=offset, key=_encode(key), value=_encode(value),
            headers=[[name, _encode(data)] for name, data in headers], timestamp=timestamp,
        )


class Fenced(Exception):
    """Another producer has come with the same transactional id."""


def transact_with(session, producer, send, copy, read, end):
    """Does what a client with transactions is told to, until it is told to close: what takes the client's own API is the caller's.

    send(producer, topic, values); copy(session, producer, command) gives a consumer, which stays a member until the transaction has
    ended, and what it has copied; read(session, command); end(producer, outcome) may raise `Fenced`.
    """
    session.say("ready")
    consumer = None
    while (command := session.next_command())["do"] != "close":
        match command["do"]:
            case "begin":
                producer.begin_transaction()
                session.say("begun")
            case "send":
                send(producer, command["topic"], command["values"])
                session.say("sent")
            case "copy":
                consumer, copied = copy(session, producer, command)
                session.say("copied", values=copied)
            case "read":
                session.say("read", values=read(session, command))
            case outcome:
                try:
                    end(producer, outcome)
                    session.say("ended")
                except Fenced:
                    session.say("fenced")
                if consumer is not None:
                    consumer.close()
                    consumer = None


def until_seen(partitions, until):
    """What a reader keeps: take(partition, text) each record, until `is_over()`; `values` are what it has seen."""
    return _Seen(set(range(partitions)), until)


class _Seen:
    def __init__(self, left, until):
        self.values = []
        self._left = left
        self._until = until

    def take(self, partition, text):
        if partition in self._left:
            self.values.append([partition, text])
            if text == self._until:
                self._left.discard(partition)

    def is_over(self):
        return not self._left


def records_of(command):
    """The command's records with their bytes decoded."""
    for record in command["records"]:
        record["key"] = _decode(record["key"])
        record["value"] = _decode(record["value"])
        record["headers"] = [(name, _decode(data)) for name, data in record["headers"]]
        yield record


def _encode(data):
    return None if data is None else base64.b64encode(data).decode("ascii")


def _decode(text):
    return None if text is None else base64.b64decode(text)
