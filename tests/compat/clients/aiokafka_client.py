"""aiokafka as a client under test: see harness/process.py for the protocol."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import ProducerFenced
from client_protocol import ALONE, CONSUME, PRODUCE, TRANSACT, Session, records_of, until_seen


async def produce(session):
    producers = {}
    while (command := await asyncio.to_thread(session.next_command))["do"] != "close":
        if command["do"] == "create":
            admin = AIOKafkaAdminClient(bootstrap_servers=session.bootstrap)
            await admin.start()
            await create(admin, session.topic, command["partitions"], {})
            await admin.close()
            session.say("created")
            continue
        codec = command["codec"]
        if codec not in producers:
            producers[codec] = AIOKafkaProducer(
                bootstrap_servers=session.bootstrap, linger_ms=5, compression_type=None if codec == "none" else codec,
                # One of them with sequence numbers, the others as aiokafka is by default.
                enable_idempotence=codec == "zstd",
            )
            await producers[codec].start()
        futures = [
            await producers[codec].send(
                session.topic, partition=record["partition"], key=record["key"], value=record["value"],
                headers=record["headers"], timestamp_ms=record["timestamp"],
            )
            for record in records_of(command)
        ]
        session.say("produced", offsets=[metadata.offset for metadata in await asyncio.gather(*futures)])
    for producer in producers.values():
        await producer.stop()


async def create(admin, topic, partitions, settings):
    answer = await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=settings)])
    for topic_error in answer.topic_errors:
        if topic_error[1] != 0:
            raise SystemExit(f"CreateTopics was refused: {topic_error}")


class Listener(ConsumerRebalanceListener):
    def __init__(self, session):
        self.session = session

    async def on_partitions_revoked(self, revoked):
        self.session.say("assigned", partitions=[])

    async def on_partitions_assigned(self, assigned):
        self.session.say("assigned", partitions=[tp.partition for tp in assigned])


async def consume(session):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=session.bootstrap, group_id=session.group, auto_offset_reset="earliest",
        enable_auto_commit=False, heartbeat_interval_ms=300, metadata_max_age_ms=1000,
    )
    positions = {}
    consumer.subscribe([session.topic], listener=Listener(session))
    await consumer.start()
    while True:
        for records in (await consumer.getmany(timeout_ms=100)).values():
            for record in records:
                positions[record.partition] = record.offset + 1
                say_record(session, record)
        command = session.command_if_any()
        if command is None:
            continue
        if command["do"] == "close":
            await consumer.stop()
            return
        assignment = consumer.assignment()
        read = {tp: positions[tp.partition] for tp in assignment if tp.partition in positions}
        if read:
            await consumer.commit(read)
        session.say("committed", offsets={tp.partition: await consumer.committed(tp) for tp in assignment})


def say_record(session, record):
    session.say_record(record.partition, record.offset, record.key, record.value, record.headers, record.timestamp)


async def alone(session):
    admin, topic = AIOKafkaAdminClient(bootstrap_servers=session.bootstrap), session.other
    await admin.start()
    while (command := await asyncio.to_thread(session.next_command))["do"] != "close":
        match command["do"]:
            case "create":
                await create(admin, topic, command["partitions"], command["settings"])
                session.say("created")
            case "list":
                session.say("listed", topics=await admin.list_topics())
            case "describe":
                [described] = await admin.describe_topics([topic])
                asked = ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(command["settings"]))
                [answer] = await admin.describe_configs([asked])
                [(_error, _message, _type, _name, entries)] = answer.resources
                settings = {entry[0]: entry[1] for entry in entries}
                session.say("described", partitions=len(described["partitions"]), settings=settings)
            case "alter":
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, command["settings"])])
                session.say("altered")
            case "delete":
                await admin.delete_topics([topic])
                session.say("deleted")
            case "seek":
                session.say("sought", offset=await seek(session, command))
    await admin.close()


async def seek(session, command):
    """The offset of the time, or None; says what it read from there on."""
    consumer = AIOKafkaConsumer(bootstrap_servers=session.bootstrap, enable_auto_commit=False)
    tp = TopicPartition(session.topic, command["partition"])
    await consumer.start()
    consumer.assign([tp])
    found = (await consumer.offsets_for_times({tp: command["timestamp"]}))[tp]
    if found is not None:
        consumer.seek(tp, found.offset)
        for _ in range(command["count"]):
            say_record(session, await consumer.getone(tp))
    await consumer.stop()
    return None if found is None else found.offset


async def transact(session):
    producer = AIOKafkaProducer(bootstrap_servers=session.bootstrap, transactional_id=session.transactional_id, linger_ms=5)
    await producer.start()
    session.say("ready")
    consumer = None
    while (command := await asyncio.to_thread(session.next_command))["do"] != "close":
        match command["do"]:
            case "begin":
                await producer.begin_transaction()
                session.say("begun")
            case "send":
                await send_values(producer, command["topic"], command["values"])
                session.say("sent")
            case "copy":
                consumer, copied = await copy(session, producer, command)
                session.say("copied", values=copied)
            case "read":
                session.say("read", values=await read(session, command))
            case outcome:
                try:
                    await (producer.commit_transaction if outcome == "commit" else producer.abort_transaction)()
                    session.say("ended")
                except ProducerFenced:
                    session.say("fenced")
                if consumer is not None:
                    await consumer.stop()
                    consumer = None
    await producer.stop()


async def send_values(producer, topic, values):
    for future in [await producer.send(topic, partition=partition, value=text.encode()) for partition, text in values]:
        await future


async def copy(session, producer, command):
    """The consumer, which stays a member until the transaction has ended, and what it has copied."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=session.bootstrap, group_id=command["group"], auto_offset_reset="earliest", enable_auto_commit=False,
        isolation_level="read_committed",
    )
    consumer.subscribe([command["source"]])
    await consumer.start()
    copied, positions = [], {}
    while len(copied) < command["count"]:
        for tp, records in (await consumer.getmany(timeout_ms=100, max_records=command["count"] - len(copied))).items():
            for record in records:
                copied.append([record.partition, record.value.decode()])
                positions[tp] = record.offset + 1
    await send_values(producer, session.topic, copied)
    await producer.send_offsets_to_transaction(positions, command["group"])
    return consumer, copied


async def read(session, command):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=session.bootstrap, enable_auto_commit=False, isolation_level=command["level"], auto_offset_reset="earliest"
    )
    await consumer.start()
    consumer.assign([TopicPartition(session.topic, partition) for partition in range(command["partitions"])])
    seen = until_seen(command["partitions"], command["until"])
    while not seen.is_over():
        for records in (await consumer.getmany(timeout_ms=100)).values():
            for record in records:
                seen.take(record.partition, record.value.decode())
    await consumer.stop()
    return seen.values


async def main():
    session = Session()
    await {PRODUCE: produce, CONSUME: consume, ALONE: alone, TRANSACT: transact}[session.role](session)
    session.say("closed")


if __name__ == "__main__":
    asyncio.run(main())
