#!/usr/bin/env python3
"""Apache Kafka's own tools, side by side against Odradek and Apache Kafka: what they print has to be the same.

    python3 tests/compat/tools.py --broker target/release/odradek --driver uring

Options:
    --broker BIN         the binary that is compared with Apache Kafka
    --driver uring|sync  handed to the binary (default uring)
    --section NAME       only this one (they build on each other); can be repeated
    --shards N           handed to the binary (default 2)
    --cache DIR          where jars are installed and logs are kept (default target/compat)

tools_table.py has the calls and the differences that have a reason. Every call goes to both brokers at the same time, all of
them in one JVM (tools/Driver.java). Ids, times, addresses and directories are taken out of what is printed; the rest is
compared line by line. What both printed is kept in the cache, in tool-runs. Apache Kafka's broker follows its controller, so that
it may show what was changed a moment late: where they differ, what only looks is asked of it again for a while.

Prints one line per section and at the end `N passed, N failed`; the exit code is 0 only if sections ran and none failed.
"""

import difflib
import json
import re
import shlex
import subprocess
import sys
import threading
import time

import tools_table
from harness import Failure, broker, program, report

CALL_TIMEOUT_S = 60
# Lines of a difference that are shown of each section.
SHOWN_LINES = 40
# How long Apache Kafka's broker may take to show what its controller has decided.
BEHIND_S = 5
# Calls that change nothing.
LOOKS = re.compile(r" --(describe|list)\b")

# Settings that are each node's own.
OF_NODE = re.compile(r"^(process\.roles|node\.id|controller\.|listener|advertised\.|log\.dirs)")

NOISE = re.compile(r"^(\tat .*|\t\.\.\. \d+ more|Driver\$Ended: .*|exit -?\d+|\s*)$")
NORMALISED = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
    # Members of KIP-848's groups, and classic ones in them.
    (re.compile(r"(?<= )[A-Za-z0-9_-]{22}(?= +(/|[\w.-]+ +/))"), "MEMBER"),
    (re.compile(r"(topicId=|id: )[A-Za-z0-9_-]{22}\b"), r"\1ID"),
    (re.compile(r'(TopicId: |Cluster ID: |ClusterId: *|"directoryId": ")[A-Za-z0-9_-]{22}'), r"\1ID"),
    (re.compile(r"^(\d+ *\t)[A-Za-z0-9_-]{22}(\t\d+ *\t)"), r"\1ID\2"),
    (re.compile(r'CONTROLLER://[^", }]*'), "CONTROLLER"),
    (re.compile(r"^\d\d:\d\d:\d\d\.\d{3} "), ""),
    (re.compile(r"127\.0\.0\.1:\d+"), "CONTROLLER"),
    (re.compile(r"\b(Epoch|HighWatermark): *\d+"), r"\1: N"),
    (re.compile(r"^(1 *\tID\t)\d+ *\t"), r"\1N\t"),
    (re.compile(r"\b1\d{12}\b"), "MS"),
    (re.compile(r"\b\d+ ms ago"), "N ms ago"),
    # How long a transaction has been going on.
    (re.compile(r"(\tMS *\t)\d+"), r"\1N"),
    (re.compile(r"(adminclient|producer|consumer)-\d+"), r"\1-N"),
    (re.compile(r"(perf-consumer|console-consumer)-\d+"), r"\1-N"),
    # Rates and times of the performance tools.
    (re.compile(r"\d+(\.\d+)? (records/sec|MB/sec|ms (avg|max|50th|95th|99th|99\.9th))"), r"N \2"),
    (re.compile(r"\(\d+(\.\d+)? MB/sec\)"), "(N MB/sec)"),
    (re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d:\d+, .*"), "TIMES"),
    (re.compile(r'"(timestamp|avg_throughput)":[0-9.E]+'), r'"\1":N'),
    (re.compile(r" +"), " "),
    (re.compile(r"[ \t]+$"), ""),
]


def main():
    arguments = _arguments()
    results = report.Report()
    tools = program.installed(arguments, {"python", "jars", "tools"}, results)
    if tools is None:
        return results.close()
    folder = program.new_folder(arguments, "tool-runs")

    def brokers():
        kafka = broker.Kafka(folder / "kafka", tools)
        # What its server.properties says: that it is alone, and where replicas go.
        settings = [f"{name}={value}" for name, value in kafka.properties.items() if OF_NODE.search(name) is None]
        odradek = broker.Odradek(folder / "odradek", arguments.broker, arguments.driver, arguments.shards, settings)
        return kafka, odradek

    program.with_servers(brokers, lambda *servers: _compare(arguments, tools, folder, servers, results), results)
    return results.close()


def _arguments():
    parser = program.parser(__doc__)
    parser.add_argument("--section", choices=list(tools_table.SECTIONS), action="append", dest="sections")
    return program.parse(parser)


def _compare(arguments, tools, folder, servers, results):
    for name, text in tools_table.FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    needed = set()
    with Driver(tools, folder) as driver, open(folder / "printed.txt", "w", encoding="utf-8") as printed:
        for section, text in tools_table.SECTIONS.items():
            if arguments.sections and section not in arguments.sections:
                continue
            started = time.monotonic()
            calls = [line.strip() for line in text.strip().splitlines()]
            shown = [[], []]
            for call in calls:
                for lines, printed_now in zip(shown, _both(driver, call, servers, folder, printed, needed)):
                    lines += printed_now
            _report(section, shown, results, time.monotonic() - started)
    if not arguments.sections:
        unused = [reason for number, (_, _, _, reason) in enumerate(tools_table.EXPLAINED) if number not in needed]
        results.add("table", "every difference that has a reason is there", "; ".join(unused) or None, 0)


def _both(driver, call, servers, folder, printed, needed):
    """What Apache Kafka and Odradek print, in this order."""
    def asked(*of):
        shown = []
        for server, answer in zip(of, driver.call(call, of, folder)):
            printed.write(f">>> {server.name}: {call}\n{json.dumps(answer, indent=1)}\n")
            shown.append([f">>> {call} -> {answer['exit']}", *_lines(call, answer, server, folder, needed)])
        return shown

    kafka, odradek = asked(*servers)
    until = time.monotonic() + BEHIND_S
    while kafka != odradek and LOOKS.search(call) and time.monotonic() < until:
        time.sleep(0.2)
        [kafka] = asked(servers[0])
    return kafka, odradek


class Driver:
    """The JVM of the tools. Its calls are numbered; an answer may come before that of an earlier call."""

    def __init__(self, tools, folder):
        command = tools.java("-Dcompat.log.level=off", "-cp", f"{tools.jars}/*:{tools.tool_classes}", "Driver", heap_mb=256)
        self._log = open(folder / "driver.log", "wb")
        self._process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self._next = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        watchdog = threading.Timer(CALL_TIMEOUT_S, self._process.kill)
        watchdog.start()
        self._process.stdin.close()
        self._process.wait()
        watchdog.cancel()
        self._log.close()

    def call(self, call, servers, folder):
        """The answers, in the order of the servers; all are asked at the same time."""
        numbers = []
        for server in servers:
            line, _, stdin = call.partition(" << ")
            tool, *words = shlex.split(line.replace("\\", "\\\\"))
            main = tool if tool in ("member", "transaction", "walk") else f"org.apache.kafka.tools.{tools_table.TOOLS[tool]}"
            words = [re.sub(r"^FILE\((.*)\)$", rf"{folder}/\1", re.sub("^DATA$", str(server.data_dir), word.replace("@", server.address))) for word in words]
            request = {
                "id": self._next, "main": main, "args": words, "stdin": stdin.encode().decode("unicode_escape"),
                "timeout_s": CALL_TIMEOUT_S,
            }
            numbers.append(self._next)
            self._next += 1
            self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answers = {}
        while len(answers) < len(numbers):
            line = self._process.stdout.readline()
            if not line:
                raise Failure("the JVM of the tools ended")
            answer = json.loads(line)
            answers[answer.pop("id")] = answer
        return [answers[number] for number in numbers]


def _lines(call, answer, server, folder, needed):
    """What was printed, without what may differ."""
    lines = []
    for line in (answer["out"] + answer["err"]).splitlines():
        line = line.replace(server.address, "BROKER").replace(str(server.data_dir), "DATA").replace(str(folder), "FOLDER")
        line = re.sub(rf"\b{server.port}\b", "PORT", line)
        if line.startswith('{"brokers"'):
            line = _sorted_json(line)
        for pattern, replacement in NORMALISED:
            line = pattern.sub(replacement, line)
        line = _explained(call, line, needed)
        if line is not None and not NOISE.match(line):
            lines.append(line)
    return sorted(lines) if re.search(tools_table.UNORDERED, call) else lines


def _explained(call, line, needed):
    """The line without what differs for a reason; None where nothing is left."""
    for number, (in_call, in_line, instead, _) in enumerate(tools_table.EXPLAINED):
        if re.search(in_call, call) and re.search(in_line, line):
            needed.add(number)
            if instead is None:
                return None
            line = re.sub(in_line, instead, line).rstrip()
    return line


def _sorted_json(line):
    """Log directories list their partitions in the order of a hash."""
    def in_order(thing):
        if isinstance(thing, dict):
            return {name: in_order(value) for name, value in sorted(thing.items())}
        if isinstance(thing, list):
            return sorted((in_order(one) for one in thing), key=json.dumps)
        return thing

    return json.dumps(in_order(json.loads(line)))


def _report(section, shown, results, seconds):
    differences = list(difflib.unified_diff(*shown, "Apache Kafka", "Odradek", n=1, lineterm=""))
    failure = None
    if differences:
        failure = "".join(f"\n      | {line}" for line in differences[:SHOWN_LINES])
        if len(differences) > SHOWN_LINES:
            failure += f"\n      | and {len(differences) - SHOWN_LINES} more lines"
    calls = sum(line.startswith(">>> ") for line in shown[0])
    results.add("tools", f"{section}: {calls} calls print the same", failure, seconds)


if __name__ == "__main__":
    sys.exit(main())
