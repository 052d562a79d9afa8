"""The thirteen damages that Apache Kafka was tried with (docs/STORAGE.md), one in the middle of a log, and a partition's
directory that is gone, on a real directory of the real binary.

Odradek fills a topic for each case and stops. The directory is damaged as a clean stop leaves it, without the marker of a clean
stop, and without any mark of what is durable; Odradek starts on it and has to do what the table says. Where it sets something
apart, the loss is accepted. Then every topic takes records, and Apache Kafka goes on from the directory. Called by run.py.
"""

import shutil
import subprocess
import time

import kafka_log
from damage_cases import RECORDS, name_of
from harness import Failure, broker

STOPS = ("clean", "marked", "unmarked")
FIRST = f"{0:020}"


def _batches(log):
    """The batches of a segment, one behind the other."""
    found, at = [], 0
    while at < len(log):
        size = 12 + int.from_bytes(log[at + 8:at + 12], "big")
        found.append(log[at:at + size])
        at += size
    return found


def _next(log, skipped=0, epoch=None):
    """A whole batch behind the last: the same records; neither offset nor epoch is under its CRC."""
    last = _batches(log)[-1]
    offset = int.from_bytes(last[:8], "big") + 1 + skipped
    epoch = last[12:16] if epoch is None else epoch.to_bytes(4, "big")
    return offset.to_bytes(8, "big") + last[8:12] + epoch + last[16:]


def _append(what):
    def damage(partition):
        log = partition / f"{FIRST}.log"
        content = log.read_bytes()
        log.write_bytes(content + what(content))
    return damage


def _remove(*suffixes):
    def damage(partition):
        for path in partition.iterdir():
            if path.name.endswith(suffixes):
                path.unlink()
    return damage


def _both(*damages):
    def damage(partition):
        for one in damages:
            one(partition)
    return damage


def _another_segment(partition):
    content = (partition / f"{FIRST}.log").read_bytes()
    (partition / f"{RECORDS:020}.log").write_bytes(_next(content))


def _flip(number):
    def damage(partition):
        log = partition / f"{FIRST}.log"
        content = bytearray(log.read_bytes())
        content[sum(map(len, _batches(content)[:number + 1])) - 10] ^= 1
        log.write_bytes(content)
    return damage


def _preallocated(partition):
    for suffix in ("index", "timeindex"):
        (partition / f"{FIRST}.{suffix}").write_bytes(bytes(120_000))


ZEROS = _append(lambda _: bytes(64 << 10))
NO_INDEXES = _remove(".index", ".timeindex")
# What is done, and after which of STOPS what has to come of it: the records that are served, and how many are lost behind them
# with a word; 0 where nothing is damaged. One outcome stands for all three.
DAMAGES = {
    "a batch appended": (_append(_next), [(RECORDS + 1, 0)]),
    "a batch appended, no indexes": (_both(_append(_next), NO_INDEXES), [(RECORDS + 1, 0)]),
    "no indexes and no snapshot": (_remove(".index", ".timeindex", ".snapshot"), [(RECORDS, 0)]),
    "another segment": (_another_segment, [(RECORDS + 1, 0)]),
    "a tail of zeros": (ZEROS, [(RECORDS, 0)]),
    "a tail of zeros, no indexes": (_both(ZEROS, NO_INDEXES), [(RECORDS, 0)]),
    "half a batch": (_append(lambda log: _next(log)[: len(_next(log)) // 2]), [(RECORDS, 0)]),
    "the last batch changed": (_flip(RECORDS - 1), [(RECORDS - 1, 1), (RECORDS - 1, 1), (RECORDS - 1, 0)]),
    "a batch with a wrong CRC": (_append(lambda log: _next(log)[:-1] + bytes([_next(log)[-1] ^ 1])), [(RECORDS, 0)]),
    "indexes full of zeros": (_preallocated, [(RECORDS, 0)]),
    "no leader epochs": (_remove("leader-epoch-checkpoint"), [(RECORDS, 0)]),
    "a gap of offsets": (_append(lambda log: _next(log, skipped=5)), [(RECORDS, 0)]),
    "a later leader epoch": (_append(lambda log: _next(log, epoch=50)), [(RECORDS + 1, 0)]),
    # The directory is set aside: it is that of no topic.
    "no topic id": (_remove("partition.metadata"), [(0, RECORDS), (0, RECORDS), (0, 0)]),
    "a batch in the middle changed": (_flip(20), [(20, 1), (20, 1), (20, 0)]),
    "no directory": (shutil.rmtree, [(0, RECORDS), (0, RECORDS), (0, 0)]),
}


def run(arguments, tools, folder, results, run_client):
    servers = []
    try:
        ours = _broker(arguments, folder / "damages", servers)
        ours.start()
        filled = run_client(tools, ours.folder, ours, results, "cases")
        ours.stop()
        for index, stop in enumerate(STOPS if filled else ()):
            copy = folder / f"damages-{stop}"
            shutil.copytree(ours.folder / "data", copy / "data")
            _damage(copy / "data", stop)
            expected = {name_of(case): outcomes[index % len(outcomes)] for case, (_, outcomes) in DAMAGES.items()}
            _check(arguments, tools, copy, stop, expected, results, run_client, servers)
        if filled:
            _hand_over(tools, folder / "damages-clean", results, run_client, servers)
    except Failure as failure:
        results.add("damages", "can be tried", str(failure), 0)
    finally:
        for server in servers:
            server.kill()


def _broker(arguments, folder, servers):
    server = broker.Odradek(folder, arguments.broker, arguments.driver, arguments.shards)
    servers.append(server)
    return server


def _damage(data, stop):
    if stop != "clean":
        (data / ".kafka_cleanshutdown").unlink()
    if stop == "unmarked":
        (data / "recovery-point-offset-checkpoint").unlink()
    for case, (damage, _) in DAMAGES.items():
        damage(data / f"{name_of(case)}-0")


def _check(arguments, tools, copy, stop, expected, results, run_client, servers):
    ours = _broker(arguments, copy, servers)
    (copy / "outcomes.txt").write_text(
        "".join(f"{name} {records} {lost}\n" for name, (records, lost) in expected.items()), encoding="utf-8"
    )
    ours.start()
    run_client(tools, copy, ours, results, "outcomes")
    ours.stop()
    damaged = [name for name, (_, lost) in expected.items() if lost]
    _log(arguments, results, stop, "verify tells of what is damaged", 1 if damaged else 0, "verify", copy / "data")
    for name in damaged:
        _log(
            arguments, results, stop, f"the loss of {name} is accepted", 0, "accept-loss", copy / "data", "--partition",
            f"{name}-0",
        )
    ours.start()
    run_client(tools, copy, ours, results, "append")
    ours.stop()
    for word in ("verify", "dump"):
        _log(arguments, results, stop, f"{word} finds nothing when all is mended", 0, word, copy / "data")


def _log(arguments, results, stop, what, code, *words):
    started = time.monotonic()
    done = subprocess.run(
        [str(arguments.broker), "log", *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    failure = None if done.returncode == code else f"{done.returncode}: {done.stdout.strip()[-1500:]} {done.stderr.strip()}"
    results.add("damages", f"{what} ({stop})", failure, time.monotonic() - started)


def _hand_over(tools, copy, results, run_client, servers):
    kafka = broker.Kafka(copy / "kafka", tools, settings={"node.id": "1"}, data_dir=copy / "data")
    servers.append(kafka)
    kafka.start()
    kafka_log.check(kafka, results, " where damage was mended", allowed=(f"{name_of('a later leader epoch')}-0", "-stray"))
    run_client(tools, copy, kafka, results, "mended")
    kafka.stop()
