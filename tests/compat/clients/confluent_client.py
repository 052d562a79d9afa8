"""confluent-kafka (librdkafka) as a client under test: see harness/process.py for the protocol."""

import sys

from client_protocol import ALONE, CONSUME, PRODUCE, TRANSACT, Fenced, Session, records_of, transact_with, until_seen
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

TIMEOUT_S = 30


def produce(session):
    producers = {}
    while (command := session.next_command())["do"] != "close":
        if command["do"] == "create":
            admin = AdminClient({"bootstrap.servers": session.bootstrap})
            created = admin.create_topics([NewTopic(session.topic, command["partitions"], 1)])
            created[session.topic].result(TIMEOUT_S)
            session.say("created")
            continue
        codec = command["codec"]
        if codec not in producers:
            producers[codec] = Producer({
                "bootstrap.servers": session.bootstrap, "compression.type": codec, "linger.ms": 5,
                # One of them with sequence numbers, the others as confluent-kafka is by default.
                "enable.idempotence": codec == "zstd",
            })
        session.say("produced", offsets=send(session.topic, producers[codec], command))


def send(topic, producer, command):
    offsets = []
    for index, record in enumerate(records_of(command)):
        offsets.append(None)

        def delivered(error, message, index=index):
            if error:
                raise KafkaException(error)
            offsets[index] = message.offset()

        producer.produce(
            topic, partition=record["partition"], key=record["key"], value=record["value"],
            headers=record["headers"], timestamp=record["timestamp"], on_delivery=delivered,
        )
    left = producer.flush(TIMEOUT_S)
    if left:
        raise SystemExit(f"{left} records were not acknowledged within {TIMEOUT_S} s")
    return offsets


def consume(session):
    consumer = Consumer({
        "bootstrap.servers": session.bootstrap, "group.id": session.group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        # Of KIP-848's groups the broker says how often.
        **({"group.protocol": "consumer"} if session.is_newer else {"heartbeat.interval.ms": 300}),
    })
    positions = {}

    # What comes and goes: with KIP-848's protocol that is a part of what it has.
    owned = set()

    def assigned(_consumer, partitions):
        owned.update(tp.partition for tp in partitions)
        session.say("assigned", partitions=sorted(owned))

    def revoked(_consumer, partitions):
        owned.difference_update(tp.partition for tp in partitions)
        session.say("assigned", partitions=sorted(owned))

    # An expression is the broker's where it begins so.
    consumer.subscribe([f"^{session.topic}$" if session.is_newer else session.topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
    while True:
        for message in consumer.consume(num_messages=100, timeout=0.1):
            if message.error():
                print(message.error(), file=sys.stderr)
                if message.error().fatal():
                    raise KafkaException(message.error())
                continue
            positions[message.partition()] = message.offset() + 1
            say_record(session, message)
        command = session.command_if_any()
        if command is None:
            continue
        if command["do"] == "close":
            consumer.close()
            return
        commit(session, consumer, positions)


def commit(session, consumer, positions):
    assignment = consumer.assignment()
    read = [tp.partition for tp in assignment if tp.partition in positions]
    if read:
        wanted = [TopicPartition(session.topic, partition, positions[partition]) for partition in read]
        for tp in consumer.commit(offsets=wanted, asynchronous=False):
            if tp.error:
                raise KafkaException(tp.error)
    committed = consumer.committed(assignment, TIMEOUT_S)
    session.say("committed", offsets={tp.partition: tp.offset for tp in committed})


def say_record(session, message):
    session.say_record(
        message.partition(), message.offset(), message.key(), message.value(), message.headers() or [], message.timestamp()[1]
    )


def alone(session):
    admin, topic = AdminClient({"bootstrap.servers": session.bootstrap}), session.other
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    while (command := session.next_command())["do"] != "close":
        match command["do"]:
            case "create":
                new = NewTopic(topic, command["partitions"], 1, config=command["settings"])
                admin.create_topics([new])[topic].result(TIMEOUT_S)
                session.say("created")
            case "list":
                session.say("listed", topics=list(admin.list_topics(timeout=TIMEOUT_S).topics))
            case "describe":
                partitions = admin.list_topics(topic, TIMEOUT_S).topics[topic].partitions
                entries = admin.describe_configs([resource])[resource].result(TIMEOUT_S)
                settings = {name: entries[name].value for name in command["settings"]}
                session.say("described", partitions=len(partitions), settings=settings)
            case "alter":
                entries = [
                    ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                    for name, value in command["settings"].items()
                ]
                changed = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
                admin.incremental_alter_configs([changed])[changed].result(TIMEOUT_S)
                session.say("altered")
            case "delete":
                admin.delete_topics([topic])[topic].result(TIMEOUT_S)
                session.say("deleted")
            case "seek":
                session.say("sought", offset=seek(session, command))


def seek(session, command):
    """The offset of the time, or None; says what it read from there on."""
    consumer = Consumer({"bootstrap.servers": session.bootstrap, "group.id": "alone", "enable.auto.commit": False})
    try:
        asked = TopicPartition(session.topic, command["partition"], command["timestamp"])
        found = consumer.offsets_for_times([asked], TIMEOUT_S)[0]
        if found.offset < 0:
            return None
        consumer.assign([TopicPartition(session.topic, command["partition"], 0)])
        # A partition can be sought in when it is being fetched.
        while not consumer.consume(num_messages=1, timeout=0.1):
            pass
        consumer.seek(found)
        left = command["count"]
        while left > 0:
            for message in consumer.consume(num_messages=left, timeout=0.1):
                if message.error():
                    raise KafkaException(message.error())
                say_record(session, message)
                left -= 1
        return found.offset
    finally:
        consumer.close()


FENCED = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


def transact(session):
    producer = Producer({"bootstrap.servers": session.bootstrap, "transactional.id": session.transactional_id, "linger.ms": 5})
    producer.init_transactions(TIMEOUT_S)
    transact_with(session, producer, send_values, copy, read, end)


def send_values(producer, topic, values):
    refused = []
    for partition, text in values:
        producer.produce(topic, partition=partition, value=text, on_delivery=lambda error, _message: error and refused.append(error))
    left = producer.flush(TIMEOUT_S)
    if left or refused:
        raise SystemExit(f"{left} records were not acknowledged, {len(refused)} were refused: {refused[:1]}")


def end(producer, outcome):
    try:
        (producer.commit_transaction if outcome == "commit" else producer.abort_transaction)(TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() in FENCED:
            raise Fenced from error
        raise


def copy(session, producer, command):
    """The consumer, which stays a member until the transaction has ended, and what it has copied."""
    consumer = Consumer({
        "bootstrap.servers": session.bootstrap, "group.id": command["group"], "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "isolation.level": "read_committed",
        **({"group.protocol": "consumer"} if session.is_newer else {}),
    })
    consumer.subscribe([command["source"]])
    copied, positions = [], {}
    while len(copied) < command["count"]:
        for message in consumer.consume(num_messages=command["count"] - len(copied), timeout=0.1):
            if message.error():
                raise KafkaException(message.error())
            copied.append([message.partition(), message.value().decode()])
            positions[message.partition()] = message.offset() + 1
    send_values(producer, session.topic, copied)
    offsets = [TopicPartition(command["source"], partition, offset) for partition, offset in positions.items()]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), TIMEOUT_S)
    return consumer, copied


def read(session, command):
    consumer = Consumer({
        "bootstrap.servers": session.bootstrap, "group.id": "reads", "enable.auto.commit": False, "isolation.level": command["level"],
    })
    consumer.assign([TopicPartition(session.topic, partition, 0) for partition in range(command["partitions"])])
    seen = until_seen(command["partitions"], command["until"])
    while not seen.is_over():
        for message in consumer.consume(num_messages=100, timeout=0.1):
            if message.error():
                raise KafkaException(message.error())
            seen.take(message.partition(), message.value().decode())
    consumer.close()
    return seen.values


def main():
    session = Session()
    {PRODUCE: produce, CONSUME: consume, ALONE: alone, TRANSACT: transact}[session.role](session)
    session.say("closed")


if __name__ == "__main__":
    main()
