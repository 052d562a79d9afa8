#!/usr/bin/env python3
"""franz-go's own tests (its package kgo) against Odradek, and in the same way against Apache Kafka.

    python3 tests/compat/franz_go.py --broker target/release/odradek --driver uring
    python3 tests/compat/franz_go.py --broker kafka                  # the reference

Options:
    --broker BIN|kafka   the binary to start as the broker, or `kafka` for Apache Kafka (its jars are installed as well)
    --driver uring|sync  handed to the binary (default uring)
    --shards N           handed to the binary (default 2)
    --records N          how many records the ETL tests carry; franz-go's own number is 500,000 (default 50,000)
    --cache DIR          where the tests are built and logs are kept (default target/compat)

SKIPPED has the tests that are left out, with the reason, for both brokers alike. A test that skips itself without being
there fails the run, so that none falls silent.

Prints one line per test and at the end `N passed, N failed`; the exit code is 0 only if tests ran and none failed.
"""

import os
import re
import subprocess
import sys
import time

from harness import broker, program, report

# Beyond what the tests take on two cores that others use too (about two minutes); only a hang reaches it.
TIMEOUT_S = 480

# franz-go's names, as `-test.skip` takes them: what stands between slashes is a pattern of its own.
SKIPPED = {
    "^TestShareGroup$": "needs share groups",
    "^TestShareGroupETL$": "needs share groups",
    "^TestShareGroupAckOnClose$": "needs share groups",
    "^TestShareGroupOffsetsAdmin$": "needs share groups",
    "^TestConsumeRegexShareSkipsInternal$": "needs share groups",
    "^TestSCRAMAuth$": "needs SASL",
    "^TestSCRAMAuthBadCredentials$": "needs SASL",
    "^TestIssueProduceBrokerTooOldFailsRecords$":
        "needs a broker that does not announce Produce 2; Apache Kafka announces it for librdkafka's sake, and so it is here",
}

OUTCOME = re.compile(r"^\s*--- (PASS|FAIL|SKIP): (\S+) \((\d+\.\d+)s\)$", re.MULTILINE)
ENDED_EARLY = re.compile(r"^(panic: .*|fatal error: .*)$", re.MULTILINE)


def main():
    arguments = _arguments()
    results = report.Report()
    tools = program.installed(arguments, {"franz-tests"} | ({"jars", "python"} if arguments.broker == "kafka" else set()), results)
    if tools is None:
        return results.close()
    folder = program.new_folder(arguments, "franz-runs")
    program.with_servers(
        lambda: [broker.of(arguments, tools, folder)], lambda server: _test(arguments, tools, server, folder, results), results
    )
    for name, reason in SKIPPED.items():
        print(f"left out: {name}: {reason}")
    return results.close()


def _arguments():
    parser = program.parser(__doc__)
    parser.add_argument("--records", type=int, default=50_000)
    return program.parse(parser)


def _test(arguments, tools, server, folder, results):
    environment = dict(
        os.environ, KGO_SEEDS=server.address, KGO_TEST_RF="1", KGO_TEST_STABLE_FETCH="true", KGO_LOG_LEVEL="none",
        KGO_TEST_RECORDS=str(arguments.records),
    )
    command = [tools.franz_tests, "-test.v", f"-test.timeout={TIMEOUT_S}s", f"-test.skip={'|'.join(SKIPPED)}"]
    log_path = folder / "tests.log"
    started = time.monotonic()
    with open(log_path, "wb") as log:
        # One of the tests reads the package's sources, so all of them run where `go test` runs them.
        code = subprocess.run(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env=environment, cwd=tools.franz_sources, check=False,
        ).returncode
    text = log_path.read_text(encoding="utf-8", errors="replace")
    for outcome, name, seconds in OUTCOME.findall(text):
        failure = None
        if outcome == "FAIL":
            failure = f"failed ({log_path})"
        elif outcome == "SKIP":
            failure = f"skipped itself, and SKIPPED does not have it ({log_path})"
        results.add("franz-go", name, failure, float(seconds))
    early = ENDED_EARLY.search(text)
    if code != 0 and (early or not results.failed):
        results.add("franz-go", "runs to its end", f"exit {code} ({log_path}) {early.group(0) if early else ''}",
                    time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
