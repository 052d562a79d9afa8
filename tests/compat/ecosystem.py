#!/usr/bin/env python3
"""What is built on Kafka, unchanged, against a broker: Kafka Connect, Kafka Streams, MirrorMaker 2, a lag exporter, a copier.

    python3 tests/compat/ecosystem.py --broker target/release/odradek --driver uring
    python3 tests/compat/ecosystem.py --broker kafka                  # the reference

Options:
    --broker BIN|kafka   the binary to start as the broker, or `kafka` for Apache Kafka
    --driver uring|sync  handed to the binary (default uring)
    --only NAME          only this one, of SYSTEMS below; can be repeated
    --shards N           handed to the binary (default 2)
    --kills N            of the broker and the instances in streams-once (default 6)
    --cache DIR          where jars and clients are installed and logs are kept (default target/compat)

Each has its own topics and groups on one broker, one after the other, since two cores are no more than one of them takes.
MirrorMaker 2 gets an Apache Kafka beside the broker. What each does, and what must come out of it, is told in systems/.

Prints one line per test and at the end `N passed, N failed`; the exit code is 0 only if tests ran and none failed.
"""

import sys
import time

from harness import Failure, broker, program, report
from systems import connect, copier, lag, mirror, streams, streams_once

SYSTEMS = {
    "connect-standalone": ("lines go from file to file, each once, also over a restart", connect.standalone),
    "connect-distributed": ("workers come and go, connectors and offsets are kept, lines go through once", connect.distributed),
    "streams": ("counts words exactly, with instances that come and go and a state restored from its topic", streams.word_count),
    "streams-once": ("counts and joins exactly once while the broker and the instances are killed", streams_once.through_kills),
    "copier": ("TransactionalMessageCopier copies exactly once while the broker is killed", copier.copy),
    "kafkatop": ("tells the lag of a group", lag.kafkatop),
    "kafka-overwatch": ("exports the lag of a group to Prometheus", lag.overwatch),
    "mirror-maker": ("copies topics and groups' offsets to Apache Kafka and from it", mirror.both_ways),
}


def main():
    arguments = _arguments()
    results = report.Report()
    tools = program.installed(arguments, {"python", "jars", "connect", "streams", "kafkatop", "overwatch"}, results)
    if tools is None:
        return results.close()
    folder = program.new_folder(arguments, "ecosystem-runs")

    def run_all(server):
        for name in arguments.only:
            _run(name, arguments, tools, server, folder, results)

    program.with_servers(lambda: [broker.of(arguments, tools, folder)], run_all, results)
    return results.close()


def _arguments():
    parser = program.parser(__doc__)
    parser.add_argument("--only", choices=list(SYSTEMS), action="append")
    parser.add_argument("--kills", type=int, default=6)
    arguments = program.parse(parser)
    arguments.only = arguments.only or list(SYSTEMS)
    return arguments


def _run(name, arguments, tools, server, folder, results):
    promise, test = SYSTEMS[name]
    started, failure = time.monotonic(), None
    own = folder / name
    own.mkdir()
    try:
        test(tools, server, own, **({"kills": arguments.kills} if name == "streams-once" else {}))
    except Failure as error:
        failure = str(error)
    results.add(name, promise, failure, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
