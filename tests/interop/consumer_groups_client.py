"""Members of consumer groups (group.protocol=consumer) on one broker after another; run by consumer_groups.py.

    python consumer_groups_client.py PART BOOTSTRAP EXPECTED        PART: begin or resume

`begin` and `resume` end without leaving, as a crash does: the next broker has to find the members, what they have and what
they committed. Prints for each test a line of JSON: {"test":NAME,"failure":TEXT or null,"seconds":S}.
"""

import json
import os
import sys
import time

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    ConsumerGroupType,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic
from kept import kept

TIMEOUT_S = 40
TOPIC = "cg-orders"
LATER = "cg-later"
GROUP = "cg-group"
PARTITIONS = 6
# Clients that are not to be closed by the garbage collector: that would be leaving.
KEPT = []


def main():
    part, bootstrap, path = sys.argv[1:]
    with kept(path, {}) as expected:
        for test in {"begin": [join_leave_and_rejoin, expressions_follow_topics, crash], "resume": [found, crash]}[part]:
            started, failure = time.monotonic(), None
            try:
                test(bootstrap, expected)
            except Exception as error:  # whatever it is, it is this test's
                failure = f"{type(error).__name__}: {error}"
            name = test.__name__.replace("_", " ")
            print(json.dumps({"test": f"consumer groups: {name}", "failure": failure, "seconds": time.monotonic() - started}), flush=True)
    # Without leaving: the members are still in the group for the next broker.
    os._exit(0)


def member(bootstrap, group, topics=(TOPIC,), **settings):
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "group.protocol": "consumer", "auto.offset.reset": "earliest",
        "enable.auto.commit": False, **{name.replace("_", "."): value for name, value in settings.items()},
    })
    consumer.subscribe(list(topics))
    return consumer


def assigned(consumers):
    return [sorted((one.topic, one.partition) for one in consumer.assignment()) for consumer in consumers]


def wait_for(consumers, reached, what):
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        for consumer in consumers:
            message = consumer.poll(0.05)
            if message is not None and message.error() and message.error().fatal():
                raise AssertionError(message.error())
        shares = assigned(consumers)
        every = [one for share in shares for one in share]
        assert len(every) == len(set(every)), f"read by two: {shares}"
        if reached(shares):
            return shares
        assert time.monotonic() < deadline, f"{what} not reached: {shares}"


def is_shared(count):
    def reached(shares):
        every = sum(map(len, shares))
        return every == count and max(map(len, shares)) - min(map(len, shares)) <= 1
    return reached


def join_leave_and_rejoin(bootstrap, _expected):
    admin_of(bootstrap).create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(TIMEOUT_S)
    producer = Producer({"bootstrap.servers": bootstrap})
    for partition in range(PARTITIONS):
        for index in range(20):
            producer.produce(TOPIC, str(index), partition=partition)
    assert producer.flush(TIMEOUT_S) == 0
    members = [member(bootstrap, "cg-first")]
    wait_for(members, is_shared(PARTITIONS), "all of it for one")
    members += [member(bootstrap, "cg-first"), member(bootstrap, "cg-first", group_instance_id="static")]
    wait_for(members, is_shared(PARTITIONS), "a third each")
    members.pop(1).close()
    wait_for(members, is_shared(PARTITIONS), "half each")
    # A static member that comes back in time has what it had, and nobody else gets it meanwhile.
    kept = set(assigned(members)[1])
    members.pop(1).close()
    members.append(member(bootstrap, "cg-first", group_instance_id="static"))
    shares = wait_for(members, is_shared(PARTITIONS), "half each again")
    assert set(shares[1]) == kept, f"{shares[1]} instead of {kept}"
    described = describe(bootstrap, "cg-first")
    assert described.type == ConsumerGroupType.CONSUMER and described.state == ConsumerGroupState.STABLE, vars(described)
    for one in members:
        one.close()


def expressions_follow_topics(bootstrap, _expected):
    members = [member(bootstrap, "cg-regex", ["^cg-.*"], topic_metadata_refresh_interval_ms=1000)]
    wait_for(members, is_shared(PARTITIONS), "what matches")
    admin_of(bootstrap).create_topics([NewTopic(LATER, 2, 1)])[LATER].result(TIMEOUT_S)
    wait_for(members, is_shared(PARTITIONS + 2), "what matches later")
    members[0].close()


def crash(bootstrap, expected):
    """Members of both protocols that commit, and are found by the next broker."""
    classic = {"group_protocol": "classic", "session_timeout_ms": 6000, "heartbeat_interval_ms": 500}
    members = [member(bootstrap, GROUP), member(bootstrap, GROUP, **classic)]
    KEPT.extend(members)
    # Members that crashed before hold on to theirs until their session is over.
    wait_for(members, is_shared(PARTITIONS), "half each")
    commits = [TopicPartition(TOPIC, partition, expected.get("next", 5)) for partition in range(PARTITIONS)]
    for consumer, share in zip(members, assigned(members), strict=True):
        own = [commit for commit in commits if (TOPIC, commit.partition) in share]
        consumer.commit(offsets=own, asynchronous=False)
    expected["committed"] = expected.get("next", 5)
    expected["next"] = expected["committed"] + 1
    expected["described"] = shape(describe(bootstrap, GROUP))


def found(bootstrap, expected):
    assert shape(describe(bootstrap, GROUP)) == expected["described"], "other members, or other partitions"
    fetched = admin_of(bootstrap).list_consumer_group_offsets([ConsumerGroupTopicPartitions(GROUP)])
    offsets = {one.offset for one in fetched[GROUP].result(TIMEOUT_S).topic_partitions}
    assert offsets == {expected["committed"]}, offsets


def admin_of(bootstrap):
    """An administrator that lives until its answers are there."""
    KEPT.append(AdminClient({"bootstrap.servers": bootstrap}))
    return KEPT[-1]


def describe(bootstrap, group):
    return admin_of(bootstrap).describe_consumer_groups([group])[group].result(TIMEOUT_S)


def shape(description):
    return sorted(
        (one.member_id, sorted((tp.topic, tp.partition) for tp in one.assignment.topic_partitions))
        for one in description.members
    )


main()
