"""Odradek takes over what Apache Kafka wrote, adds to it, and Apache Kafka goes on from there.

Apache Kafka runs as node 7: with the driver `uring` as a dynamic quorum, with `sync` as a static one. Its directory is taken
as a clean stop leaves it and as kill -9 does. Called by run.py.
"""

import shutil
import subprocess
import time

import kafka_log
from harness import Failure, broker

NODE = "7"
STOPS = ("clean", "unclean")
# What compaction and retention let go, they let go within seconds.
SOON = {
    "log.retention.check.interval.ms": "500",
    "log.initial.task.delay.ms": "500",
    "log.cleaner.backoff.ms": "500",
}
# What the clients have to find, from broker to broker.
EXPECTED = ("client.pickle", "transactions_client.pickle", "leftovers_client.pickle")
# Odradek writes a snapshot of its metadata every few records, and lets the log before the last one go.
SNAPSHOTS = ["metadata.log.max.record.bytes.between.snapshots=2000"]


def run(arguments, tools, folder, results, run_client):
    quorum = "static" if arguments.driver == "sync" else "dynamic"
    servers = []
    settings = {"node.id": NODE, "transaction.state.log.num.partitions": "2", **SOON}
    try:
        kafka = broker.Kafka(folder / "kafka", tools, settings=settings, quorum=quorum)
        servers.append(kafka)
        if not _write(arguments, tools, folder, kafka, results, run_client):
            return
        for stop in STOPS:
            _take(arguments, tools, folder, quorum, stop, results, run_client, servers)
    except Failure as failure:
        results.add("takeover", f"of a {quorum} quorum can be run", str(failure), 0)
    finally:
        for server in servers:
            server.kill()


def _write(arguments, tools, folder, kafka, results, run_client):
    """Fills Kafka's directory twice, and keeps what the clean and the unclean stop leave."""
    for stop, parts in zip(STOPS, [("fill-first", "fill-kafka", "leave", "transact"), ("fill-second", "transact-more")], strict=True):
        copy = folder / stop
        copy.mkdir(parents=True)
        kafka.start()
        if stop == "unclean":
            for name in EXPECTED:
                shutil.copy(folder / "clean" / name, kafka.folder)
        if not all(run_client(tools, kafka.folder, kafka, results, part) for part in parts):
            return False
        if stop == "clean":
            kafka.stop()
            shutil.copytree(kafka.data_dir, copy / "data")
        else:
            kafka.kill()
            # No copy: what a killed Kafka leaves takes 20 MiB a partition, nearly all of it zeros.
            kafka.data_dir.rename(copy / "data")
        for name in EXPECTED:
            shutil.copy(kafka.folder / name, copy)
        verify(arguments, copy / "data", f"that Apache Kafka left by an {stop} stop", results)
    return True


def _take(arguments, tools, folder, quorum, stop, results, run_client, servers):
    copy = folder / stop
    identity = (copy / "data" / "meta.properties").read_bytes()
    settings = [f"node.id={NODE}", *SNAPSHOTS]
    ours = broker.Odradek(copy, arguments.broker, arguments.driver, arguments.shards, settings=settings)
    servers.append(ours)
    started, failure = time.monotonic(), None
    try:
        ours.start()
    except Failure as error:
        failure = str(error)
    name = f"Odradek starts on a {quorum} quorum after a {stop} stop"
    results.add("takeover", name, failure, time.monotonic() - started)
    if failure:
        return
    for part in ("check", "left", "transactions", "carry-on", "transactions-add", "own-settings"):
        run_client(tools, copy, ours, results, part)
    ours.restart()
    for part in ("check", "transactions"):
        run_client(tools, copy, ours, results, part)
    ours.stop()
    verify(arguments, copy / "data", f"that Odradek left, of a {quorum} quorum after an {stop} stop", results)
    snapshots = len(list((copy / "data" / "__cluster_metadata-0").glob("*.checkpoint")))
    failure = None if snapshots == 2 else f"{snapshots} snapshots"
    results.add("takeover", "two snapshots of the metadata are kept", failure, 0)
    kept = (copy / "data" / "meta.properties").read_bytes() == identity
    results.add("takeover", "node, directory and cluster keep their ids", None if kept else "meta.properties changed", 0)
    again = broker.Kafka(
        copy / "again", tools, settings={"node.id": NODE}, data_dir=copy / "data", quorum=quorum
    )
    servers.append(again)
    again.start()
    kafka_log.check(again, results, f" after Odradek, after an {stop} stop")
    for part in ("check-own", "left", "transactions-end"):
        run_client(tools, copy, again, results, part)
    again.stop()
    ours.start()
    run_client(tools, copy, ours, results, "check")
    ours.stop()
    verify(arguments, copy / "data", f"of a {quorum} quorum after an {stop} stop", results)


def verify(arguments, data, what, results):
    """`odradek log verify` finds nothing, and `odradek log dump` shows it."""
    for word, does in (("verify", "finds nothing in"), ("dump", "shows")):
        started = time.monotonic()
        done = subprocess.run(
            [str(arguments.broker), "log", word, str(data)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )
        failure = None if done.returncode == 0 else f"{done.stdout.strip()[-1500:]} {done.stderr.strip()}"
        results.add("takeover", f"log {word} {does} a directory {what}", failure, time.monotonic() - started)
