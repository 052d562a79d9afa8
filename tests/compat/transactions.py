#!/usr/bin/env python3
"""The transactions of Kafka's clients against a broker that is killed under them.

    python3 tests/compat/transactions.py --broker target/release/odradek --driver uring
    python3 tests/compat/transactions.py --broker kafka               # the reference

Options:
    --broker BIN|kafka   the binary to start as the broker, or `kafka` for Apache Kafka
    --driver uring|sync  handed to the binary (default uring)
    --client NAME        only this one, of harness/clients.py; can be repeated (default: all that have transactions)
    --shards N           handed to the binary (default 2)
    --cache DIR          where clients are installed and logs are kept (default target/compat)

Each client commits and aborts, has its group's offsets in transactions, is fenced, and goes on with a transaction when the broker
comes back from kill -9: harness/transactions.py tells the steps. All run side by side on one broker, each with its own topics.

Prints one line per test and at the end `N passed, N failed`; the exit code is 0 only if tests ran and none failed.
"""

import sys
import threading

from harness import broker, program, report, scenario, transactions
from harness.clients import CLIENTS_UNDER_TEST, GROUP_SETTINGS
from systems.running import Topics

SETTINGS = {**GROUP_SETTINGS, "group.initial.rebalance.delay.ms": "0"}


def main():
    arguments = _arguments()
    results = report.Report()
    clients = [client for client in CLIENTS_UNDER_TEST if client.name in arguments.clients]
    parts = {"python", *(part for client in clients for part in client.parts)}
    tools = program.installed(arguments, parts | ({"jars"} if arguments.broker == "kafka" else set()), results)
    if tools is None:
        return results.close()
    folder = program.new_folder(arguments, "transactions-runs")

    def make():
        if arguments.broker == "kafka":
            return [broker.Kafka(folder, tools, settings=SETTINGS)]
        settings = [f"{name}={value}" for name, value in SETTINGS.items()]
        return [broker.Odradek(folder, arguments.broker, arguments.driver, arguments.shards, settings)]

    program.with_servers(make, lambda server: _run(clients, tools, server, folder, results), results)
    return results.close()


def _arguments():
    names = [client.name for client in CLIENTS_UNDER_TEST if client.transacts]
    parser = program.parser(__doc__)
    parser.add_argument("--client", choices=names, action="append", dest="clients")
    arguments = program.parse(parser)
    by_default = [client.name for client in CLIENTS_UNDER_TEST if client.transacts and client.by_default]
    arguments.clients = arguments.clients or by_default
    return arguments


def _run(clients, tools, server, folder, results):
    def restart():
        server.kill()
        server.start()

    gate, topics = scenario.RestartGate(len(clients), restart), Topics(tools, server)
    threads = []
    for client in clients:
        one = transactions.Steps(client, tools, server, topics, gate, folder)
        threads.append(threading.Thread(target=scenario.run, args=(one, gate, results)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
