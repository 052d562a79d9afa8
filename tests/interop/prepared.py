"""Transactions of which it is decided how they end, and no more: whoever starts on the directory has to end them so.

Odradek is killed under open transactions, and the decisions are written into its log (transaction_state.py); Odradek itself
ends them, and then, from another such directory, Apache Kafka, and then the other way round. Called by run.py.
"""

import prepared_cases
import succession
import transaction_state

SETTINGS = {"transaction.state.log.num.partitions": "3"}


def run(arguments, tools, folder, results, run_client):
    folder = folder / "prepared"

    def leave(server):
        passed = run_client(tools, folder, server, results, "prepare")
        server.kill()
        for name, (outcome, client_version) in prepared_cases.DECIDED.items():
            transaction_state.decide(server.data_dir, name, outcome, client_version)
        return passed

    def serve(ours, follow):
        passed = leave(ours)
        ours.start()
        passed = passed and run_client(tools, folder, ours, results, "prepared") and leave(ours)
        if not passed:
            return
        kafka = follow()
        passed = run_client(tools, folder, kafka, results, "prepared") and leave(kafka)
        if passed:
            ours.start()
            run_client(tools, folder, ours, results, "prepared")
            ours.stop()

    succession.run(arguments, tools, folder, SETTINGS, results, "prepared transactions", serve)
