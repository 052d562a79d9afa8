"""Waits until a broker leads every partition that it tells of, and knows the topic: `python settle.py BOOTSTRAP [TOPIC]`.

For Apache Kafka alone, which opens its port after a restart, and answers that a topic is created, before it leads. A client
that sends one request for many partitions in that moment is refused for some of them; kafkajs then sends all of them again.
"""

import sys
import time

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

TIMEOUT_S = 30
PAUSE_S = 0.1


def main():
    bootstrap, needed = sys.argv[1], set(sys.argv[2:])
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            topics = admin.list_topics(timeout=TIMEOUT_S).topics
            partitions = [TopicPartition(topic.topic, partition) for topic in topics.values() for partition in topic.partitions]
            for answer in admin.list_offsets({partition: OffsetSpec.latest() for partition in partitions}).values():
                answer.result(TIMEOUT_S)
            if needed <= topics.keys():
                return
            problem = f"{needed - topics.keys()} not known"
        except KafkaException as error:
            problem = str(error)
        if time.monotonic() > deadline:
            raise SystemExit(f"not every partition has a leader: {problem}")
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
