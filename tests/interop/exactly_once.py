"""Exactly once, and what becomes of transactions when brokers are killed or follow one another. Called by run.py.

Transactions are left open when Odradek is killed, when Apache Kafka follows it on its directory, and when it follows Apache
Kafka; each time the next broker finds them open, and ends them when their producers come back. In between Odradek is killed
again and again under transactions that go on.
"""

import random
import threading
import time

import succession

SETTINGS = {
    "transaction.state.log.num.partitions": "3",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}
KILLS = 5


def run(arguments, tools, folder, results, run_client):
    folder = folder / "exactly-once"

    def serve(ours, follow):
        passed = run_client(tools, folder, ours, results, "once") and run_client(tools, folder, ours, results, "once-leave")
        ours.kill()
        ours.start()
        passed = passed and run_client(tools, folder, ours, results, "once-resume")
        passed = passed and _storm(tools, folder, ours, results, run_client)
        passed = passed and run_client(tools, folder, ours, results, "once-leave")
        ours.stop()
        if not passed:
            return
        kafka = follow()
        passed = all(run_client(tools, folder, kafka, results, part) for part in ("once-resume", "once-leave"))
        kafka.kill()
        if passed:
            ours.start()
            run_client(tools, folder, ours, results, "once-resume")
            ours.stop()

    succession.run(arguments, tools, folder, SETTINGS, results, "exactly once", serve)


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
