#!/usr/bin/env python3
"""Odradek beside Apache Kafka, every figure from one run of both: the program behind `cargo xtask bench-peers`.

    python3 tests/bench/peers.py --broker target/release/odradek [--quick]

Options:
    --broker BIN         the release binary; `partition_load` and `limits` are looked for beside it
    --driver uring|sync  handed to it (default uring)
    --quick              the headline rows in 3 rounds, half an hour; else 5 rounds with more rows, hours
    --rounds N           another number of rounds
    --step NAME          only this one, may be given more than once; the document is not written then
    --document FILE      whose tables are written (default docs/PERFORMANCE.md)
    --cache DIR          where jars, the load generator and the data are (default target/compat)

Both brokers run all the time with one of them under load; each step takes one, then the other, in an order that is swapped each round.
Limits, runtimes and the disk's fdatasync are measured in each round. A step that fails is told, in the document too, and the run goes on.
Every measurement is in bench/peers.json in the cache. Needs 30 GB of disk.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import sys
import time

import common
import peer
import peers_cases as cases
import peers_more as more
import peers_table as table
from common import GIGABYTE, VALUE_BYTES, Failure
from harness import broker as brokers, install

QUICK_ROUNDS, FULL_ROUNDS = 3, 5
QUICK_MINUTES = 32
# A JVM that has nothing to do takes one or two hundredths of a core.
REST_S, REST_SAMPLE_S, REST_SHARE = 20, 0.5, 0.06
WARM_BYTES = 3 * GIGABYTE


class Odradek(brokers.Odradek):
    def prepare(self):
        """There is nothing to format."""

    def launch(self):
        command = [
            self.binary, "start", "--listen", self.address, "--data-dir", self.data_dir, "--shards", self.shards, "--driver", self.driver,
            "--set", "admin.listen=none",
        ]
        self._spawn(command)

    def sibling(self, name):
        return Odradek(self.folder.parent / f"odradek-{name}", self.binary, self.driver, self.shards)


class Kafka(peer.Kafka):
    def prepare(self):
        if not (self.data_dir / "meta.properties").exists():
            self.format("--standalone")

    def launch(self):
        properties = self._write_properties()
        self._spawn(self.tools.java("-Dcompat.log.level=info", "-cp", f"{self.tools.jars}/*", "kafka.Kafka", properties, heap_mb=None))

    def sibling(self, name):
        return Kafka(self.folder.parent / f"kafka-{name}", self.tools)


class Run:
    def __init__(self, arguments):
        self.arguments = arguments
        self.runs = []
        self.json = arguments.cache / "bench" / "peers.json"
        self.head = common.machine()
        self.began = time.monotonic()
        self.rounds = 0

    def has_no_time_for_another(self, rounds):
        """A quick run on a busy machine has fewer rounds rather than more minutes."""
        if not self.arguments.quick or rounds == 0:
            return False
        elapsed = time.monotonic() - self.began
        return elapsed + elapsed / rounds > QUICK_MINUTES * 60

    def note(self, number, broker, case, figures):
        self.runs.append({"case": case, "broker": broker, "round": number + 1, **figures})
        keys = ("mb_per_s", "cpu_s_per_gb", "ack_p50_ms", "ack_p99_ms", "start_ms", "rss_mb", "fdatasync_p50_ms", "commits_per_s")
        shown = figures.get("error") or ", ".join(f"{key} {figures[key]:.2f}" for key in keys if key in figures)
        print(f"  {time.monotonic() - self.began:5.0f} s  {broker}: {case}: {shown}", flush=True)
        # Whatever ends the run, what it measured is there.
        self.json.write_text(json.dumps({"machine": self.head, "arguments": sys.argv[1:], "runs": self.runs}, indent=1), encoding="utf-8")

    def step(self, bench, number, name, step, server):
        """One broker through one step; what fails is noted."""
        try:
            if server.process is None or server.process.poll() is not None:
                server.kill()
                server.start()
            for case, figures in step(bench, server, number):
                self.note(number, figures.get("broker", server.name), case, figures)
        # Whatever it is: the other steps' figures are not to be lost.
        except Exception as failure:
            told = " ".join(f"{type(failure).__name__}: {failure}".split())[:300]
            self.note(number, server.name, f"step {name}", {"error": told})

    def limits(self, bench, number):
        try:
            for name, case, figures in cases.limits(bench, number):
                self.note(number, name, case, figures)
        except Exception as failure:
            self.note(number, "limits", "limits", {"error": f"{failure}"})


def main():
    arguments = _arguments()
    # So that the brokers are stopped and the data is gone then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    arguments.cache = arguments.cache.resolve()
    folder = arguments.cache / "bench" / "peers"
    steps = chosen(arguments)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    servers = []
    run = Run(arguments)
    print(run.head, flush=True)
    try:
        tools = install.install(arguments.cache, {"jars"})
        scale = cases.QUICK if arguments.quick else cases.FULL
        bench = cases.Bench(arguments.broker, common.build(arguments.cache / "bench", "kload"), scale, folder, tools)
        if with_limits(arguments):
            bench.build_runtimes()
        servers = [
            Odradek(folder / "odradek", arguments.broker, arguments.driver, os.cpu_count()),
            Kafka(folder / "kafka", peer.JavaTools(tools.cache)),
        ]
        for server in servers:
            server.start()
            if arguments.warm:
                _warm(bench, server)
        for number in range(arguments.rounds):
            if run.has_no_time_for_another(number):
                print("no time for another round", flush=True)
                break
            run.rounds = number + 1
            print(f"round {number + 1} of {arguments.rounds}", flush=True)
            if with_limits(arguments):
                run.limits(bench, number)
            for name, step in steps.items():
                if name in cases.ONCE and number > 0:
                    continue
                for server in peer.in_turn(servers, number):
                    come_to_rest(servers)
                    run.step(bench, number, name, step, server)
    except Failure as failure:
        print(f"FAIL {failure}")
        return 1
    finally:
        for server in servers:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
    return _finish(run, arguments)


def come_to_rest(servers):
    """Waits until no broker is busy with what the step before left, or for `REST_S`."""
    deadline = time.monotonic() + REST_S
    pids = [server.process.pid for server in servers if server.process is not None and server.process.poll() is None]
    while time.monotonic() < deadline:
        before = [common.cpu_seconds(pid) for pid in pids]
        time.sleep(REST_SAMPLE_S)
        if all(common.cpu_seconds(pid) - used <= REST_SHARE * REST_SAMPLE_S for pid, used in zip(pids, before, strict=True)):
            return


def with_limits(arguments):
    return not arguments.step or "limits" in arguments.step


def chosen(arguments):
    every = cases.HEADLINE | cases.ONCE | ({} if arguments.quick else more.STEPS)
    for name in arguments.step or ():
        if name != "limits" and name not in cases.HEADLINE | cases.ONCE | more.STEPS:
            raise SystemExit(f"there is no step {name}: {', '.join(['limits', *cases.HEADLINE, *cases.ONCE, *more.STEPS])}")
    if arguments.step:
        every = {name: step for name, step in (cases.HEADLINE | cases.ONCE | more.STEPS).items() if name in arguments.step}
    return every


def _warm(bench, server):
    """So that the JVM has compiled what the first round needs."""
    count = WARM_BYTES // VALUE_BYTES
    with bench.topic(server, "warm") as topic:
        bench.kload("produce", server, topic, "-n", count, "-s", VALUE_BYTES, producer=cases.ALL)
        bench.kload("consume", server, topic, "-n", count)


def _finish(run, arguments):
    minutes = (time.monotonic() - run.began) / 60
    kind = "quick" if arguments.quick else "full"
    head = (
        f"Machine: {run.head}. `{arguments.driver}` driver; Apache Kafka {peer_version(arguments.cache)}; a {kind} run of {run.rounds} "
        f"rounds in {minutes:.0f} minutes. Medians (least to most)."
    )
    text = table.section(run.runs, head)
    print(f"\n{text}\n")
    if not arguments.step:
        document = arguments.document
        document.write_text(table.put_between_markers(document.read_text(encoding="utf-8"), text), encoding="utf-8")
        print(f"written: {document}")
    failed = sum("error" in measured for measured in run.runs)
    print(f"{len(run.runs) - failed} measured, {failed} failed; all of it is in {run.json}")
    return 1 if failed else 0


def peer_version(cache):
    """Of the installed broker, by its jar's name."""
    jars = sorted(install.Tools(cache).jars.glob("kafka-server-[0-9]*.jar"))
    return jars[0].stem.removeprefix("kafka-server-") if jars else "of unknown version"


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--driver", choices=["uring", "sync"], default="uring")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--step", action="append")
    parser.add_argument("--no-warm", dest="warm", action="store_false")
    parser.add_argument("--document", type=pathlib.Path, default=common.REPO / "docs" / "PERFORMANCE.md")
    parser.add_argument("--cache", type=pathlib.Path, default=install.DEFAULT_CACHE)
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else FULL_ROUNDS)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
