"""aiokafka as a client under test: see harness/process.py for the protocol."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from client_protocol import PRODUCE, Session, records_of


async def produce(session):
    producers = {}
    while (command := await asyncio.to_thread(session.next_command))["do"] != "close":
        if command["do"] == "create":
            await create(session, command["partitions"])
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


async def create(session, partitions):
    admin = AIOKafkaAdminClient(bootstrap_servers=session.bootstrap)
    await admin.start()
    answer = await admin.create_topics([NewTopic(session.topic, partitions, 1)])
    for topic_error in answer.topic_errors:
        if topic_error[1] != 0:
            raise SystemExit(f"CreateTopics was refused: {topic_error}")
    await admin.close()


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
                session.say_record(
                    record.partition, record.offset, record.key, record.value, record.headers, record.timestamp
                )
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


async def main():
    session = Session()
    await (produce if session.role == PRODUCE else consume)(session)
    session.say("closed")


if __name__ == "__main__":
    asyncio.run(main())
