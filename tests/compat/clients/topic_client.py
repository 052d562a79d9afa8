"""Writes and reads topics for the tests of what is built on Kafka (systems/), in lines of JSON.

    python topic_client.py BOOTSTRAP create TOPIC PARTITIONS
    python topic_client.py BOOTSTRAP write TOPIC             stdin: {"key":K,"value":V}, a partition by the key
    python topic_client.py BOOTSTRAP read TOPIC              stdout: {"partition":P,"offset":O,"key":K,"value":V} to the ends
    python topic_client.py BOOTSTRAP ends TOPIC              stdout: {P: end}
    python topic_client.py BOOTSTRAP commit GROUP TOPIC      stdin: {P: offset}
    python topic_client.py BOOTSTRAP committed GROUP TOPIC   stdout: {P: offset}

Exits non-zero, saying why, if something was refused. A topic that is not there is read as one without records.
"""

import json
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

TIMEOUT_S = 30


def main():
    bootstrap, what, *rest = sys.argv[1:]
    {"create": create, "write": write, "read": read, "ends": ends, "commit": commit, "committed": committed}[what](bootstrap, *rest)


def create(bootstrap, topic, partitions):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, int(partitions), 1)])[topic].result(TIMEOUT_S)


def write(bootstrap, topic):
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "compression.type": "lz4"})
    refused = []
    for line in sys.stdin:
        record = json.loads(line)
        producer.produce(
            topic, key=record["key"], value=record["value"], on_delivery=lambda error, _message: error and refused.append(error)
        )
        producer.poll(0)
    left = producer.flush(TIMEOUT_S)
    if left or refused:
        raise SystemExit(f"{left} records were not acknowledged, {len(refused)} were refused: {refused[:1]}")


def consumer(bootstrap, group="reads-all"):
    return Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, "allow.auto.create.topics": False,
    })


def partitions_of(client, topic):
    metadata = client.list_topics(topic, TIMEOUT_S).topics[topic]
    return sorted(metadata.partitions)


def ends_of(client, topic):
    return {
        partition: client.get_watermark_offsets(TopicPartition(topic, partition), TIMEOUT_S)
        for partition in partitions_of(client, topic)
    }


def read(bootstrap, topic):
    client = consumer(bootstrap)
    marks = ends_of(client, topic)
    left = {partition: high for partition, (low, high) in marks.items() if high > low}
    client.assign([TopicPartition(topic, partition, marks[partition][0]) for partition in left])
    while left:
        for message in client.consume(num_messages=500, timeout=0.2):
            if message.error():
                raise KafkaException(message.error())
            if message.offset() >= marks[message.partition()][1]:
                continue
            key, value = (None if data is None else data.decode() for data in (message.key(), message.value()))
            record = {"partition": message.partition(), "offset": message.offset(), "key": key, "value": value}
            print(json.dumps(record))
        # What compaction took, or a transaction's end, is no record: the position says what was passed.
        for at in client.position([TopicPartition(topic, partition) for partition in left]):
            if at.offset >= left[at.partition]:
                del left[at.partition]
    client.close()


def ends(bootstrap, topic):
    client = consumer(bootstrap)
    print(json.dumps({partition: high for partition, (_low, high) in ends_of(client, topic).items()}))
    client.close()


def commit(bootstrap, group, topic):
    client = consumer(bootstrap, group)
    offsets = [TopicPartition(topic, int(partition), offset) for partition, offset in json.load(sys.stdin).items()]
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            failed = [done.error for done in client.commit(offsets=offsets, asynchronous=False) if done.error]
            if failed:
                raise KafkaException(failed[0])
            break
        except KafkaException as refused:
            # As the first group of a new Apache Kafka is told for a moment.
            if refused.args[0].code() not in (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS) or time.monotonic() > deadline:
                raise
    client.close()


def committed(bootstrap, group, topic):
    client = consumer(bootstrap, group)
    asked = [TopicPartition(topic, partition) for partition in partitions_of(client, topic)]
    print(json.dumps({at.partition: at.offset for at in client.committed(asked, TIMEOUT_S) if at.offset >= 0}))
    client.close()


if __name__ == "__main__":
    main()
