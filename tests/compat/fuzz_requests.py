"""Random requests, sound ones and such as nobody sends: trees as harness/messages.py has them, with names for what each broker calls otherwise.

A `Named` stands for a topic's id, a member's id or a producer: each broker's own takes its place when the request is sent.
Which API, which version, which value: one seed gives one history.
"""

import dataclasses
import gzip
import struct
import time

from harness import batches, messages

# Of all records: retention leaves them alone.
NOW_MS = int(time.time() * 1000)
TOPICS = ["one", "three", "compact", "own-1", "own-2"]
GROUPS = ["g1", "g2", "c1", "c2"]
MEMBERS, PRODUCERS = 3, 3
ODD = 0.06
SETTINGS = {
    "retention.ms": ["1000000000", "-1", "-2", "x", ""], "cleanup.policy": ["delete", "compact", "compact,delete", "x", "", "delete,", "delete,delete"],
    "segment.bytes": ["1048576", "14", "-1", "99999999999"], "max.message.bytes": ["1000000", "0", "-1"],
    "compression.type": ["producer", "gzip", "uncompressed", "rar"], "message.timestamp.type": ["CreateTime", "LogAppendTime", "createtime"],
    "min.insync.replicas": ["1", "0", "2"], "nope": ["1"], "unclean.leader.election.enable": ["true", "TRUE", "yes"],
    "min.cleanable.dirty.ratio": ["0.5", "2", "-1"], "flush.messages": ["1000", "0"], "retention.bytes": ["-1", "1000000", "-7"],
    "delete.retention.ms": ["1000", "-1"], "min.compaction.lag.ms": ["0", "5"], "max.compaction.lag.ms": ["9", "0"], "index.interval.bytes": ["4096", "-1"],
    "remote.storage.enable": ["false", "true"], "leader.replication.throttled.replicas": ["*", "0:1", "x"], "": [""],
}
BROKER_SETTINGS = {
    "log.retention.ms": ["100000000", "-1", "x"], "message.max.bytes": ["1048588", "-1"], "log.cleaner.threads": ["1"], "max.connections": ["1000", "-1"],
    "compression.type": ["producer", "x"], "broker.id": ["1"], "log.dirs": ["/x"], "nope": ["x"], "background.threads": ["10", "11"], "num.io.threads": ["8"],
}
ALTERABLE = ["log.retention.ms", "message.max.bytes", "log.cleaner.threads", "max.connections", "compression.type", "background.threads", "num.io.threads", "nope"]
GROUP_SETTINGS = {
    "consumer.session.timeout.ms": ["45000", "1", "x"], "consumer.heartbeat.interval.ms": ["5000", "1"], "nope": ["1"],
}
LOGGERS = {"root": ["INFO", "WARN", "FATAL", "info", "OFF", ""], "nope": ["INFO"]}
METRICS_SETTINGS = {
    "interval.ms": ["60000", "1", "x"], "metrics": ["*", "a.b", ""], "match": ["client_id=a.*", "x", "nope=a", "client_id=["], "nope": ["1"],
}
# Whose settings may have been altered, and which.
RESOURCES = [(4, "", ALTERABLE), (4, "1", ALTERABLE)] + [(16, name, METRICS_SETTINGS) for name in ("m1", "m2")]
TIMESTAMPS = [-1, -2, -3, -4, -5, -6, -7, 0, 1, NOW_MS, NOW_MS + 1, 9_000_000_000_000]


@dataclasses.dataclass(frozen=True)
class Named:
    """What stands for `kind` (topic, member, producer, epoch) `name` at each broker."""

    kind: str
    name: str


@dataclasses.dataclass
class Step:
    key: int
    version: int
    body: dict
    # Where a member or a producer that the answer tells is kept.
    slot: str | None = None


# Changes of what is there, which brokers of Apache Kafka see a moment later.
CHANGES = {0, 19, 20, 21, 33, 37, 44, 45}
WEIGHTS = {
    0: 8, 1: 6, 2: 5, 3: 4, 8: 6, 9: 5, 10: 1, 11: 6, 12: 3, 13: 2, 14: 4, 15: 3, 16: 2, 18: 1, 19: 4, 20: 2, 21: 3, 22: 3, 23: 3, 32: 4, 33: 2, 35: 1,
    37: 2, 42: 2, 43: 1, 44: 4, 45: 1, 46: 1, 47: 2, 55: 1, 57: 1, 60: 1, 61: 1, 68: 6, 69: 3, 74: 1, 75: 2,
}


class Generator:
    def __init__(self, random, requests, versions, suffix):
        """`versions`: the range of each API that both brokers offer; `suffix`: of groups' names, so that histories do not share any."""
        self.random, self.requests, self.suffix = random, requests, suffix
        self.versions = {key: versions[key] for key in WEIGHTS if key in versions}

    def step(self):
        keys = list(self.versions)
        (key,) = self.random.choices(keys, [WEIGHTS[one] for one in keys])
        version = self.random.randint(*self.versions[key])
        body = self._fields(self.requests[key].fields, version, self.requests[key].name)
        step = Step(key, version, body)
        adjust = getattr(self, f"_adjust_{key}", None)
        if adjust:
            adjust(step)
        _once(step.body)
        return step

    def _odd(self):
        return self.random.random() < ODD

    def _rare(self):
        """For what the two answer differently with a reason, since a history ends there."""
        return self._odd() and self._odd()

    def _pick(self, usual, odd=()):
        return self.random.choice(odd) if odd and self._odd() else self.random.choice(usual)

    def _fields(self, fields, version, where):
        return {
            field.name: self._value(field, version, where) for field in fields
            if messages.has(field.versions, version) and (field.tag is None or self.random.random() < 0.5)
        }

    def _value(self, field, version, where):
        if messages.has(field.nullable, version) and self.random.random() < (0.1 if field.is_array else 0.3):
            return None
        if field.is_array:
            count = self.random.choices([0, 1, 2, 3], [1, 12, 3, 1])[0]
            return [self._one(field, version, where) for _ in range(count)]
        return self._one(field, version, where)

    def _one(self, field, version, where):
        if field.fields is not None:
            return self._fields(field.fields, version, where)
        named = getattr(self, f"_of_{field.name.lower()}", None)
        if named:
            return named(where)
        if field.type == "bool":
            return self.random.random() < 0.3
        if field.type in messages.NUMBERS:
            bits = {"int8": 7, "int16": 15, "int32": 31, "int64": 63, "uint16": 16, "float64": 10}[field.type]
            return self._pick([0, 1, -1, 1], [2, -2, (1 << bits) - 1, -(1 << bits) if field.type != "uint16" else 0])
        if field.type == "uuid":
            return bytes(16)
        return self._pick(["", "x"], ["y" * 300]) if field.type == "string" else self._pick([b"", b"x"])

    # What fields of these names hold, whatever message they are in.

    def _topic(self, where=None):
        return self._pick(TOPICS, ["none", "", "bad/name", "..", "z" * 250, "__consumer_offsets"])

    _of_topic = _of_topicname = _topic

    def _of_name(self, where):
        if where in ("JoinGroupRequest",):
            return self._pick(["range", "cooperative-sticky"], ["", "other"])
        return self._topic()

    def _of_topicid(self, where):
        return self._pick([Named("topic", self._pick(TOPICS))], [bytes(16), b"\7" * 16])

    def _partition(self, where=None):
        return self._pick([0, 0, 0, 1, 2], [-1, 3, 99, 2**31 - 1])

    _of_partitionindex = _of_partition = _of_partitions = _of_partitionindexes = _of_index = _partition

    def _group(self, where=None):
        name = self._pick(GROUPS, ["", "none", "g" * 300])
        return name and name + self.suffix

    _of_groupid = _of_groups = _of_groupsnames = _of_groupids = _group

    def _of_memberid(self, where):
        return self._pick([Named("member", str(self.random.randrange(MEMBERS)))], ["", "nobody"])

    def _of_instanceid(self, where):
        return self._pick([None, None, "i1"], ["i2"])

    _of_groupinstanceid = _of_instanceid

    def _of_generationid(self, where):
        return self._pick([1, 1, 2, 3], [-1, 0, 99])

    _of_generationidormemberepoch = _of_memberepoch = _of_generationid

    def _of_currentleaderepoch(self, where):
        return self._pick([-1, -1, 0], [1, 5, -2])

    _of_leaderepoch = _of_lastfetchedepoch = _of_committedleaderepoch = _of_currentleaderepoch

    def _of_replicaid(self, where):
        return self._pick([-1], [-2])

    def _offset(self, where=None):
        return self._pick([0, 0, 1, 2, 5, 10], [-1, -2, 1000, 2**62])

    _of_offset = _of_fetchoffset = _of_committedoffset = _offset

    def _of_timestamp(self, where):
        return self._pick(TIMESTAMPS)

    def _of_logstartoffset(self, where):
        return -1

    def _of_committedmetadata(self, where):
        return self._pick(["", "m"], ["m" * 5000])

    def _of_timeoutms(self, where):
        return 5000

    def _of_isolationlevel(self, where):
        return self._pick([0, 1], [2, -1])

    def _of_protocoltype(self, where):
        return self._pick(["consumer"], ["", "connect"])

    def _of_protocolname(self, where):
        return self._pick(["range", "range", None], ["other"])

    def _of_key(self, where):
        return self._group()

    def _of_coordinatorkeys(self, where):
        return self._group()

    def _of_keytype(self, where):
        return self._pick([0], [1, 3, -1])

    def _of_brokerids(self, where):
        return self._pick([1], [2, -1])

    _of_replicas = _of_brokerid = _of_brokerids

    def _of_numpartitions(self, where):
        return self._pick([1, 2, -1], [0, -2, 100_000])

    def _of_replicationfactor(self, where):
        return self._pick([1, -1], [0, 2, -2])

    def _of_count(self, where):
        return self._pick([2, 3, 4, 5], [0, -1, 1, 20_000])

    def _of_statesfilter(self, where):
        return self._pick(["Stable", "Empty", "stable", "Reconciling"], ["", "nope"])

    def _of_typesfilter(self, where):
        return self._pick(["classic", "consumer"], ["CONSUMER", "", "nope"])

    def _of_feature(self, where):
        return self._pick(["group.version", "nope"], [""])

    def _of_serverassignor(self, where):
        return self._pick([None, "uniform", "range"], ["", "nope"])

    def _of_subscribedtopicnames(self, where):
        return self._topic()

    def _of_subscribedtopicregex(self, where):
        return self._pick([None, None, "own.*", ""], ["[", "("])

    def _of_electiontype(self, where):
        return self._pick([0, 1], [2])

    def _of_endpointtype(self, where):
        return self._pick([1], [2, 0])

    def _of_resourcetypes(self, where):
        return self._pick([2, 4, 8, 16, 32], [0, 1, 7, -1])

    # What only a whole request makes sensible.

    def _adjust_0(self, step):
        body = step.body
        body["TransactionalId"] = None
        body["Acks"] = self._pick([-1, 1], [2, -2])
        for topic in body["TopicData"]:
            for partition in topic["PartitionData"]:
                partition["Records"] = self._records()

    def _records(self):
        random = self.random
        if self._rare():
            return random.choice([None, b"", b"x" * 70])
        producer = Named("producer", str(random.randrange(PRODUCERS))) if random.random() < 0.3 else None
        records = [
            (self._pick([b"k", b"k2", None]), self._pick([b"v", b"", None]), self._pick([0, 1, 2], [-5])) for _ in range(random.randint(1, 3))
        ]
        lie = random.choice(["crc", "count", "length", "offsets", "time"]) if self._odd() else None
        if self._rare():
            lie = random.choice(["magic", "attributes"])
        return Batch(tuple(records), random.random() < 0.2, producer, self._pick([0, 0, 0, 1, 3], [-1, 2**31 - 1]), lie)

    def _adjust_1(self, step):
        step.body |= {"MaxWaitMs": 0, "MinBytes": self._pick([0, 1], [-1]), "MaxBytes": self._pick([1 << 20], [0, 1, -1])}
        if step.version >= 7:
            step.body |= {"SessionId": self._pick([0], [77]), "SessionEpoch": self._pick([-1, 0], [1, -2])}
        step.body.pop("ReplicaState", None)
        step.body.pop("ClusterId", None)
        for topic in step.body["Topics"]:
            for partition in topic["Partitions"]:
                partition["PartitionMaxBytes"] = self._pick([1 << 20], [0, 1, -1])
                partition.pop("ReplicaDirectoryId", None)
                partition.pop("HighWatermark", None)

    def _adjust_3(self, step):
        step.body["AllowAutoTopicCreation"] = False
        for topic in step.body["Topics"] or ():
            if step.version >= 10 and self.random.random() < 0.4:
                topic["Name"] = None
            elif "TopicId" in topic:
                topic["TopicId"] = bytes(16)
                topic["Name"] = topic["Name"] or "one"

    def _adjust_11(self, step):
        step.slot = str(self.random.randrange(MEMBERS))
        step.body["MemberId"] = self._pick(["", Named("member", step.slot)], ["nobody"])
        step.body["SessionTimeoutMs"] = self._pick([60_000], [0, -1, 2**31 - 1])
        if step.body["MemberId"] == "" and not step.body["Protocols"]:
            # Apache Kafka makes a group of it, though it has no member.
            step.body["Protocols"] = [{"Name": "range", "Metadata": b""}]
        if step.body["MemberId"] == "":
            step.body["ProtocolType"] = "consumer"
        if step.version >= 1:
            step.body["RebalanceTimeoutMs"] = 150
        for protocol in step.body["Protocols"]:
            protocol["Metadata"] = struct.pack(">hih3si", 0, 1, 3, b"one", -1) if not self._odd() else b""

    def _adjust_22(self, step):
        step.slot = str(self.random.randrange(PRODUCERS))
        step.body["TransactionalId"] = None
        step.body["TransactionTimeoutMs"] = self._pick([60_000, 2**31 - 1], [0, -1])
        if self.random.random() < 0.8:
            step.body |= {"ProducerId": -1, "ProducerEpoch": -1}

    def _adjust_68(self, step):
        body, random = step.body, self.random
        step.slot = str(random.randrange(MEMBERS))
        # From version 1 on the member makes its id.
        body["MemberId"] = self._pick([Named("member", step.slot)] if step.version == 0 else [f"member-{step.slot}"], ["", "nobody"])
        body["MemberEpoch"] = self._pick([0, 0, 1, 2, 3, -1], [-2, 99, -3])
        if body["MemberEpoch"] == 0 and random.random() < 0.85:
            if step.version == 0:
                body["MemberId"] = ""
            body |= {"RebalanceTimeoutMs": 60_000, "TopicPartitions": [], "SubscribedTopicNames": [random.choice(TOPICS)]}
            body["SubscribedTopicRegex"] = None
        name = self._pick(["c1", "c2", "g1"], [""])
        body["GroupId"] = name and name + self.suffix

    def _adjust_settings(self, step):
        for resource in step.body["Resources"]:
            kind = self._pick([2, 2, 2, 4, 32, 16], [0, 1, 3, 8, -1])
            resource["ResourceType"] = kind
            names = {2: TOPICS + ["none"], 4: ["", "1", "1", "2", "x"], 32: [name + self.suffix for name in GROUPS], 16: ["m1", "m2"], 8: ["1"]}
            resource["ResourceName"] = self._pick(names.get(kind, ["x"]), ["", "none"])
            settings = {4: BROKER_SETTINGS, 8: LOGGERS, 32: GROUP_SETTINGS, 16: METRICS_SETTINGS}.get(kind, SETTINGS)
            if "ConfigurationKeys" in resource:
                resource["ConfigurationKeys"] = [self.random.choice(list(settings)) for _ in range(self.random.randint(0, 3))] or [next(iter(settings))]
            for config in resource.get("Configs", ()):
                config["Name"] = self.random.choice([name for name in settings if kind != 4 or name != "nope" or self._rare()])
                config["Value"] = self._pick(settings[config["Name"]], [None])
                if "ConfigOperation" in config:
                    config["ConfigOperation"] = self.random.choice([4, -1] if self._rare() else [0, 0, 1, 2, 3])

    _adjust_32 = _adjust_33 = _adjust_44 = _adjust_settings

    def _adjust_19(self, step):
        for topic in step.body["Topics"]:
            topic["Name"] = self._pick(["own-1", "own-2"], ["one", "", "a/b", "..", "x" * 250, "__consumer_offsets"])
            if self.random.random() < 0.7:
                topic["Assignments"] = []
            for config in topic["Configs"]:
                config["Name"] = self.random.choice(list(SETTINGS))
                config["Value"] = self._pick(SETTINGS[config["Name"]], [None])

    def _adjust_20(self, step):
        own = ["own-1", "own-2"]
        if "TopicNames" in step.body:
            step.body["TopicNames"] = [self._pick(own, ["none", ""]) for _ in step.body["TopicNames"]]
        for topic in step.body.get("Topics", ()):
            topic["Name"] = self._pick(own, ["none"])
            topic["TopicId"] = bytes(16)
            if self.random.random() < 0.3:
                topic |= {"Name": None, "TopicId": self._pick([Named("topic", "own-1")], [b"\7" * 16])}

    def _adjust_37(self, step):
        for topic in step.body["Topics"]:
            topic["Name"] = self._pick(["own-1", "own-2"], ["none", ""])

    def _adjust_45(self, step):
        for topic in step.body["Topics"]:
            topic["Name"] = self._pick(["one", "none"])

    def _adjust_57(self, step):
        step.body["ValidateOnly"] = True
        if step.version == 0:
            step.body["FeatureUpdates"] = []
        for update in step.body["FeatureUpdates"]:
            update["UpgradeType"] = self._pick([1, 2, 3], [0, 4])

    def _adjust_18(self, step):
        step.body |= {"ClusterId": None, "NodeId": -1}
        if step.version >= 3:
            step.body |= {"ClientSoftwareName": self._pick(["x"], ["", "!"]), "ClientSoftwareVersion": self._pick(["1"], ["", " "])}


# What names an element of an array.
NAMES = ("Name", "Topic", "TopicName", "TopicId", "PartitionIndex", "Partition", "Index", "GroupId", "ResourceType", "ResourceName", "Feature", "MemberId", "GroupInstanceId")


def _once(body):
    """Nothing is named twice: what becomes of that is left to each program."""
    for name, value in body.items():
        if isinstance(value, dict):
            _once(value)
        elif isinstance(value, list):
            by_name = {}
            for one in value:
                if isinstance(one, dict):
                    _once(one)
                    by_name.setdefault(repr([one.get(key) for key in NAMES]), one)
                else:
                    by_name.setdefault(repr(one), one)
            body[name] = list(by_name.values())


@dataclasses.dataclass(frozen=True)
class Batch:
    """A record batch of (key, value, time) records; `lie` is what is wrong with it."""

    records: tuple
    is_compressed: bool
    producer: Named | None
    sequence: int
    lie: str | None

    def bytes(self, now_ms, producer):
        body = b"".join(batches.record(delta, self.records[delta][2], *self.records[delta][:2]) for delta in range(len(self.records)))
        count, attributes, magic, last = len(self.records), 1 if self.is_compressed else 0, 2, len(self.records) - 1
        body = gzip.compress(body, mtime=0) if self.is_compressed else body
        producer_id, epoch = producer if producer else (-1, -1)
        sequence = self.sequence if producer else -1
        if self.lie == "count":
            count += 1
        elif self.lie == "attributes":
            attributes = 6
        elif self.lie == "magic":
            magic = 3
        elif self.lie == "offsets":
            last += 2
        elif self.lie == "time":
            now_ms -= 10**15
        header = struct.pack(">hiqqqhii", attributes, last, now_ms, now_ms + 2, producer_id, epoch, sequence, count)
        crc = batches.crc32c(header + body) ^ (1 if self.lie == "crc" else 0)
        length = 9 + len(header) + len(body) + (5 if self.lie == "length" else 0)
        return struct.pack(">qiibI", 0, length, -1, magic, crc) + header + body
