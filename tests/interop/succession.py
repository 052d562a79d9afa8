"""Odradek, and Apache Kafka that goes on on its directory."""

import re
import shutil
import time

from harness import Failure, broker

# Apache Kafka goes on from a metadata log in which it leads, so it begins to send markers before it has registered. In the moment
# in which its partitions have no leader it takes them for deleted and drops the markers; and if it is still their
# coordinator then, it notes that the transaction is complete, and never ends it, whoever wrote the directory.
SENDING = re.compile(r"Sending txn markers for .*?transactionalId=([^,\]]+)")
ELECTED = "Elected as the txn coordinator"
STARTS_MAX = 30
# Odradek's registration has to lapse first: sooner than after nine seconds.
LAPSE = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}
PATIENCE_S = 5


def _goes_on(log_path, began):
    """Whether Apache Kafka sends, when it leads again, all the markers that it began to send."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        text = log_path.read_bytes()[began:].decode(errors="replace")
        again = SENDING.findall(text.rpartition(ELECTED)[2])
        if set(again) == set(SENDING.findall(text)):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def run(arguments, tools, folder, settings, results, subject, body):
    """Calls `body` with Odradek, started, and with what starts Apache Kafka in its place. Nothing is left of either."""
    servers = []

    def follow():
        # At the same address, which the directory has: a marker that Apache Kafka sends to another one, before it has registered
        # its own, may never come.
        ours = servers[0]
        kept = folder / "kept"
        shutil.copytree(ours.data_dir, kept)
        try:
            for _ in range(STARTS_MAX):
                settings_of_node = {"node.id": "1", **LAPSE, **settings}
                kafka = broker.Kafka(folder / "kafka", tools, settings=settings_of_node, data_dir=ours.data_dir, port=ours.port)
                servers.append(kafka)
                began = kafka.log_path.stat().st_size if kafka.log_path.exists() else 0
                kafka.start()
                if _goes_on(kafka.log_path, began):
                    return kafka
                kafka.kill()
                shutil.rmtree(ours.data_dir)
                shutil.copytree(kept, ours.data_dir)
            raise Failure(f"Apache Kafka dropped markers in each of {STARTS_MAX} starts")
        finally:
            shutil.rmtree(kept)

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
