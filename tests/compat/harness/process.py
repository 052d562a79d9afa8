"""A client under test as a process that is told what to do on stdin and tells what happened on stdout, in lines of JSON.

The program is started as one of these. Bytes are base64 or null.

    ... produce BOOTSTRAP TOPIC
    ... consume BOOTSTRAP TOPIC GROUP              with Kafka's group.protocol, classic or consumer (KIP-848), in GROUP_PROTOCOL
    ... alone   BOOTSTRAP TOPIC OTHER              in no group with others: seeks in TOPIC, and is the administrator of OTHER
    ... transact BOOTSTRAP TOPIC ID                a producer with the transactional id ID, where the client has transactions

    role     stdin                                       stdout
    produce  {"do":"create","partitions":N}              {"event":"created"}
             {"do":"produce","codec":C,"records":[R..]}  {"event":"produced","offsets":[..]}   once all are acknowledged;
                                                         offsets null where the client does not learn them
    consume  (nothing: it joins the group and polls)     {"event":"assigned","partitions":[..]} all it now has, at each change
                                                         {"event":"record","offset":O, ...R}
             {"do":"commit"}                             {"event":"committed","offsets":{P:O}} of what it was given, read back
                                                         from the broker (not told to kcat, which commits by itself)
    alone    {"do":"create","partitions":N,              {"event":"created"}
              "settings":{name:text}}
             {"do":"list"}                               {"event":"listed","topics":[..]}
             {"do":"describe","settings":[name..]}       {"event":"described","partitions":N,"settings":{name:text}}
             {"do":"alter","settings":{name:text}}       {"event":"altered"}
             {"do":"delete"}                             {"event":"deleted"}
             {"do":"seek","partition":P,                 records, COUNT or more, from the first one that is of TIME or later; and
              "timestamp":TIME,"count":COUNT}            {"event":"sought","offset":O}, or O null and no record if none is so late
    transact (nothing: it initialises its id)            {"event":"ready"}
             {"do":"begin"}                              {"event":"begun"}
             {"do":"send","topic":T,"values":[[P,text]]} {"event":"sent"}          once all are acknowledged
             {"do":"copy","source":S,"group":G,          {"event":"copied","values":[[P,text]..]}   COUNT records of S, read as a
              "count":COUNT}                             member of G (of read_committed), sent to TOPIC into the partitions that
                                                         they came from, and G's offsets behind them, in the transaction
             {"do":"commit"}, {"do":"abort"}             {"event":"ended"}, or {"event":"fenced"} if the client says so
             {"do":"read","level":L,"partitions":N,      {"event":"read","values":[[P,text]..]}   all of TOPIC's N partitions, each
              "until":text}                              up to its record of this text; L is an isolation level
    all      {"do":"close"}                              {"event":"closed"}, and exit 0
    R = {"partition":P,"key":B,"value":B,"headers":[[name,B]..],"timestamp":ms}

Consumers start at the earliest offset, never commit by themselves (kcat apart), and are configured to notice a rebalance
within a second. stderr goes to a log in the run's folder.
"""

import json
import pathlib
import subprocess
import threading
import time

from . import Failure
from .records import from_json

# Far beyond what a healthy step takes on two busy cores; only a failing run waits so long.
STEP_TIMEOUT_S = 45


class ClientProcess:
    def __init__(self, name, command, log_folder, environment=None):
        self.name = name
        self._log_path = pathlib.Path(log_folder) / f"{name}.log"
        self._changed = threading.Condition()
        self._events = []
        self._failure = None
        self._closed = False
        self._ended = False
        with open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                text=True, encoding="utf-8", env=environment,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            with self._changed:
                try:
                    self._take(json.loads(line))
                except Failure as failure:
                    self._failure = self._failure or failure
                except (ValueError, KeyError, TypeError) as error:
                    self._failure = self._failure or Failure(f"printed {line.strip()[:200]!r}: {error!r}")
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, event):
        """Called with the lock held, for each event in order."""
        if event["event"] == "closed":
            self._closed = True
        else:
            self._events.append(event)

    def _tell(self, **command):
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except OSError:
            self._wait(lambda: False, f"take {command['do']!r}")

    def _wait(self, condition, what, timeout_s=STEP_TIMEOUT_S):
        """Waits until `condition()`; fails on a wrong event, on the program's end, or when the time is over."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                if self._failure:
                    raise Failure(f"{self.name}: {self._failure}")
                if condition():
                    return
                if self._ended:
                    raise Failure(f"{self.name} ended before it could {what}{self._log_tail()}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Failure(f"{self.name} did not {what} within {timeout_s} s{self._log_tail()}")
                self._changed.wait(left)

    def _answer(self, event_name, what):
        def found():
            return any(event["event"] == event_name for event in self._events)

        self._wait(found, what)
        with self._changed:
            index = next(i for i, event in enumerate(self._events) if event["event"] == event_name)
            return self._events.pop(index)

    def close(self):
        """Asks the client to close (a consumer leaves its group) and waits for a clean exit."""
        self._tell(do="close")
        self._wait(lambda: self._closed, "close")
        try:
            code = self._process.wait(STEP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} said it closed but did not exit{self._log_tail()}") from None
        if code != 0:
            raise Failure(f"{self.name} exited with {code}{self._log_tail()}")
        self._reader.join()
        if self._failure:
            raise Failure(f"{self.name}: {self._failure}")

    def kill(self):
        """For cleaning up: no questions asked."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._reader.join()
        self._process.stdout.close()

    def _log_tail(self):
        text = self._log_path.read_text(encoding="utf-8", errors="replace").strip()
        return f" ({self._log_path})" + "".join(f"\n      | {line[:300]}" for line in text.splitlines()[-8:])


class Producer(ClientProcess):
    def create(self, partitions):
        self._tell(do="create", partitions=partitions)
        self._answer("created", "create the topic")

    def produce(self, codec, records, expected_offsets):
        """Produces the records, waits for their acknowledgements, and checks the offsets that came with them."""
        self._tell(do="produce", codec=codec, records=[record.to_json() for record in records])
        offsets = self._answer("produced", f"produce {len(records)} records with codec {codec}")["offsets"]
        if offsets is not None and offsets != expected_offsets:
            wrong = next(i for i, pair in enumerate(zip(offsets, expected_offsets, strict=True)) if pair[0] != pair[1])
            raise Failure(
                f"{self.name}: record {wrong} of partition {records[wrong].partition} was acknowledged "
                f"at offset {offsets[wrong]}, not {expected_offsets[wrong]}"
            )


class Member(ClientProcess):
    """A member of a consumer group. Each record it is given is checked against the ledger, and that it is the next one:
    within an assignment offsets go up by one, and a new assignment starts at an offset that was committed (or at 0)."""

    def __init__(self, name, command, log_folder, ledger, committed, environment=None):
        self.ledger = ledger
        # {partition: offsets ever committed by the group}, shared by its members; None for a client that commits unseen.
        self.committed = committed
        self.assignment = None
        self.received = []
        self._position = {}
        super().__init__(name, command, log_folder, environment)

    def _take(self, event):
        if event["event"] == "assigned":
            self.assignment = frozenset(event["partitions"])
        elif event["event"] == "record":
            self._take_record(from_json(event), event["offset"])
        else:
            super()._take(event)

    def _take_record(self, record, offset):
        self.ledger.check(record, offset)
        partition = record.partition
        if self.committed is not None:
            position, starts = self._position.get(partition), self.committed.get(partition, {0})
            if offset != position and offset not in starts:
                raise Failure(
                    f"partition {partition}: given offset {offset}, which is neither the next one ({position}) "
                    f"nor was committed ({sorted(starts)})"
                )
        self._position[partition] = offset + 1
        self.received.append((partition, offset))

    def check_running(self):
        """Fails if anything that it told so far was wrong, or if it is gone without having been told to close."""
        with self._changed:
            if self._failure:
                raise Failure(f"{self.name}: {self._failure}")
            if self._ended and not self._closed:
                raise Failure(f"{self.name} ended by itself{self._log_tail()}")

    def positions(self):
        """{partition: offset after the last record it was given}."""
        with self._changed:
            return dict(self._position)

    def commit(self):
        """Commits what it was given; returns {partition: offset} as the broker then tells it."""
        self._tell(do="commit")
        offsets = self._answer("committed", "commit")["offsets"]
        offsets = {int(partition): offset for partition, offset in offsets.items()}
        for partition, offset in offsets.items():
            self.committed.setdefault(partition, {0}).add(offset)
        return offsets


class Alone(ClientProcess):
    """A client that is in no group with others: the administrator of a topic, and a reader that seeks by time."""

    def __init__(self, name, command, log_folder, ledger, environment=None):
        self.ledger = ledger
        self._sought = []
        super().__init__(name, command, log_folder, environment)

    def _take(self, event):
        if event["event"] == "record":
            record = from_json(event)
            self.ledger.check(record, event["offset"])
            self._sought.append((record.partition, event["offset"]))
        else:
            super()._take(event)

    def create(self, partitions, settings):
        self._tell(do="create", partitions=partitions, settings=settings)
        self._answer("created", "create a topic")

    def list(self):
        self._tell(do="list")
        return self._answer("listed", "list the topics")["topics"]

    def describe(self, *settings):
        """(number of partitions, {name: text} of the settings)."""
        self._tell(do="describe", settings=settings)
        described = self._answer("described", "describe the topic")
        return described["partitions"], described["settings"]

    def alter(self, settings):
        self._tell(do="alter", settings=settings)
        self._answer("altered", "alter the topic's settings")

    def delete(self):
        self._tell(do="delete")
        self._answer("deleted", "delete the topic")

    def seek(self, partition, timestamp, count):
        """(the offset that it was told for that time, [(partition, offset) of what it then read])."""
        with self._changed:
            self._sought.clear()
        self._tell(do="seek", partition=partition, timestamp=timestamp, count=count)
        offset = self._answer("sought", f"seek in partition {partition} by the time {timestamp}")["offset"]
        with self._changed:
            return offset, list(self._sought)


class Transactor(ClientProcess):
    """A producer with a transactional id, which also reads and copies."""

    def wait_until_ready(self):
        self._answer("ready", "initialise its transactional id")

    def begin(self):
        self._tell(do="begin")
        self._answer("begun", "begin a transaction")

    def send(self, topic, values):
        self._tell(do="send", topic=topic, values=values)
        self._answer("sent", f"send {len(values)} records in a transaction")

    def copy(self, source, group, count):
        """[(partition, text)] of what it has copied."""
        self._tell(do="copy", source=source, group=group, count=count)
        copied = self._answer("copied", f"copy {count} records of {source}")["values"]
        return [(partition, text) for partition, text in copied]

    def end(self, outcome):
        self._tell(do=outcome)
        self._answer("ended", f"{outcome} its transaction")

    def is_fenced_when_it_commits(self):
        self._tell(do="commit")
        self._wait(lambda: any(event["event"] in ("ended", "fenced") for event in self._events), "commit, or be fenced")
        with self._changed:
            return self._events.pop()["event"] == "fenced"

    def read(self, level, partitions, until):
        """{partition: [text]}."""
        self._tell(do="read", level=level, partitions=partitions, until=until)
        got = {partition: [] for partition in range(partitions)}
        for partition, text in self._answer("read", f"read with {level}")["values"]:
            got[partition].append(text)
        return got
