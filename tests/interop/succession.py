"""Odradek, and Apache Kafka that goes on on its directory."""

import shutil

from harness import Failure, broker


def run(arguments, tools, folder, settings, results, subject, body):
    """Calls `body` with Odradek, started, and with what starts Apache Kafka in its place. Nothing is left of either."""
    servers = []

    def follow():
        # At the same address, which the directory has: a marker that Apache Kafka sends to another one, before it has registered
        # its own, may never come.
        ours = servers[0]
        settings_of_node = {"node.id": "1", **settings}
        kafka = broker.Kafka(folder / "kafka", tools, settings=settings_of_node, data_dir=ours.data_dir, port=ours.port)
        servers.append(kafka)
        kafka.start()
        return kafka

    try:
        own = [f"{name}={value}" for name, value in settings.items()]
        ours = broker.Odradek(folder / "odradek", arguments.broker, arguments.driver, arguments.shards, settings=own)
        servers.append(ours)
        ours.start()
        body(ours, follow)
    except Failure as failure:
        results.add(subject, "the brokers go on with each other's", str(failure), 0)
    finally:
        for server in servers:
            server.kill()
    shutil.rmtree(folder / "odradek" / "data", ignore_errors=True)
