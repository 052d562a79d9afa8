"""The clients under test: how each is started, and what its API can send and tell."""

import dataclasses
import os

from .install import CLIENTS

ALL_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# kafkajs ships with gzip alone.
GZIP_ONLY = ("none", "gzip")

# What an administrator can do with the settings of a topic, beside creating, listing, describing and deleting it.
SETTINGS = frozenset(["is told the settings of", "alters the settings of"])

# What a client can send: `make` of records.py leaves out what is not named.
EVERYTHING = frozenset(
    ["binary", "null keys", "empty keys", "null values", "empty values", "headers", "empty headers", "null headers", "timestamps"]
)
EMPTY = frozenset(["empty keys", "empty values", "empty headers"])


@dataclasses.dataclass(frozen=True)
class Client:
    name: str
    # The parts of harness/install.py that it needs.
    parts: tuple
    codecs: tuple
    abilities: frozenset
    # A function of the Tools: the command line up to the role, and the environment.
    command: object
    environment: object = lambda tools: None
    # Whether its consumers are members of KIP-848's groups.
    is_newer: bool = False
    # Whether it commits when told to; kcat commits only by itself, the last time when it is closed.
    commits_on_demand: bool = True
    # Of SETTINGS; None if it is no administrator at all.
    admin: frozenset | None = SETTINGS
    # Whether it is also run alone; a client that is run with both group protocols is so once.
    seeks: bool = True
    # Whether it has transactions.
    transacts: bool = True
    # Whether it is run without being asked for.
    by_default: bool = True

    def with_consumer_groups(self):
        """The same client as members of KIP-848's groups."""
        name = f"{self.name}-848"
        return dataclasses.replace(self, name=name, is_newer=True, codecs=("none", "gzip"), admin=None, seeks=False)


# What the broker says to members of KIP-848's groups: they notice a rebalance within seconds. It is also how long librdkafka
# waits for an answer; what a later one says of the assignment is lost to it, as it sends no full heartbeat then. 300 ms were
# not enough on a busy machine.
GROUP_SETTINGS = {
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "1000",
}


def environment_of(client, tools, is_newer):
    """A client's environment; `is_newer` says which protocol its consumers speak in their groups."""
    environment = dict(client.environment(tools) or os.environ)
    return dict(environment, GROUP_PROTOCOL="consumer" if is_newer else "classic")


def _python(script):
    return lambda tools: [tools.python, CLIENTS / script]


FRANZ_GO = Client("franz-go", ("go",), ALL_CODECS, EVERYTHING, lambda tools: [tools.go_client("franz")])
# Through the interface that it shares with kafkajs: headers are an object's fields, and settings are for creating alone.
# It tells what has no bytes as if it were not there.
CONFLUENT_JAVASCRIPT = Client(
    "confluent-kafka-javascript", ("confluent-javascript",), ALL_CODECS, EVERYTHING - EMPTY - {"null headers"},
    lambda tools: ["node", CLIENTS / "confluent-javascript" / "client.js"],
    environment=lambda tools: dict(os.environ, NODE_PATH=str(tools.node_modules("confluent-javascript"))),
    admin=frozenset(),
)
PLATFORMATIC = Client(
    "platformatic-kafka", ("platformatic",), ALL_CODECS, EVERYTHING,
    lambda tools: [tools.newer_node, CLIENTS / "platformatic" / "client.js"],
    environment=lambda tools: dict(os.environ, NODE_PATH=str(tools.node_modules("platformatic"))),
    # It has, but its consumers of read_committed show what was aborted: it looks at no list of it (2.12.1).
    transacts=False,
)
RDKAFKA = Client("rdkafka", ("rdkafka",), ALL_CODECS, EVERYTHING, lambda tools: [tools.rdkafka])

CONFLUENT_KAFKA = Client("confluent-kafka", ("python",), ALL_CODECS, EVERYTHING, _python("confluent_client.py"))
JAVA = Client(
    "java", ("jars", "java"), ALL_CODECS, EVERYTHING,
    lambda tools: tools.java("-cp", f"{tools.java_classes}:{tools.jars}/*", "Client", heap_mb=128),
)

CLIENTS_UNDER_TEST = (
    CONFLUENT_KAFKA,
    # It subscribes by an expression.
    CONFLUENT_KAFKA.with_consumer_groups(),
    Client("kafka-python", ("python",), ALL_CODECS, EVERYTHING - {"null headers"}, _python("kafka_python_client.py")),
    Client("aiokafka", ("python",), ALL_CODECS, EVERYTHING, _python("aiokafka_client.py")),
    JAVA,
    JAVA.with_consumer_groups(),
    # The same program, compiled against the last client of Kafka 3.
    Client(
        "java-3", ("java3",), ALL_CODECS, EVERYTHING,
        lambda tools: tools.java(
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{tools.java3_classes}:{tools.jars3}/*", "Client", heap_mb=128,
        ),
    ),
    FRANZ_GO,
    FRANZ_GO.with_consumer_groups(),
    Client("sarama", ("go",), ALL_CODECS, EVERYTHING, lambda tools: [tools.go_client("sarama")]),
    # As confluent-kafka-javascript, it tells what has no bytes as if it were not there.
    # Its transactions are single requests, without a producer that keeps to them.
    Client("kafka-go", ("go",), ALL_CODECS, EVERYTHING - EMPTY, lambda tools: [tools.go_client("kafkago")], transacts=False),
    Client(
        "kafkajs", ("kafkajs",), GZIP_ONLY, EVERYTHING - {"null headers"},
        lambda tools: ["node", CLIENTS / "kafkajs" / "client.js"],
        environment=lambda tools: dict(os.environ, NODE_PATH=str(tools.node_modules("kafkajs")), KAFKAJS_NO_PARTITIONER_WARNING="1"),
    ),
    CONFLUENT_JAVASCRIPT,
    CONFLUENT_JAVASCRIPT.with_consumer_groups(),
    PLATFORMATIC,
    PLATFORMATIC.with_consumer_groups(),
    RDKAFKA,
    # Until it has shown with the settings above that it is reliable.
    dataclasses.replace(RDKAFKA.with_consumer_groups(), by_default=False),
    # Its command line carries text, separated by one byte; it neither takes timestamps nor tells offsets.
    Client(
        "kcat", ("kcat", "python"), ALL_CODECS, frozenset(["empty values"]), _python("kcat_client.py"),
        commits_on_demand=False, admin=None, transacts=False,
    ),
)
