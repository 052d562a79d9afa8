#!/usr/bin/env python3
"""The same random requests to Odradek and to Apache Kafka, one after the other: their answers have to be the same.

    python3 tests/compat/fuzz.py --broker target/release/odradek --seeds 10

Options:
    --broker BIN         the binary that is compared with Apache Kafka
    --driver uring|sync  handed to the binary (default uring)
    --seeds N            how many histories (default 4)
    --from N             the first (default 0)
    --steps N            requests of each (default 200)
    --shards N           handed to the binary (default 2)
    --show               prints each request that was answered differently without a reason, and what both answered
    --history            prints every request and what both answered
    --cache DIR          where jars are installed and logs are kept (default target/compat)

Every seed is a history that starts with the same topics and no groups, and ends with the first difference that has no reason. Compared are whole answers: error codes, offsets,
settings and all else but ids, times, addresses, messages and the like (fuzz_table.py). A read that differs is asked again: Apache
Kafka's brokers learn of a change a moment after it is answered.

Prints each kind of difference once, with an example, and at the end `N passed, N failed`: the kinds of requests that were answered
alike every time, and those that were not. The exit code is 0 only if all were.
"""

import collections
import random
import re
import socket
import struct
import sys
import time

import fuzz_requests
import fuzz_table
from fuzz_requests import Batch, Named
from harness import Failure, broker, messages, program, report

ANSWER_TIMEOUT_S = 8
SETTLE_S = 3
COORDINATOR_S = 0.1
# Longer than a rebalance of members of which some stay away and those that Apache Kafka was asked of earlier: until the last of them is out.
REBALANCE_S = 0.5
SHOWN = 60
METADATA, JOIN_GROUP, SYNC_GROUP, INIT_PRODUCER_ID, DELETE_GROUPS, CONSUMER_HEARTBEAT, CONSUMER_DESCRIBE, PRODUCE = 3, 11, 14, 22, 42, 68, 69, 0
READS = {1, 2, 3, 9, 15, 16, 23, 32, 35, 46, 55, 60, 61, 69, 74, 75}
TOPIC_CHANGES = {19, 20, 37}
# What goes on differently after a difference, also one with a reason.
ENDING = fuzz_requests.CHANGES | {DELETE_GROUPS, CONSUMER_HEARTBEAT}
NO_ANSWER, CLOSED = "no answer", "connection closed"


class Peer:
    """One of the two, and what it calls the things that `Named`s stand for."""

    def __init__(self, server, requests, responses):
        self.server, self.requests, self.responses = server, requests, responses
        self.socket, self.correlation_id = None, 0
        self.forget("")

    def forget(self, suffix):
        self.topics, self.members, self.made_ids, self.producers, self.suffix = {}, {}, set(), {}, suffix

    def ask(self, key, version, body):
        """The tree of the answer, or what came instead."""
        if self.socket is None:
            self.socket = socket.create_connection((self.server.host, self.server.port), timeout=ANSWER_TIMEOUT_S)
        self.correlation_id += 1
        try:
            frame = messages.request(self.requests[key], version, self.correlation_id, "fuzz", self._own(body))
            self.socket.sendall(frame)
            answer = self._frame()
            return messages.response(self.responses[key], version, answer)
        except TimeoutError:
            self.close()
            return NO_ANSWER
        except (ConnectionError, BrokenPipeError):
            self.close()
            return CLOSED

    def _frame(self):
        (size,) = struct.unpack(">i", self._exactly(4))
        return self._exactly(size)

    def _exactly(self, size):
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError
            data += part
        return bytes(data)

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def learn_topics(self):
        """Names, ids and how many partitions, as far as they have a leader."""
        answer = self.ask(METADATA, 12, {"Topics": None, "AllowAutoTopicCreation": False})
        if not isinstance(answer, dict):
            return {}
        self.topics |= {topic["Name"]: topic["TopicId"] for topic in answer["Topics"]}
        return {
            topic["Name"]: sum(one["ErrorCode"] == 0 for one in topic["Partitions"]) for topic in answer["Topics"]
        }

    def learn(self, step, answer):
        if step.slot is None or not isinstance(answer, dict) or answer.get("ErrorCode") not in (0, 79):
            return
        if step.key in (JOIN_GROUP, CONSUMER_HEARTBEAT) and answer.get("MemberId"):
            self.members[step.slot] = answer["MemberId"]
            if step.body["MemberId"] == "":
                self.made_ids.add(answer["MemberId"])
        elif step.key == INIT_PRODUCER_ID:
            self.producers[step.slot] = (answer["ProducerId"], answer["ProducerEpoch"])

    def _own(self, value):
        if isinstance(value, dict):
            return {name: self._own(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self._own(one) for one in value]
        if isinstance(value, Batch):
            producer = value.producer and self.producers.get(value.producer.name, (4_000_000, 0))
            return value.bytes(fuzz_requests.NOW_MS, producer)
        if isinstance(value, Named):
            if value.kind == "topic":
                return self.topics.get(value.name, value.name.encode().ljust(16, b"\1"))
            return self.members.get(value.name, f"unknown-{value.name}")
        return value

    def targets(self, group):
        """Of each member of a KIP-848 group what it is to have, and whether the broker made any of the members' ids."""
        answer = self.ask(CONSUMER_DESCRIBE, 1, {"GroupIds": [group], "IncludeAuthorizedOperations": False})
        members = answer["Groups"][0]["Members"] if isinstance(answer, dict) else []
        names = {value: name for name, value in self.members.items()}
        targets = sorted(
            (names.get(one["MemberId"], ""), sorted((topic["TopicName"], sorted(topic["Partitions"])) for topic in one["TargetAssignment"]["TopicPartitions"])) for one in members
        )
        return targets, any(one["MemberId"] in self.made_ids for one in members)

    def plain(self, answer):
        """The answer with names for what is this broker's own, and without what may differ."""
        ids = {value: f"topic {name}" for name, value in self.topics.items()}
        ids |= {value: f"member {name}" for name, value in self.members.items()}
        return _plain(answer, ids, self)


def _plain(value, ids, peer, name=""):
    if isinstance(value, dict):
        return {one: _plain(child, ids, peer, one) for one, child in value.items() if one not in fuzz_table.LEFT_OUT}
    if isinstance(value, list) or (name in fuzz_table.NULL_IS_EMPTY and value is None):
        plain = [_plain(child, ids, peer, name) for child in _merged(value or ()) if not fuzz_table.is_left_out(child, peer.suffix)]
        return sorted(plain, key=_by_name)
    if isinstance(value, (str, bytes)) and value in ids:
        return ids[value]
    if name == "Timestamp" and value > fuzz_requests.NOW_MS + 1000:
        return "a broker's time"
    if name in ("MemberId", "Leader") and value:
        return "a member"
    if name == "TopicId" and value != bytes(16):
        return "an id"
    if name == "ProducerId" and isinstance(value, int) and value >= 0:
        return "a producer"
    return value


def _merged(elements):
    """The partitions of a topic together, where an answer has them in several places."""
    topics = {}
    for one in elements:
        if not isinstance(one, dict) or not isinstance(one.get("Partitions"), list):
            return elements
        name = repr([one.get(name) for name in fuzz_requests.NAMES])
        if name in topics:
            topics[name] = one | {"Partitions": topics[name]["Partitions"] + one["Partitions"]}
        else:
            topics[name] = one
    return list(topics.values())


def _by_name(value):
    names = [value.get(name) for name in fuzz_requests.NAMES] if isinstance(value, dict) else []
    return repr(names), repr(value)


def main():
    arguments = _arguments()
    results = report.Report()
    tools = program.installed(arguments, {"python", "jars"}, results)
    if tools is None:
        return results.close()
    folder = program.new_folder(arguments, "fuzz-runs")
    program.with_servers(
        lambda: _brokers(arguments, tools, folder), lambda *servers: _run(arguments, servers, results), results
    )
    return results.close()


def _brokers(arguments, tools, folder):
    # Assignments come with the heartbeat that asks for them (KIP-1263).
    at_once = {"group.consumer.assignor.offload.enable": "false", "group.consumer.assignment.interval.ms": "0", "group.consumer.min.assignment.interval.ms": "0"}
    settings = at_once | {"auto.create.topics.enable": "false", "group.min.session.timeout.ms": "1000", "log.message.timestamp.before.max.ms": str(2**62)}
    kafka = broker.Kafka(folder / "kafka", tools, settings)
    # With it min.insync.replicas is a setting of the cluster, which no topic of Odradek's is subject to.
    kafka.format("--standalone", "--feature", "eligible.leader.replicas.version=0")
    both = [f"{name}={value}" for name, value in settings.items()]
    odradek = broker.Odradek(folder / "odradek", arguments.broker, arguments.driver, arguments.shards, both + ["offsets.topic.replication.factor=1"])
    return kafka, odradek


def _arguments():
    parser = program.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--history", action="store_true")
    return program.parse(parser)


def _run(arguments, servers, results):
    requests, responses = messages.load()
    peers = [Peer(server, requests, responses) for server in servers]
    versions = _versions(peers)
    started = time.monotonic()
    asked, differences, explained, outcomes = collections.Counter(), collections.defaultdict(list), set(), collections.Counter()
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        suffix = f"-{seed}"
        _prepare(peers, suffix)
        history = []
        generator = fuzz_requests.Generator(random.Random(seed), requests, versions, suffix)
        for number in range(arguments.steps):
            step = generator.step()
            answers = _ask(peers, step)
            history.append(step)
            asked[step.key] += 1
            outcomes.update((step.key, one) for one in set(_outcomes(answers[0])) or {0})
            alike, unexplained = True, False
            for path, theirs, ours in _differences(*answers):
                reason = fuzz_table.explained(step, path, theirs, ours, history)
                if reason is None and re.search(r"Assignment(\.|$)", path) and _goes_by_ids(peers, step):
                    explained.add(fuzz_table.BY_IDS)
                    alike = False
                elif reason is None:
                    alike, unexplained = False, True
                    differences[(step.key, path, theirs, ours)].append((seed, number, step))
                else:
                    explained.add(reason)
                    alike &= step.key not in ENDING
            if arguments.history or (arguments.show and unexplained):
                print(f"seed {seed} step {number}", step, *answers, sep="\n")
            if not alike:
                # What follows may differ because of this.
                break
    _tell(requests, asked, differences, results, time.monotonic() - started)
    print(f"{sum(asked.values())} requests; of error codes and other outcomes by API {len(outcomes)} kinds were seen; explained: {len(explained)} of {len(fuzz_table.EXPLAINED) + 1} reasons")


def _versions(peers):
    """Of each API what both offer."""
    offered = []
    for peer in peers:
        answer = peer.ask(messages.API_VERSIONS, 4, {"ClientSoftwareName": "fuzz", "ClientSoftwareVersion": "1"})
        if not isinstance(answer, dict):
            raise Failure(f"{peer.server.name} tells no versions: {answer}")
        offered.append({api["ApiKey"]: (api["MinVersion"], api["MaxVersion"]) for api in answer["ApiKeys"]})
    known = peers[0].requests
    return {
        key: (max(offered[0][key][0], offered[1][key][0], known[key].versions[0]), min(offered[0][key][1], offered[1][key][1], known[key].versions[1]))
        for key in known if key in offered[0] and key in offered[1]
    }


def _prepare(peers, suffix):
    """What every history starts with: topics, settings and groups as if nobody had been there."""
    for peer in peers:
        topics = [name for name in peer.learn_topics() if not name.startswith("__")]
        _need(peer, 20, 3, {"TopicNames": topics, "TimeoutMs": 10_000, "timeoutMs": 10_000})
        _need(peer, 44, 0, {"Resources": [
            {"ResourceType": kind, "ResourceName": name, "Configs": [{"Name": setting, "ConfigOperation": 1, "Value": None} for setting in settings]}
            for kind, name, settings in fuzz_requests.RESOURCES
        ], "ValidateOnly": False})
        peer.forget(suffix)
    _settle(peers)
    for peer in peers:
        names = {"one": 1, "three": 3, "compact": 1}
        body = {"Topics": [
            {"Name": name, "NumPartitions": count, "ReplicationFactor": 1, "Assignments": [],
             "Configs": [{"Name": "cleanup.policy", "Value": "compact"}] if name == "compact" else []} for name, count in names.items()
        ], "timeoutMs": 10_000, "validateOnly": False}
        _need(peer, 19, 4, body)
    _settle(peers)
    for peer in peers:
        deadline = time.monotonic() + 20
        commit = {"GroupId": f"g1{suffix}", "GenerationIdOrMemberEpoch": -1, "MemberId": "", "Topics": [{"Name": "one", "Partitions": [{"PartitionIndex": 0, "CommittedOffset": 1, "CommittedMetadata": ""}]}]}
        while peer.ask(8, 7, commit)["Topics"][0]["Partitions"][0]["ErrorCode"] != 0:
            if time.monotonic() > deadline:
                raise Failure(f"{peer.server.name} takes no commit")
            time.sleep(0.1)
            peer.ask(10, 1, {"Key": f"g1{suffix}", "KeyType": 0})


def _need(peer, key, version, body):
    answer = peer.ask(key, version, body)
    if not isinstance(answer, dict):
        raise Failure(f"{peer.server.name}: {peer.requests[key].name}: {answer}")
    return answer


def _settle(peers):
    """Returns when both have the same topics."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        topics = [{name: count for name, count in peer.learn_topics().items() if not name.startswith("__")} for peer in peers]
        if topics[0] == topics[1] and all(_leads(peer, topics[0]) for peer in peers):
            return
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _leads(peer, topics):
    """Whether a broker does what its metadata says of partitions; Apache Kafka's takes a moment longer."""
    asked = [{"Name": name, "Partitions": [{"PartitionIndex": index, "CurrentLeaderEpoch": -1, "Timestamp": -1} for index in range(count)]} for name, count in topics.items()]
    answer = peer.ask(2, 5, {"ReplicaId": -1, "IsolationLevel": 0, "Topics": asked})
    return not any(_outcomes(answer))


def _ask(peers, step):
    answers = _ask_once(peers, step)
    if step.key in READS and answers[0] != answers[1]:
        time.sleep(0.3)
        answers = _ask_once(peers, step)
    if step.key in fuzz_requests.CHANGES:
        _settle(peers)
        # Apache Kafka's coordinator of groups learns of topics after those who answer for them, and nothing tells when.
        time.sleep(COORDINATOR_S if step.key in TOPIC_CHANGES else 0)
    if step.key == JOIN_GROUP and any(isinstance(one, dict) and len(one["Members"]) > 1 for one in answers):
        # A static member has not come, and is put out; the second broker was asked when the first had waited for it.
        time.sleep(REBALANCE_S)
    return answers


def _sync(peer, step, answer):
    """Fetches the assignment at once: whoever does not is put out after the rebalance timeout, sooner or later by both."""
    if isinstance(answer, dict) and answer["ErrorCode"] == 0:
        body = {name: step.body.get(name) for name in ("GroupId", "GroupInstanceId")}
        member = peer.members.get(step.slot, "")
        peer.ask(SYNC_GROUP, 3, body | {"GenerationId": answer["GenerationId"], "MemberId": member, "Assignments": []})


def _ask_once(peers, step):
    answers = []
    for peer in peers:
        answer = peer.ask(step.key, step.version, step.body)
        deadline = time.monotonic() + SETTLE_S
        while step.key != PRODUCE and fuzz_table.PASSING.intersection(_outcomes(answer)) and time.monotonic() < deadline:
            time.sleep(0.05)
            answer = peer.ask(step.key, step.version, step.body)
        peer.learn(step, answer)
        if step.key == JOIN_GROUP:
            # Before the other one is asked: it may answer only after the rebalance timeout.
            _sync(peer, step, answer)
        answers.append(peer.plain(answer))
    return answers


def _goes_by_ids(peers, step):
    """Whether a group of the request has the same to assign on both, in the same parts, but to others of its members."""
    for group in fuzz_table.groups_of(step):
        (theirs, are_made), (ours, _) = [peer.targets(group) for peer in peers]
        parts = [sorted(part for _, part in targets) for targets in (theirs, ours)]
        # Of one that has no name here, since another took its place, nothing else is known.
        are_others = theirs != ours or any(not name for name, _ in theirs)
        if are_made and are_others and parts[0] == parts[1]:
            return True
    return False


def _outcomes(answer):
    """All error codes that are not 0, or what came instead of an answer."""
    if isinstance(answer, str):
        yield answer
    elif isinstance(answer, (dict, list)):
        for name, value in answer.items() if isinstance(answer, dict) else enumerate(answer):
            if name == "ErrorCode" and value:
                yield value
            elif isinstance(value, (dict, list)):
                yield from _outcomes(value)


def _differences(theirs, ours, path=""):
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in (theirs.keys() | ours.keys()) - fuzz_table.TEXTS:
            yield from _differences(theirs.get(name, "absent"), ours.get(name, "absent"), f"{path}.{name}" if path else name)
    elif isinstance(theirs, list) and isinstance(ours, list):
        if len(theirs) != len(ours):
            yield path, f"{len(theirs)} elements", f"{len(ours)} elements"
        else:
            for one, other in zip(theirs, ours):
                yield from _differences(one, other, path)
    elif theirs != ours:
        yield path, _short(theirs), _short(ours)


def _short(value):
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _tell(requests, asked, differences, results, seconds):
    for key in sorted(asked):
        own = [(what, examples) for what, examples in differences.items() if what[0] == key]
        failure = None
        if own:
            failure = "".join(
                f"\n      | {path or 'the answer'}: Apache Kafka {theirs}, Odradek {ours}: {len(examples)} times, e.g. seed {examples[0][0]} step {examples[0][1]} version {examples[0][2].version}"
                for (_, path, theirs, ours), examples in sorted(own, key=lambda one: -len(one[1]))[:SHOWN]
            )
        results.add("fuzz", f"{requests[key].name.removesuffix('Request')}: {asked[key]} requests answered alike", failure, seconds / len(asked))


if __name__ == "__main__":
    sys.exit(main())
