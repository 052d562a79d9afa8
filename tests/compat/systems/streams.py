"""Kafka Streams without transactions: a word count, told count by count, over a rebalance, a restart and a lost state."""

import collections
import random
import shutil

from harness import Failure

from .running import Program, Topics, until

PARTITIONS = 4
LINES = 300
WORDS_A_LINE = 6
WORDS = [f"word{number}" for number in range(40)]


def word_count(tools, server, folder):
    topics, random_words = Topics(tools, server), random.Random(848)
    topics.create("lines", PARTITIONS)
    topics.create("counts", PARTITIONS)
    expected = collections.Counter()

    def write(stage):
        lines = [" ".join(random_words.choices(WORDS, k=WORDS_A_LINE)) for _ in range(LINES)]
        topics.write("lines", [(f"{stage}-{number}", line) for number, line in enumerate(lines)])
        for line in lines:
            expected.update(line.split(" "))

    def start(name):
        command = tools.streams_java("WordCount", server.address, "word-count", folder / f"state-{name}", "lines", "counts", heap_mb=192)
        program = Program(f"streams-{name}", command, folder)
        instances[name] = program

    def wait():
        count = sum(expected.values())
        until(lambda: sum(topics.ends("counts").values()) >= count,
              lambda: f"{sum(topics.ends('counts').values())} of {count} counts are told", *instances.values())

    instances = {}
    try:
        write("first")
        start("a")
        wait()
        # A second instance takes over some of the partitions, with the states that are theirs.
        start("b")
        log = instances["b"].log_path
        until(lambda: "RUNNING" in log.read_text(encoding="utf-8").split("\n"), "the second instance runs", *instances.values())
        write("with two instances")
        wait()
        instances.pop("a").stop()
        write("with the other instance")
        wait()
        instances.pop("b").stop()
        # Without its state on disk an instance restores it from the compacted topic.
        for name in ("a", "b"):
            shutil.rmtree(folder / f"state-{name}")
        start("c")
        write("with a restored state")
        wait()
        instances.pop("c").stop()
    finally:
        for program in instances.values():
            program.kill()
    _check(topics, expected)


def _check(topics, expected):
    told = collections.defaultdict(list)
    for record in topics.read("counts"):
        told[record["key"]].append(int(record["value"]))
    for word in sorted(expected.keys() | told.keys()):
        if told[word] != list(range(1, expected[word] + 1)):
            raise Failure(f"{word} was counted {expected[word]} times, and told {told[word]}")
    internal = {"word-count-by-word-repartition", "word-count-counts-changelog"}
    for topic in internal:
        if sum(topics.ends(topic).values()) == 0:
            raise Failure(f"nothing went through {topic}")
