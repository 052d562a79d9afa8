#!/usr/bin/env python3
"""Runs Kafka's clients against a broker: the first scenario, then every client through groups, commits and a restart.

    python3 tests/compat/run.py --broker target/release/odradek --driver uring
    python3 tests/compat/run.py --broker kafka                      # the reference: Apache Kafka itself

Options:
    --broker BIN|kafka   the binary to start as the broker, or `kafka` for Apache Kafka (its jars are installed as well)
    --driver uring|sync  handed to the binary; its ready line must name it (default uring)
    --client NAME        only this one; can be repeated. NAME is first-scenario or one of harness/clients.py, where those
                         that end in -848 are members of consumer groups (KIP-848) (default: all but rdkafka-848)
    --shards N           handed to the binary (default 2)
    --cache DIR          where clients are installed and logs are kept (default target/compat)
    --install-only       install the clients and stop

It installs what it needs, pinned, into the cache: pip for the Python clients, npm for those of Node, go for those in Go,
cargo for rdkafka, mvn and javac for the two Java clients, apt-get for kcat if that is missing and this is root. A tool that is
missing fails the run in one line. The scenario is told in harness/scenario.py, the protocol between it and the clients in harness/process.py.

Prints one line per test and at the end `N passed, N failed`; the exit code is 0 only if tests ran and none failed.
"""

import sys
import threading
import time

import first_scenario
from harness import Failure, broker, program, report, scenario
from harness.clients import CLIENTS_UNDER_TEST, GROUP_SETTINGS

FIRST_SCENARIO = "first-scenario"
# Tells a member that is silent from one that is not answered.
LOG = "info,broker::api::consumer_group_heartbeat=debug"


def main():
    arguments = _arguments()
    results = report.Report()
    tools = program.installed(arguments, _parts(arguments), results)
    if tools is None:
        return results.close()
    if arguments.install_only:
        return 0
    _run(arguments, tools, program.new_folder(arguments, "runs"), results)
    return results.close()


def _arguments():
    names = [FIRST_SCENARIO, *(client.name for client in CLIENTS_UNDER_TEST)]
    parser = program.parser(__doc__)
    parser.add_argument("--client", choices=names, action="append", dest="clients")
    parser.add_argument("--install-only", action="store_true")
    arguments = program.parse(parser)
    by_default = [FIRST_SCENARIO, *(client.name for client in CLIENTS_UNDER_TEST if client.by_default)]
    arguments.clients = arguments.clients or by_default
    return arguments


def _parts(arguments):
    parts = {part for client in CLIENTS_UNDER_TEST if client.name in arguments.clients for part in client.parts}
    if FIRST_SCENARIO in arguments.clients:
        parts.add("python")
    if arguments.broker == "kafka":
        parts |= {"jars", "python"}
    return parts


def _run(arguments, tools, folder, results):
    try:
        if arguments.broker == "kafka":
            server = broker.Kafka(folder, tools, settings=GROUP_SETTINGS)
        else:
            settings = [f"{name}={value}" for name, value in GROUP_SETTINGS.items()]
            server = broker.Odradek(folder, arguments.broker, arguments.driver, arguments.shards, settings, LOG)
        server.start()
    except Failure as failure:
        results.add("broker", "starts", str(failure), 0)
        return
    try:
        # By itself: its promise is about time, and nothing else may have been there before.
        if FIRST_SCENARIO in arguments.clients:
            if arguments.broker == "kafka":
                first_scenario.warm_up(tools, server.address)
            first_scenario.run(tools, server.address, folder, results)
        _run_scenarios(arguments, tools, server, folder, results)
        started, failure = time.monotonic(), None
        try:
            server.stop()
        except Failure as error:
            failure = str(error)
        results.add("broker", "stops cleanly on SIGTERM", failure, time.monotonic() - started)
    finally:
        server.kill()


def _run_scenarios(arguments, tools, server, folder, results):
    clients = [client for client in CLIENTS_UNDER_TEST if client.name in arguments.clients]
    gate = scenario.RestartGate(len(clients), server.restart)
    threads = []
    for client in clients:
        one = scenario.Scenario(client, tools, server, gate, folder)
        threads.append(threading.Thread(target=scenario.run, args=(one, gate, results)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
