"""kafkatop, which tells how far groups are behind: its JSON, as a monitoring system takes it."""

import json
import subprocess

from harness import Failure

from .running import STEP_TIMEOUT_S, Topics

PARTITIONS = 3
RECORDS = 300


def kafkatop(tools, server, folder):
    topics = Topics(tools, server)
    topics.create("lagging", PARTITIONS)
    topics.write("lagging", [(f"key {number}", "value") for number in range(RECORDS)])
    ends = topics.ends("lagging")
    lags = dict(zip(ends, (0, 10, 25), strict=True))
    topics.commit("laggards", "lagging", {partition: end - lags[partition] for partition, end in ends.items()})
    _expect(tools, server, folder, lags)
    topics.write("lagging", [(f"key {number}", "later") for number in range(RECORDS)])
    later = topics.ends("lagging")
    _expect(tools, server, folder, {partition: lags[partition] + later[partition] - end for partition, end in ends.items()})


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
