"""Programs that a test starts, waits for and stops, and topics as the test sees them."""

import contextlib
import json
import os
import signal
import subprocess
import time

from harness import Failure
from harness.install import CLIENTS

# Far beyond what a healthy step takes on two busy cores; only a failing run waits so long.
STEP_TIMEOUT_S = 90
STOP_TIMEOUT_S = 60
POLL_S = 0.2


class Program:
    """A program in the background; what it prints goes to a log in the run's folder."""

    def __init__(self, name, command, folder, clean_exit_codes=(0, 143)):
        self.name = name
        self.log_path = folder / f"{name}.log"
        self._clean = clean_exit_codes
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True
            )

    def check_running(self):
        if self._process.poll() is not None:
            raise Failure(f"{self.name} ended by itself with {self._process.returncode}{self._tail()}")

    def exit_code(self):
        """None while it runs."""
        return self._process.poll()

    def stop(self):
        """SIGTERM, and an exit code of a clean stop in time."""
        self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not stop within {STOP_TIMEOUT_S} s of SIGTERM{self._tail()}") from None
        if code not in self._clean:
            raise Failure(f"{self.name} exited with {code} on SIGTERM{self._tail()}")

    def kill(self):
        """For cleaning up, and for what is to be found dead: no questions asked."""
        self._process.kill()
        self._process.wait()

    def kill_all(self):
        """The same, also of processes that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _tail(self, lines=10):
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        return f" ({self.log_path})\n      | " + "\n      | ".join(text.strip().splitlines()[-lines:])


class Topics:
    """The topics of one broker, by way of clients/topic_client.py."""

    def __init__(self, tools, server):
        self._tools = tools
        self._server = server

    def create(self, topic, partitions):
        self._call("create", topic, partitions)
        self._server.settle(topic)

    def write(self, topic, records):
        """`records`: (key, value) pairs of text."""
        lines = "".join(json.dumps({"key": key, "value": value}) + "\n" for key, value in records)
        self._call("write", topic, stdin=lines)

    def read(self, topic):
        """All records of the topic, in each partition in order."""
        return [json.loads(line) for line in self._call("read", topic).splitlines()]

    def ends(self, topic):
        return _by_partition(self._call("ends", topic))

    def commit(self, group, topic, offsets):
        self._call("commit", group, topic, stdin=json.dumps(offsets))

    def committed(self, group, topic):
        return _by_partition(self._call("committed", group, topic))

    def _call(self, *words, stdin=""):
        command = [self._tools.python, CLIENTS / "topic_client.py", self._server.address, *words]
        done = subprocess.run(
            [str(word) for word in command], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            timeout=STEP_TIMEOUT_S, check=False,
        )
        if done.returncode != 0:
            raise Failure(f"{' '.join(map(str, words))}: {done.stderr.strip()[-1500:]}")
        return done.stdout


def _by_partition(text):
    return {int(partition): offset for partition, offset in json.loads(text).items()}


def until(condition, what, *programs, timeout_s=STEP_TIMEOUT_S):
    """Waits until `condition()` is true; fails when the time is over or one of the programs has ended. `what` may be a function."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        for program in programs:
            program.check_running()
        if time.monotonic() > deadline:
            raise Failure(f"not within {timeout_s} s: {what() if callable(what) else what}")
        time.sleep(POLL_S)
