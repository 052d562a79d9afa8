"""MirrorMaker 2 between Odradek and Apache Kafka, both ways: topics, their settings, and groups' offsets."""

from harness import Failure, broker

from .running import Program, Topics, until

PARTITIONS = 3
RECORDS = 500
GROUP = "mirrored-group"


def both_ways(tools, server, folder):
    kafka = broker.Kafka(folder / "mirror-kafka", tools)
    kafka.start()
    try:
        _mirror(tools, {"odradek": server, "apache": kafka}, folder)
        kafka.stop()
    finally:
        kafka.kill()


def _mirror(tools, servers, folder):
    topics = {name: Topics(tools, server) for name, server in servers.items()}
    produced = {}
    for name in servers:
        topics[name].create(f"from-{name}", PARTITIONS)
        produced[name] = _write(topics[name], name, "before")
    settings = {
        "clusters": "odradek, apache",
        **{f"{name}.bootstrap.servers": server.address for name, server in servers.items()},
        "odradek->apache.enabled": "true", "apache->odradek.enabled": "true",
        "odradek->apache.topics": "from-.*", "apache->odradek.topics": "from-.*",
        "replication.factor": 1, "offset-syncs.topic.replication.factor": 1, "checkpoints.topic.replication.factor": 1,
        "heartbeats.topic.replication.factor": 1, "config.storage.replication.factor": 1, "offset.storage.replication.factor": 1,
        "status.storage.replication.factor": 1, "offset.lag.max": 0,
        "refresh.topics.interval.seconds": 2, "refresh.groups.interval.seconds": 2,
        "emit.checkpoints.interval.seconds": 1, "sync.group.offsets.enabled": "true", "sync.group.offsets.interval.seconds": 1,
    }
    path = folder / "mirror.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")
    program = Program("mirror-maker", tools.connect_java("org.apache.kafka.connect.mirror.MirrorMaker", path, heap_mb=512), folder)
    try:
        for source, target in (("odradek", "apache"), ("apache", "odradek")):
            _follow(topics, source, target, produced[source], program)
        for source, target in (("odradek", "apache"), ("apache", "odradek")):
            produced[source] += _write(topics[source], source, "meanwhile")
            _follow(topics, source, target, produced[source], program)
            _follow_group(topics, source, target, program)
        program.stop()
    finally:
        program.kill()


def _write(topics, name, stage):
    records = [(f"{name} {stage} key {number % 50}", f"{name} {stage} value {number} \u00fc\u4e16") for number in range(RECORDS)]
    topics.write(f"from-{name}", records)
    return records


def _follow(topics, source, target, produced, program):
    """Until the copy has as much as the original; then it must be the same, record by record, in each partition."""
    copy = f"{source}.from-{source}"

    def count():
        try:
            return sum(topics[target].ends(copy).values())
        except Failure:
            # Not there yet.
            return 0

    until(lambda: count() >= len(produced), lambda: f"{target} has {count()} of {len(produced)} records of {copy}", program)
    original, copied = topics[source].read(f"from-{source}"), topics[target].read(copy)
    if sorted((record["key"], record["value"]) for record in original) != sorted(produced):
        raise Failure(f"{source} has not what was produced to it")

    def place(record):
        return record["partition"], record["offset"]

    if sorted(copied, key=place) != sorted(original, key=place):
        raise Failure(f"{copy} of {target} is not what from-{source} of {source} is")


def _follow_group(topics, source, target, program):
    """A group that has read all of the original goes on at the end of the copy."""
    ends = topics[source].ends(f"from-{source}")
    topics[source].commit(GROUP, f"from-{source}", ends)
    copy = f"{source}.from-{source}"
    until(lambda: topics[target].committed(GROUP, copy) == ends,
          lambda: f"{target} has the offsets {topics[target].committed(GROUP, copy)} of {copy}, not {ends}", program)
