"""What the programs of tests/compat and tests/interop have in common: options, what they need, brokers from start to end."""

import argparse
import pathlib
import shutil
import time

from . import Failure, install


def parser(description):
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--broker", required=True)
    made.add_argument("--driver", choices=["uring", "sync"], default="uring")
    made.add_argument("--shards", type=int, default=2)
    made.add_argument("--cache", type=pathlib.Path, default=install.DEFAULT_CACHE)
    return made


def parse(made):
    arguments = made.parse_args()
    arguments.cache = arguments.cache.resolve()
    return arguments


def installed(arguments, parts, results):
    """The tools; None, and a test that has failed, where one is missing."""
    started = time.monotonic()
    try:
        return install.install(arguments.cache, parts)
    except Failure as failure:
        results.add("install", "what the tests need is installed", str(failure), time.monotonic() - started)
        return None


def new_folder(arguments, name):
    """The run's folder in the cache, empty."""
    folder = arguments.cache / name / ("kafka" if arguments.broker == "kafka" else arguments.driver)
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def with_servers(make, body, results):
    """Calls `body` with the servers that `make` makes while all of them run, and stops them; none is left in the end."""
    started, servers = time.monotonic(), []
    try:
        servers = make()
        for server in servers:
            server.start()
        body(*servers)
        for server in servers:
            server.stop()
    except Failure as failure:
        results.add("brokers", "start, serve and stop", str(failure), time.monotonic() - started)
    finally:
        for server in servers:
            server.kill()
