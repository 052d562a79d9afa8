"""kafka-python as a client under test: see harness/process.py for the protocol."""

import sys
import time

from client_protocol import ALONE, CONSUME, PRODUCE, TRANSACT, Fenced, Session, records_of, transact_with, until_seen
from kafka import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    TopicPartition,
)
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import InvalidProducerEpochError, KafkaConnectionError, ProducerFencedError

TIMEOUT_S = 30
POLL_MS = 100
# Until its first record a member may join a second time, when it has learnt of the topic's partitions. kafka-python 3.0.12
# drops the assignment of that join if the time of a poll ends before the answer comes, and then polls for nothing.
FIRST_POLL_MS = 5000


def produce(session):
    producers = {}
    while (command := session.next_command())["do"] != "close":
        if command["do"] == "create":
            admin = KafkaAdminClient(bootstrap_servers=session.bootstrap)
            admin.create_topics({session.topic: {"num_partitions": command["partitions"], "replication_factor": 1}})
            admin.close()
            session.say("created")
            continue
        codec = command["codec"]
        if codec not in producers:
            producers[codec] = KafkaProducer(
                bootstrap_servers=session.bootstrap, linger_ms=5, compression_type=None if codec == "none" else codec
            )
        session.say("produced", offsets=send(session.topic, producers[codec], command))
    for producer in producers.values():
        producer.close(TIMEOUT_S)


def send(topic, producer, command):
    futures = [
        producer.send(
            topic, partition=record["partition"], key=record["key"], value=record["value"],
            headers=record["headers"], timestamp_ms=record["timestamp"],
        )
        for record in records_of(command)
    ]
    producer.flush(TIMEOUT_S)
    return [future.get(TIMEOUT_S).offset for future in futures]


class Listener(ConsumerRebalanceListener):
    def __init__(self, session):
        self.session = session

    def on_partitions_revoked(self, revoked):
        self.session.say("assigned", partitions=[])

    def on_partitions_assigned(self, assigned):
        self.session.say("assigned", partitions=[tp.partition for tp in assigned])


def poll(consumer, timeout_ms):
    """kafka-python lets its user know that no broker is to be reached, and goes on when it is polled again."""
    try:
        return consumer.poll(timeout_ms=timeout_ms)
    except KafkaConnectionError as error:
        print(error, file=sys.stderr, flush=True)
        time.sleep(POLL_MS / 1000)
        return {}


def consume(session):
    consumer = KafkaConsumer(
        bootstrap_servers=session.bootstrap, group_id=session.group, auto_offset_reset="earliest",
        enable_auto_commit=False, heartbeat_interval_ms=300, metadata_max_age_ms=1000,
    )
    positions = {}
    consumer.subscribe([session.topic], listener=Listener(session))
    while True:
        for records in poll(consumer, POLL_MS if positions else FIRST_POLL_MS).values():
            for record in records:
                positions[record.partition] = record.offset + 1
                say_record(session, record)
        command = session.command_if_any()
        if command is None:
            continue
        if command["do"] == "close":
            consumer.close()
            return
        assignment = consumer.assignment()
        read = {tp: OffsetAndMetadata(positions[tp.partition]) for tp in assignment if tp.partition in positions}
        if read:
            consumer.commit(read)
        committed = {tp.partition: consumer.committed(TopicPartition(*tp)) for tp in assignment}
        session.say("committed", offsets=committed)


def say_record(session, record):
    session.say_record(record.partition, record.offset, record.key, record.value, record.headers, record.timestamp)


def alone(session):
    admin, topic = KafkaAdminClient(bootstrap_servers=session.bootstrap), session.other
    while (command := session.next_command())["do"] != "close":
        match command["do"]:
            case "create":
                wanted = {"num_partitions": command["partitions"], "replication_factor": 1, "configs": command["settings"]}
                admin.create_topics({topic: wanted})
                session.say("created")
            case "list":
                session.say("listed", topics=admin.list_topics())
            case "describe":
                [described] = admin.describe_topics([topic])
                asked = ConfigResource(ConfigResourceType.TOPIC, topic, configs=command["settings"])
                settings = admin.describe_configs([asked], config_filter="all")["topic"][topic]
                session.say(
                    "described", partitions=len(described["partitions"]),
                    settings={name: settings[name]["value"] for name in command["settings"]},
                )
            case "alter":
                admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=command["settings"])])
                session.say("altered")
            case "delete":
                admin.delete_topics([topic])
                session.say("deleted")
            case "seek":
                session.say("sought", offset=seek(session, command))
    admin.close()


def seek(session, command):
    """The offset of the time, or None; says what it read from there on."""
    consumer = KafkaConsumer(bootstrap_servers=session.bootstrap, enable_auto_commit=False)
    tp = TopicPartition(session.topic, command["partition"])
    consumer.assign([tp])
    found = consumer.offsets_for_times({tp: command["timestamp"]})[tp]
    if found is not None:
        consumer.seek(tp, found.offset)
        left = command["count"]
        while left > 0:
            for record in consumer.poll(timeout_ms=POLL_MS).get(tp, []):
                say_record(session, record)
                left -= 1
    consumer.close()
    return None if found is None else found.offset


def transact(session):
    producer = KafkaProducer(bootstrap_servers=session.bootstrap, transactional_id=session.transactional_id, linger_ms=5)
    producer.init_transactions()
    transact_with(session, producer, send_values, copy, read, end)
    producer.close(TIMEOUT_S)


def send_values(producer, topic, values):
    futures = [producer.send(topic, partition=partition, value=text.encode()) for partition, text in values]
    producer.flush(TIMEOUT_S)
    for future in futures:
        future.get(TIMEOUT_S)


def end(producer, outcome):
    try:
        (producer.commit_transaction if outcome == "commit" else producer.abort_transaction)()
    except (ProducerFencedError, InvalidProducerEpochError) as error:
        raise Fenced from error


def copy(session, producer, command):
    """The consumer, which stays a member until the transaction has ended, and what it has copied."""
    consumer = KafkaConsumer(
        bootstrap_servers=session.bootstrap, group_id=command["group"], auto_offset_reset="earliest", enable_auto_commit=False,
        isolation_level="read_committed",
    )
    consumer.subscribe([command["source"]])
    copied, positions = [], {}
    while len(copied) < command["count"]:
        for tp, records in consumer.poll(timeout_ms=FIRST_POLL_MS, max_records=command["count"] - len(copied)).items():
            for record in records:
                copied.append([record.partition, record.value.decode()])
                positions[tp] = OffsetAndMetadata(record.offset + 1)
    send_values(producer, session.topic, copied)
    producer.send_offsets_to_transaction(positions, consumer.group_metadata())
    return consumer, copied


def read(session, command):
    consumer = KafkaConsumer(
        bootstrap_servers=session.bootstrap, enable_auto_commit=False, isolation_level=command["level"], auto_offset_reset="earliest"
    )
    consumer.assign([TopicPartition(session.topic, partition) for partition in range(command["partitions"])])
    seen = until_seen(command["partitions"], command["until"])
    while not seen.is_over():
        for records in consumer.poll(timeout_ms=POLL_MS).values():
            for record in records:
                seen.take(record.partition, record.value.decode())
    consumer.close()
    return seen.values


def main():
    session = Session()
    {PRODUCE: produce, CONSUME: consume, ALONE: alone, TRANSACT: transact}[session.role](session)
    session.say("closed")


if __name__ == "__main__":
    main()
