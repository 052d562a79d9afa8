"""The further rows of a full run of peers.py, in steps as those of peers_cases.py."""

import re
import subprocess

import common
import peers_cases as cases
import peers_table as table
import transactions
from common import TUNED, VALUE_BYTES, Failure
from harness import install

ACKS = ("0", "1", "all")
PARTITIONS = (1, 6, 100, 1000)
PRODUCERS = (1, 4, 16, 64)
PRODUCER_PARTITIONS = 6
CONSUMERS = 8
CODECS = ("gzip", "snappy", "lz4", "zstd")
TRANSACTION_CASES = ("1 record of 1 KiB, Java", "100 records of 1 KiB", "100 records of 1 KiB, 16 producers")
TRANSACTION_SECONDS = 6
JAVA_TIMEOUT_S = 300
JAVA_LINE = re.compile(
    r"(?P<count>\d+) records sent, [\d.,]+ records/sec \([\d.,]+ MB/sec\), [\d.,]+ ms avg latency, [\d.,]+ ms max latency, "
    r"(?P<p50>\d+) ms 50th, \d+ ms 95th, (?P<p99>\d+) ms 99th, (?P<p999>\d+) ms 99.9th"
)


def sized(bench):
    return cases.volume(bench.scale.produce_bytes, VALUE_BYTES)


def acknowledgements(bench, server, number):
    for acks in ACKS:
        with bench.topic(server, f"acks-{acks}-{number}") as topic:
            yield f"{table.TUNED}, acks={acks}", cases.produced(bench, server, topic, [f"acks={acks}", *TUNED], sized(bench))


def spread_over_partitions(bench, server, number):
    """Each partition gets a batch of 128 KiB in turn."""
    for partitions in PARTITIONS:
        options = [*sized(bench), "-P", partitions]
        with bench.topic(server, f"partitions-{partitions}-{number}", partitions) as topic:
            yield f"{table.TUNED}, {partitions:,} partitions", cases.produced(bench, server, topic, cases.ALL + TUNED, options)
            with cases.Used(server) as used:
                measured = bench.kload("consume", server, topic, *options[:2], "-P", partitions)
            yield f"consume, hot, {partitions:,} partitions", used.of(measured)


def producers(bench, server, number):
    for count in PRODUCERS:
        with bench.topic(server, f"producers-{count}-{number}", PRODUCER_PARTITIONS) as topic:
            with cases.Used(server) as used:
                measured = cases.partition_load(
                    bench, server, topic, PRODUCER_PARTITIONS, bench.scale.partition_seconds, producers=count
                )
            yield f"{count} producer{'s' * (count > 1)}, batches of 16 KiB, {PRODUCER_PARTITIONS} partitions", used.of(measured)


def consumers(bench, server, number):
    """All read the same topic at the same time."""
    with bench.topic(server, f"consumers-{number}") as topic:
        bench.kload("produce", server, topic, *sized(bench), producer=cases.ALL + TUNED)
        with cases.Used(server) as used:
            readers = [
                common.start_kload(bench.kload_binary, "consume", server.address, topic, *sized(bench)[:2]) for _ in range(CONSUMERS)
            ]
            try:
                each = [common.finish_kload(reader, "consume", topic) for reader in readers]
            finally:
                for reader in readers:
                    reader.kill()
                    reader.wait()
        measured = {key: sum(one[key] for one in each) for key in ("bytes", "count")}
        measured["seconds"] = max(one["seconds"] for one in each)
        measured["mb_per_s"] = measured["bytes"] / measured["seconds"] / 1e6
        yield f"consume, hot, {CONSUMERS} consumers", used.of(measured)


def codecs(bench, server, number):
    for codec in CODECS:
        options = cases.volume(bench.scale.produce_bytes // 2, VALUE_BYTES)
        with bench.topic(server, f"{codec}-{number}") as topic:
            settings = [*cases.ALL, *TUNED, f"compression.codec={codec}"]
            yield f"{table.TUNED}, {codec}", cases.produced(bench, server, topic, settings, options)
            with cases.Used(server) as used:
                measured = bench.kload("consume", server, topic, *options[:2])
            yield f"consume, hot, {codec}", used.of(measured)


def idempotent(bench, server, number):
    with bench.topic(server, f"idempotent-{number}") as topic:
        settings = [*cases.ALL, *TUNED, "enable.idempotence=true"]
        yield f"{table.TUNED}, idempotent", cases.produced(bench, server, topic, settings, sized(bench))


def transactional(bench, server, number):
    tools = install.install(bench.tools.cache, {"python", "jars"})
    load = common.build(bench.tools.cache / "bench", "transactions")
    transactions.build_java(tools, load.parent)
    for case in transactions.CASES:
        if case.name in TRANSACTION_CASES:
            topic = f"transactions-{transactions.CASES.index(case)}-{number}"
            measured = transactions.measure(tools, load, server, case, TRANSACTION_SECONDS, topic)
            bench.topics("delete", server, topic)
            yield f"transactions of {case.name}", measured


def java(bench, server, number):
    """Apache Kafka's own kafka-producer-perf-test.sh: whether another client sees the same."""
    count = bench.scale.produce_bytes // 2 // VALUE_BYTES
    with bench.topic(server, f"java-{number}") as topic:
        command = bench.tools.java(
            "-cp", f"{bench.tools.jars}/*", "org.apache.kafka.tools.ProducerPerformance", "--bootstrap-server", server.address,
            "--topic", topic, "--num-records", count, "--record-size", VALUE_BYTES, "--throughput", -1, "--command-property",
            "acks=all", "batch.size=131072", "linger.ms=5", heap_mb=512,
        )
        with cases.Used(server) as used:
            done = subprocess.run(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                timeout=JAVA_TIMEOUT_S, check=False,
            )
        told = java_line(done.stdout)
        if done.returncode != 0 or told is None:
            raise Failure(f"ProducerPerformance: {done.returncode}: {done.stdout.strip()[-300:]}")
        yield f"{table.TUNED}, Java's perf test", used.of(told | {"bytes": told["count"] * VALUE_BYTES})


def java_line(output):
    """The last line's figures, or None if there is no such line."""
    found = list(JAVA_LINE.finditer(output))
    if not found:
        return None
    line = found[-1]
    rate = re.search(r"([\d.]+) records/sec", line.group(0)).group(1)
    count = int(line["count"])
    seconds = count / float(rate)
    return {
        "count": count, "seconds": seconds, "mb_per_s": count * VALUE_BYTES / seconds / 1e6,
        "ack_p50_ms": float(line["p50"]), "ack_p99_ms": float(line["p99"]), "ack_p999_ms": float(line["p999"]),
    }


STEPS = {
    "acks": acknowledgements, "spread": spread_over_partitions, "producers": producers, "consumers": consumers, "codecs": codecs,
    "idempotent": idempotent, "transactions": transactional, "java": java,
}
