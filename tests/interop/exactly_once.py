"""Exactly once, and what becomes of transactions when brokers are killed or follow one another. Called by run.py.

Transactions are left open when Odradek is killed, when Apache Kafka follows it on its directory, and when it follows Apache
Kafka; each time the next broker finds them open, and ends them when their producers come back. In between Odradek is killed
again and again under transactions that go on.
"""

import random
import shutil
import threading
import time

from harness import Failure, broker

SETTINGS = {
    "transaction.state.log.num.partitions": "3",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}
KILLS = 5


def run(arguments, tools, folder, results, run_client):
    folder = folder / "exactly-once"
    settings = [f"{name}={value}" for name, value in SETTINGS.items()]
    servers = []
    try:
        ours = broker.Odradek(folder / "odradek", arguments.broker, arguments.driver, arguments.shards, settings=settings)
        servers.append(ours)
        ours.start()
        passed = run_client(tools, folder, ours, results, "once") and run_client(tools, folder, ours, results, "once-leave")
        ours.kill()
        ours.start()
        passed = passed and run_client(tools, folder, ours, results, "once-resume")
        passed = passed and _storm(tools, folder, ours, results, run_client)
        passed = passed and run_client(tools, folder, ours, results, "once-leave")
        ours.stop()
        if not passed:
            return
        kafka = broker.Kafka(folder / "kafka", tools, settings={"node.id": "1", **SETTINGS}, data_dir=ours.data_dir)
        servers.append(kafka)
        kafka.start()
        passed = all(run_client(tools, folder, kafka, results, part) for part in ("once-resume", "once-leave"))
        kafka.kill()
        if passed:
            ours.start()
            run_client(tools, folder, ours, results, "once-resume")
            ours.stop()
    except Failure as failure:
        results.add("exactly once", "the brokers go on with each other's", str(failure), 0)
    finally:
        for server in servers:
            server.kill()
    shutil.rmtree(folder / "odradek" / "data", ignore_errors=True)


def _storm(tools, folder, server, results, run_client):
    """Kills the broker again and again while transactions go on."""
    passed = []
    thread = threading.Thread(target=lambda: passed.append(run_client(tools, folder, server, results, "once-storm")))
    thread.start()
    for _ in range(KILLS):
        time.sleep(random.uniform(0.8, 2.0))
        server.kill()
        server.start()
    thread.join()
    return passed == [True]
