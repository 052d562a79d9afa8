"""Kafka Streams with `exactly_once_v2`: a word count and a join, while the broker and the instances are killed."""

import collections
import random
import time

from harness import Failure

from .running import Program, Topics, until

PARTITIONS = 2
INSTANCES = ("a", "b")
# Written before each kill.
LINES, PAIRS = 40, 30
WORDS_A_LINE = 4
WORDS = [f"word{number}" for number in range(30)]
PAUSES_S = (0.3, 3.0)
# After the last kill everything is to come to its end: a transaction that nobody comes back to ends by its timeout.
END_TIMEOUT_S = 180


class _Run:
    def __init__(self, tools, server, folder):
        self.tools = tools
        self.server = server
        self.folder = folder
        self.topics = Topics(tools, server)
        self.chance = random.Random(129)
        self.words = collections.Counter()
        self.keys = []
        self.instances = {}

    def start(self, name):
        command = self.tools.streams_java(
            "ExactlyOnce", self.server.address, "exactly-once", self.folder / f"state-{name}", f"instance-{name}", heap_mb=192
        )
        self.instances[name] = Program(f"streams-once-{name}", command, self.folder)

    def write(self, stage):
        lines = [" ".join(self.chance.choices(WORDS, k=WORDS_A_LINE)) for _ in range(LINES)]
        self.topics.write("once-lines", [(f"{stage}-{number}", line) for number, line in enumerate(lines)])
        for line in lines:
            self.words.update(line.split(" "))
        keys = [f"{stage}-{number}" for number in range(PAIRS)]
        self.topics.write("once-left", [(key, f"left {key}") for key in keys])
        self.topics.write("once-right", [(key, f"right {key}") for key in keys])
        self.keys += keys

    def kill_one(self):
        victim = self.chance.choice(["broker", *INSTANCES])
        if victim == "broker":
            self.server.kill()
            self.server.start()
        else:
            self.instances[victim].kill()
            self.start(victim)
        return victim

    def is_done(self):
        """Every record lies before its markers, so the ends alone do not tell."""
        return len(self.topics.read("once-counts")) >= sum(self.words.values()) and len(self.topics.read("once-pairs")) >= len(self.keys)


def through_kills(tools, server, folder, kills):
    run = _Run(tools, server, folder)
    for topic in ("once-lines", "once-counts", "once-left", "once-right", "once-pairs"):
        run.topics.create(topic, PARTITIONS)
    victims = collections.Counter()
    try:
        for name in INSTANCES:
            run.start(name)
        run.write("first")
        until(run.is_done, "what was written first is counted and joined", *run.instances.values())
        for number in range(kills):
            run.write(f"kill{number}")
            time.sleep(run.chance.uniform(*PAUSES_S))
            victims[run.kill_one()] += 1
        run.write("last")
        until(run.is_done, lambda: _told(run), *run.instances.values(), timeout_s=END_TIMEOUT_S)
    finally:
        for program in run.instances.values():
            program.kill()
    _check(run)
    print(f"      killed: {dict(victims)}; {sum(run.words.values())} counts and {len(run.keys)} pairs, each once", flush=True)


def _told(run):
    return (f"{len(run.topics.read('once-counts'))} of {sum(run.words.values())} counts and "
            f"{len(run.topics.read('once-pairs'))} of {len(run.keys)} pairs are told")


def _check(run):
    told = collections.defaultdict(list)
    for record in run.topics.read("once-counts"):
        told[record["key"]].append(int(record["value"]))
    for word in sorted(run.words.keys() | told.keys()):
        if told[word] != list(range(1, run.words[word] + 1)):
            raise Failure(f"{word} was counted {run.words[word]} times, and told {told[word]}")
    pairs = sorted((record["key"], record["value"]) for record in run.topics.read("once-pairs"))
    wanted = sorted((key, f"left {key} and right {key}") for key in run.keys)
    if pairs != wanted:
        twice = [pair for pair, count in collections.Counter(pairs).items() if count > 1]
        raise Failure(f"{len(pairs)} pairs came of {len(wanted)}; twice {twice[:3]}, missing {sorted(set(wanted) - set(pairs))[:3]}")
