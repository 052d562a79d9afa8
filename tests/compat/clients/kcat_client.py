"""kcat (librdkafka's command line) as a client under test: see harness/process.py for the protocol.

kcat has no command to create a topic, so the topic is made with confluent-kafka. It produces what it reads from its stdin,
one run for each partition and codec, and does not tell offsets. Its balanced consumer commits by itself, in intervals and
when it is closed, so a commit can be asked for only by closing it.
"""

import io
import queue
import re
import subprocess
import sys
import threading

from client_protocol import ALONE, CONSUME, PRODUCE, Session, records_of
from confluent_kafka.admin import AdminClient, NewTopic

TIMEOUT_S = 30
# Bytes that the records do not contain.
KEY_END, RECORD_END = b"\x01", b"\x02"
# Lengths first, then key and value as they are.
FORMAT = "record %p %o %T %K %S\\n%k%s\\n"
REBALANCED = re.compile(r"^% Group .* rebalanced .*: (assigned|revoked): ?(.*)$")


def produce(session):
    while (command := session.next_command())["do"] != "close":
        if command["do"] == "create":
            admin = AdminClient({"bootstrap.servers": session.bootstrap})
            created = admin.create_topics([NewTopic(session.topic, command["partitions"], 1)])
            created[session.topic].result(TIMEOUT_S)
            session.say("created")
            continue
        by_partition = {}
        for record in records_of(command):
            by_partition.setdefault(record["partition"], []).append(record)
        for partition, records in by_partition.items():
            send(session, command["codec"], partition, records)
        session.say("produced", offsets=None)


def send(session, codec, partition, records):
    text = RECORD_END.join((record["key"] or b"") + KEY_END + (record["value"] or b"") for record in records)
    subprocess.run(
        ["kcat", "-P", "-b", session.bootstrap, "-t", session.topic, "-p", str(partition), "-z", codec,
         "-K", KEY_END.decode(), "-D", RECORD_END.decode(), "-X", "linger.ms=5"],
        input=text, stdout=sys.stderr, check=True, timeout=TIMEOUT_S,
    )


def consume(session):
    kcat = subprocess.Popen(
        ["kcat", "-b", session.bootstrap, "-G", session.group, "-E", "-u", "-f", FORMAT,
         "-X", "auto.offset.reset=earliest", "-X", "heartbeat.interval.ms=300", session.topic],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    ended = queue.Queue()
    readers = [
        threading.Thread(target=read_records, args=(session, kcat.stdout, ended)),
        threading.Thread(target=read_rebalances, args=(session, kcat.stderr)),
    ]
    for reader in readers:
        reader.start()
    try:
        command = session.next_command()
        if command["do"] != "close":
            raise SystemExit(f"kcat cannot {command['do']}")
        if not ended.empty():
            raise SystemExit("kcat ended by itself")
        kcat.terminate()
        if kcat.wait(TIMEOUT_S) != 0:
            raise SystemExit(f"kcat exited with {kcat.returncode}")
    finally:
        kcat.kill()
        for reader in readers:
            reader.join()


def read_records(session, stream, ended):
    while head := stream.readline():
        partition, offset, timestamp, key_bytes, value_bytes = map(int, head.split()[1:])
        key, value = (None if length < 0 else stream.read(length) for length in (key_bytes, value_bytes))
        stream.read(1)
        session.say_record(partition, offset, key, value, [], timestamp)
    ended.put(True)


def read_rebalances(session, stream):
    for line in stream:
        text = line.decode(errors="replace").rstrip()
        print(text, file=sys.stderr, flush=True)
        if rebalanced := REBALANCED.match(text):
            now, partitions = rebalanced.groups()
            session.say(
                "assigned", partitions=[int(p) for p in re.findall(r"\[(\d+)\]", partitions)] if now == "assigned" else []
            )


def alone(session):
    """kcat is no administrator: it only seeks."""
    while (command := session.next_command())["do"] != "close":
        session.say("sought", offset=seek(session, command))


def seek(session, command):
    """The offset of the time, or None; says what it read from there on."""
    partition, timestamp = command["partition"], command["timestamp"]
    asked = ["kcat", "-Q", "-b", session.bootstrap, "-t", f"{session.topic}:{partition}:{timestamp}"]
    told = subprocess.run(asked, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT_S).stdout.decode()
    offset = int(told.rsplit("offset", 1)[1])
    if offset < 0:
        return None
    read = subprocess.run(
        ["kcat", "-C", "-q", "-b", session.bootstrap, "-t", session.topic, "-p", str(partition), "-o", f"s@{timestamp}",
         "-c", str(command["count"]), "-f", FORMAT],
        stdout=subprocess.PIPE, check=True, timeout=TIMEOUT_S,
    )
    read_records(session, io.BytesIO(read.stdout), queue.Queue())
    return offset


def main():
    session = Session()
    {PRODUCE: produce, CONSUME: consume, ALONE: alone}[session.role](session)
    session.say("closed")


if __name__ == "__main__":
    main()
