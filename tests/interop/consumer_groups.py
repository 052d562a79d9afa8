"""Consumer groups of KIP-848, and Apache Kafka and Odradek that go on with each other's.

Members join, share, leave and come back at Odradek; some of them crash. Odradek starts again on its directory, then Apache
Kafka, then Odradek: each finds the members with what they had, and lets others go on. Called by run.py.
"""

import succession

# Members that crashed are out soon.
SETTINGS = {
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
}


def run(arguments, tools, folder, results, run_client):
    folder = folder / "consumer-groups"

    def serve(ours, follow):
        passed = run_client(tools, folder, ours, results, "begin")
        ours.restart()
        passed = passed and run_client(tools, folder, ours, results, "resume")
        ours.stop()
        if not passed:
            return
        kafka = follow()
        passed = run_client(tools, folder, kafka, results, "resume")
        kafka.stop()
        if passed:
            ours.start()
            run_client(tools, folder, ours, results, "resume")
            ours.stop()

    succession.run(arguments, tools, folder, SETTINGS, results, "consumer groups", serve)
