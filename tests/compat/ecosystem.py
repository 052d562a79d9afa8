#!/usr/bin/env python3
"""What is built on Kafka, unchanged, against a broker: Kafka Connect, Kafka Streams, MirrorMaker 2, and a lag exporter.

    python3 tests/compat/ecosystem.py --broker target/release/odradek --driver uring
    python3 tests/compat/ecosystem.py --broker kafka                  # the reference

Options:
    --broker BIN|kafka   the binary to start as the broker, or `kafka` for Apache Kafka
    --driver uring|sync  handed to the binary (default uring)
    --only NAME          only this one, of SYSTEMS below; can be repeated
    --shards N           handed to the binary (default 2)
    --cache DIR          where jars and clients are installed and logs are kept (default target/compat)

Each has its own topics and groups on one broker, one after the other, since two cores are no more than one of them takes.
MirrorMaker 2 gets an Apache Kafka beside the broker. What each does, and what must come out of it, is told in systems/.

Prints one line per test and at the end `N passed, N failed`; the exit code is 0 only if tests ran and none failed.
"""

import argparse
import pathlib
import shutil
import sys
import time

from harness import Failure, broker, install, report
from systems import connect, lag, mirror, streams

SYSTEMS = {
    "connect-standalone": ("lines go from file to file, each once, also over a restart", connect.standalone),
    "connect-distributed": ("workers come and go, connectors and offsets are kept, lines go through once", connect.distributed),
    "streams": ("counts words exactly, with instances that come and go and a state restored from its topic", streams.word_count),
    "kafkatop": ("tells the lag of a group", lag.kafkatop),
    "mirror-maker": ("copies topics and groups' offsets to Apache Kafka and from it", mirror.both_ways),
}


def main():
    arguments = _arguments()
    results = report.Report()
    started = time.monotonic()
    try:
        tools = install.install(arguments.cache, {"python", "jars", "connect", "streams", "kafkatop"})
    except Failure as failure:
        results.add("install", "what the tests need is installed", str(failure), time.monotonic() - started)
        return results.close()
    folder = arguments.cache / "ecosystem-runs" / ("kafka" if arguments.broker == "kafka" else arguments.driver)
    shutil.rmtree(folder, ignore_errors=True)
    server = None
    try:
        if arguments.broker == "kafka":
            server = broker.Kafka(folder, tools)
        else:
            server = broker.Odradek(folder, arguments.broker, arguments.driver, arguments.shards)
        server.start()
        for name in arguments.only:
            _run(name, tools, server, folder, results)
        server.stop()
    except Failure as failure:
        results.add("broker", "starts and stops", str(failure), time.monotonic() - started)
    finally:
        if server is not None:
            server.kill()
    return results.close()


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--driver", choices=["uring", "sync"], default="uring")
    parser.add_argument("--only", choices=list(SYSTEMS), action="append")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--cache", type=pathlib.Path, default=install.DEFAULT_CACHE)
    arguments = parser.parse_args()
    arguments.only = arguments.only or list(SYSTEMS)
    arguments.cache = arguments.cache.resolve()
    return arguments


def _run(name, tools, server, folder, results):
    promise, test = SYSTEMS[name]
    started, failure = time.monotonic(), None
    own = folder / name
    own.mkdir()
    try:
        test(tools, server, own)
    except Failure as error:
        failure = str(error)
    results.add(name, promise, failure, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
