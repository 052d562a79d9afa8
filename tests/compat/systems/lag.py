"""What tells how far groups are behind: kafkatop by its JSON, kafka-overwatch by what Prometheus scrapes of it."""

import json
import re
import subprocess
import urllib.error
import urllib.request

from harness import Failure, broker

from .running import STEP_TIMEOUT_S, Program, Topics, until

PARTITIONS = 3
RECORDS = 300
# It serves on port 8000 alone, which may be somebody's: where it listens is all that is changed.
OVERWATCH = """
import socket, sys
bind, port = socket.socket.bind, int(sys.argv.pop())
socket.socket.bind = lambda self, address: bind(self, (address[0], port) if address[1:] == (8000,) else address)
from kafka_overwatch.cli import main
main()
"""
# 15 s and 60 s are the least that it takes.
OVERWATCH_CONFIG = """
global:
  cluster_scan_interval_in_seconds: 15
clusters:
  tested:
    metrics:
      prometheus:
        enabled: true
    cluster_config:
      kafka:
        bootstrap.servers: {address}
    reporting_config:
      evaluation_period_in_seconds: 60
      exports:
        local: {folder}/reports
    topic_include_regexes: [".*"]
"""


def kafkatop(tools, server, folder):
    topics = Topics(tools, server)
    ends, lags = _fall_behind(topics, "laggards", "lagging")
    _expect(tools, server, folder, lags)
    topics.write("lagging", [(f"key {number}", "later") for number in range(RECORDS)])
    later = topics.ends("lagging")
    _expect(tools, server, folder, {partition: lags[partition] + later[partition] - end for partition, end in ends.items()})


def _fall_behind(topics, group, topic):
    """Makes a topic that a group is behind in; the ends of its partitions, and how far behind each."""
    topics.create(topic, PARTITIONS)
    topics.write(topic, [(f"key {number}", "value") for number in range(RECORDS)])
    ends = topics.ends(topic)
    lags = dict(zip(ends, (0, 10, 25), strict=True))
    topics.commit(group, topic, {partition: end - lags[partition] for partition, end in ends.items()})
    return ends, lags


def _expect(tools, server, folder, lags):
    command = [
        tools.kafkatop, "--kafka-broker", server.address, "--all", "--group-filter-pattern", "^laggards$", "--summary-json",
    ]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=STEP_TIMEOUT_S,
        check=False, cwd=folder,
    )
    if done.returncode != 0:
        raise Failure(f"kafkatop exited with {done.returncode}: {done.stderr.strip()[-1500:]}")
    told = json.loads(done.stdout)
    topic = {"partitions": len(lags), "lag_max": max(lags.values()), "lag_min": min(lags.values())}
    if told != {"laggards": {"state": "ConsumerGroupState.EMPTY", "topics": {"lagging": topic}}}:
        raise Failure(f"the lags are {lags}, kafkatop told {told}")


def overwatch(tools, server, folder):
    _ends, lags = _fall_behind(Topics(tools, server), "watchers", "watched")
    config = folder / "overwatch.yaml"
    config.write_text(OVERWATCH_CONFIG.format(address=server.address, folder=folder), encoding="utf-8")
    port = broker.free_port()
    program = Program("kafka-overwatch", [tools.overwatch_python, "-c", OVERWATCH, "-c", config, port], folder)
    try:
        until(lambda: _exported(port) == sum(lags.values()), lambda: f"a lag of {sum(lags.values())}: {_exported(port)}", program)
    finally:
        program.kill_all()


def _exported(port):
    """The lag of the group, where it is told."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=STEP_TIMEOUT_S) as answer:
            told = answer.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return None
    found = re.search(r'^consumer_group_lag\{[^}]*consumer_group="watchers"[^}]*topic_name="watched"\} (\S+)', told, re.MULTILINE)
    return found and float(found[1])
