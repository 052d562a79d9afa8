"""The clients under test: how each is started, and what its API can send and tell."""

import dataclasses
import os

from .install import CLIENTS

ALL_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# kafkajs ships with gzip alone.
GZIP_ONLY = ("none", "gzip")

# What a client can send: `make` of records.py leaves out what is not named.
EVERYTHING = frozenset(
    ["binary", "null keys", "empty keys", "null values", "empty values", "headers", "null headers", "timestamps"]
)


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


# What the broker says to members of KIP-848's groups: they notice a rebalance within a second, as the others do.
GROUP_SETTINGS = {
    "group.consumer.min.heartbeat.interval.ms": "300",
    "group.consumer.heartbeat.interval.ms": "300",
}


def environment_of(client, tools, is_newer):
    """A client's environment; `is_newer` says which protocol its consumers speak in their groups."""
    environment = dict(client.environment(tools) or os.environ)
    return dict(environment, GROUP_PROTOCOL="consumer" if is_newer else "classic")


def _python(script):
    return lambda tools: [tools.python, CLIENTS / script]


CLIENTS_UNDER_TEST = (
    Client("confluent-kafka", ("python",), ALL_CODECS, EVERYTHING, _python("confluent_client.py")),
    Client("kafka-python", ("python",), ALL_CODECS, EVERYTHING - {"null headers"}, _python("kafka_python_client.py")),
    Client("aiokafka", ("python",), ALL_CODECS, EVERYTHING, _python("aiokafka_client.py")),
    Client(
        "java", ("jars", "java"), ALL_CODECS, EVERYTHING,
        lambda tools: tools.java("-cp", f"{tools.java_classes}:{tools.jars}/*", "Client", heap_mb=128),
    ),
    # The same program, compiled against the last client of Kafka 3.
    Client(
        "java-3", ("java3",), ALL_CODECS, EVERYTHING,
        lambda tools: tools.java(
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{tools.java3_classes}:{tools.jars3}/*", "Client", heap_mb=128,
        ),
    ),
    # Members of KIP-848's groups; confluent-kafka subscribes by an expression.
    Client("confluent-kafka-848", ("python",), ALL_CODECS, EVERYTHING, _python("confluent_client.py"), is_newer=True),
    Client(
        "java-848", ("jars", "java"), ALL_CODECS, EVERYTHING,
        lambda tools: tools.java("-cp", f"{tools.java_classes}:{tools.jars}/*", "Client", heap_mb=128), is_newer=True,
    ),
    Client("franz-go", ("go",), ALL_CODECS, EVERYTHING, lambda tools: [tools.franz]),
    Client(
        "kafkajs", ("node",), GZIP_ONLY, EVERYTHING - {"null headers"},
        lambda tools: ["node", CLIENTS / "kafkajs" / "client.js"],
        environment=lambda tools: dict(os.environ, NODE_PATH=str(tools.node_modules), KAFKAJS_NO_PARTITIONER_WARNING="1"),
    ),
    # Its command line carries text, separated by one byte; it neither takes timestamps nor tells offsets.
    Client(
        "kcat", ("kcat", "python"), ALL_CODECS, frozenset(["empty values"]), _python("kcat_client.py"),
        commits_on_demand=False,
    ),
)
