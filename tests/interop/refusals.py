"""Directories that are not Odradek's to take: refused in one line, and nothing in them is changed.

Made by Apache Kafka's own tool, or of the directory that takeover.py has gone through. Called by run.py.
"""

import concurrent.futures
import hashlib
import json
import shutil
import subprocess
import time

from harness import Failure, broker

NODE = "7"
TIMEOUT_S = 30
IDS = ("AAAAAAAAAAAAAAAAAAAAAw", "AAAAAAAAAAAAAAAAAAAABA")

# What Kafka's tool makes: name, settings over those of a node, options of the tool, what the refusal says.
FORMATTED = [
    (
        "two voters", {},
        ["--initial-controllers", f"{NODE}@localhost:9093:{IDS[0]},8@localhost:9094:{IDS[1]}"],
        "the voters of its quorum are [7, 8]",
    ),
    (
        "a broker whose controller is elsewhere",
        {"process.roles": "broker", "listeners": "PLAINTEXT://127.0.0.1:9092", "advertised.listeners": "PLAINTEXT://127.0.0.1:9092"},
        [], "no metadata log",
    ),
    ("an old metadata.version", {}, ["--standalone", "--release-version", "3.9"], "metadata.version is 21"),
]


def run(arguments, tools, folder, results):
    def formatted(case):
        name, settings, options, _ = case
        target = folder / "refused" / name.replace(" ", "-")
        kafka = broker.Kafka(target, tools, settings={"node.id": NODE, **settings})
        try:
            kafka.format(*options)
        except Failure as failure:
            return target, str(failure)
        return target, None

    with concurrent.futures.ThreadPoolExecutor() as pool:
        made = list(pool.map(formatted, FORMATTED))
    cases = [(name, target, failure, says) for (name, _, _, says), (target, failure) in zip(FORMATTED, made, strict=True)]
    # Where the log names voters, what quorum-state says counts for nothing.
    static = [("two static voters", _static_voters, "the static voters of its quorum are [7, 8]")]
    for name, change, says in CHANGED + (static if arguments.driver == "sync" else []):
        target = folder / "refused" / name.replace(" ", "-")
        shutil.copytree(folder / "clean" / "data", target / "data")
        change(target / "data")
        cases.append((name, target, None, says))
    for name, target, failure, says in cases:
        started = time.monotonic()
        failure = failure or _refusal(arguments, target, says)
        results.add("refused", name, failure, time.monotonic() - started)


def _another_node(data):
    path = data / "meta.properties"
    path.write_text(path.read_text(encoding="utf-8").replace(f"node.id={NODE}", "node.id=6"), encoding="utf-8")


def _static_voters(data):
    """As a node of a static quorum of two has it."""
    state = data / "__cluster_metadata-0" / "quorum-state"
    content = json.loads(state.read_text(encoding="utf-8"))
    voters = [{"voterId": int(NODE)}, {"voterId": 8}]
    content = {**content, "clusterId": "", "appliedOffset": 0, "currentVoters": voters, "data_version": 0}
    state.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


CHANGED = [
    ("another node", _another_node, "it is node.id 6, and node.id 7 is set"),
    ("partitions without meta.properties", lambda data: (data / "meta.properties").unlink(), "meta.properties is missing"),
    ("partitions without metadata", lambda data: shutil.rmtree(data / "__cluster_metadata-0"), "no metadata log"),
]


def _refusal(arguments, target, says):
    """What is wrong with how Odradek refuses; `None` where nothing is."""
    data = target / "data"
    before = _content(data)
    command = [
        arguments.broker, "start", "--listen", "127.0.0.1:0", "--data-dir", data, "--driver", arguments.driver,
        "--shards", "1", "--set", f"node.id={NODE}", "--set", "admin.listen=none",
    ]
    try:
        done = subprocess.run(
            list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it runs: {target}"
    said = [line for line in done.stderr.splitlines() if line.startswith("odradek: ")]
    if done.returncode == 0 or done.stdout:
        return f"exit code {done.returncode}, stdout {done.stdout!r}"
    if len(said) != 1 or says not in said[0]:
        return f"{says!r} expected: {done.stderr.strip()!r}"
    changed = sorted(name for name, _ in before.items() ^ _content(data).items())
    return f"changed: {changed}" if changed else None


def _content(data):
    """The names in a directory with what they hold; the lock file, which Odradek may make, aside."""
    return {
        str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in data.rglob("*") if path.name != ".lock"
    }
