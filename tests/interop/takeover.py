"""Odradek takes over what Apache Kafka wrote, adds to it, and Apache Kafka goes on from there.

Apache Kafka runs as node 7: with the driver `uring` as a dynamic quorum, with `sync` as a static one. Its directory is taken
as a clean stop leaves it and as kill -9 does. Called by run.py.
"""

import shutil
import time

from harness import Failure, broker

NODE = "7"
STOPS = ("clean", "unclean")


def run(arguments, tools, folder, results, run_client):
    quorum = "static" if arguments.driver == "sync" else "dynamic"
    servers = []
    try:
        kafka = broker.Kafka(folder / "kafka", tools, settings={"node.id": NODE}, quorum=quorum)
        servers.append(kafka)
        if not _write(tools, folder, kafka, results, run_client):
            return
        for stop in STOPS:
            _take(arguments, tools, folder, quorum, stop, results, run_client, servers)
    except Failure as failure:
        results.add("takeover", f"of a {quorum} quorum can be run", str(failure), 0)
    finally:
        for server in servers:
            server.kill()


def _write(tools, folder, kafka, results, run_client):
    """Fills Kafka's directory twice, and keeps what the clean and the unclean stop leave."""
    for stop, parts in zip(STOPS, [("fill-first", "fill-kafka"), ("fill-second",)], strict=True):
        copy = folder / stop
        copy.mkdir(parents=True)
        kafka.start()
        if stop == "unclean":
            shutil.copy(folder / "clean" / "expected.pickle", kafka.folder)
        if not all(run_client(tools, kafka.folder, kafka, results, part) for part in parts):
            return False
        if stop == "clean":
            kafka.stop()
            shutil.copytree(kafka.data_dir, copy / "data")
        else:
            kafka.kill()
            # No copy: what a killed Kafka leaves takes 20 MiB a partition, nearly all of it zeros.
            kafka.data_dir.rename(copy / "data")
        shutil.copy(kafka.folder / "expected.pickle", copy)
    return True


def _take(arguments, tools, folder, quorum, stop, results, run_client, servers):
    copy = folder / stop
    identity = (copy / "data" / "meta.properties").read_bytes()
    settings = [f"node.id={NODE}"]
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
    for part in ("check-odradek", "carry-on"):
        run_client(tools, copy, ours, results, part)
    ours.restart()
    run_client(tools, copy, ours, results, "check-odradek")
    ours.stop()
    kept = (copy / "data" / "meta.properties").read_bytes() == identity
    results.add("takeover", "node, directory and cluster keep their ids", None if kept else "meta.properties changed", 0)
    again = broker.Kafka(
        copy / "again", tools, settings={"node.id": NODE}, data_dir=copy / "data", quorum=quorum
    )
    servers.append(again)
    again.start()
    run_client(tools, copy, again, results, "check-kafka")
    again.stop()
