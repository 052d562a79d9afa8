"""The broker under test, as a process that can be stopped and started again on its directory and its port.

`Odradek` starts the binary it is given; `Kafka` starts Apache Kafka from the installed jars, formatted, for reference runs
and as the reader of tests/interop. Both listen on a free port of 127.0.0.1 and keep it over a restart, so that clients
that live through one find the broker again. Logs go to a file in the run's folder.
"""

import pathlib
import queue
import random
import re
import signal
import socket
import subprocess
import threading
import time

from . import Failure
from .install import CLIENTS

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
PORT_TRIES = 100

# Any fixed id does: Apache Kafka's own docker image uses this one.
CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"


class Broker:
    """Start, stop, address: what the scenarios know of a broker."""

    name = "broker"
    # Exit codes of a clean stop by SIGTERM.
    clean_exit_codes = (0,)

    def __init__(self, folder, port=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = self.folder / "data"
        self.log_path = self.folder / "broker.log"
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.process = None

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def start(self):
        """Returns when the broker serves."""
        raise NotImplementedError

    def settle(self, topic=None):
        """Called when a topic was created: returns when the broker leads it. Odradek's answer itself is that promise."""

    def _spawn(self, command, **options):
        with open(self.log_path, "ab") as log:
            log.write(f"\n--- {' '.join(map(str, command))}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stderr=log, **(options or {"stdout": log})
            )

    def stop(self):
        """SIGTERM, and an exit code of a clean stop in time; else a `Failure` (and SIGKILL)."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failure(f"{self.name} did not stop within {STOP_TIMEOUT_S} s of SIGTERM ({self.log_path})") from None
        if code not in self.clean_exit_codes:
            raise Failure(f"{self.name} exited with {code} on SIGTERM{self.log_tail()}")

    def restart(self):
        self.stop()
        self.start()

    def kill(self):
        """For cleaning up: no questions asked."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def log_tail(self, lines=12):
        text = self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""
        return f" ({self.log_path})\n      | " + "\n      | ".join(text.strip().splitlines()[-lines:])


class Odradek(Broker):
    """The binary under test, served at the address that its ready line names."""

    name = "odradek"

    def __init__(self, folder, binary, driver, shards, settings=(), log="info"):
        super().__init__(folder)
        self.log = log
        self.binary = pathlib.Path(binary).resolve()
        self.driver = driver
        self.shards = shards
        self.settings = settings
        if not self.binary.is_file():
            raise Failure(f"no broker at {self.binary}: build it with `cargo build --release`")

    def start(self):
        command = [
            self.binary, "start", "--listen", self.address, "--data-dir", self.data_dir,
            "--shards", self.shards, "--driver", self.driver, "--log", self.log,
        ]
        # The usual admin port is for one broker of a machine. What is set later counts.
        for setting in ("admin.listen=none", *self.settings):
            command += ["--set", setting]
        self._spawn(command, stdout=subprocess.PIPE, text=True)
        lines = queue.Queue()
        threading.Thread(target=_drain, args=(self.process.stdout, lines), daemon=True).start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self.kill()
                raise Failure(f"odradek printed no ready line within {START_TIMEOUT_S} s{self.log_tail()}") from None
            if line is None:
                code = self.process.wait()
                self.process = None
                raise Failure(f"odradek exited with {code} before it was ready{self.log_tail()}")
            if line.startswith("ready"):
                break
        named = re.search(r"(?:listen=)?(\d+\.\d+\.\d+\.\d+):(\d+)", line)
        if not named or named.group(0).removeprefix("listen=") != self.address:
            self.kill()
            raise Failure(f"odradek was to listen on {self.address}, its ready line says: {line!r}")
        if f"driver={self.driver}" not in line:
            self.kill()
            raise Failure(f"odradek was to run with driver={self.driver}, its ready line says: {line!r}")


def of(arguments, tools, folder):
    """The broker that a program's options ask for."""
    if arguments.broker == "kafka":
        return Kafka(folder, tools)
    return Odradek(folder, arguments.broker, arguments.driver, arguments.shards)


def _drain(stream, lines):
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)


class Kafka(Broker):
    """Apache Kafka as one combined broker and controller, with the settings that its own server.properties ships."""

    name = "Apache Kafka"
    clean_exit_codes = (0, 143)

    def __init__(self, folder, tools, settings=None, data_dir=None, quorum="dynamic", port=None):
        """`quorum`: how the voters are known, "dynamic" from the log or "static" from the settings."""
        super().__init__(folder, port)
        self.tools = tools
        self.quorum = quorum
        self.data_dir = pathlib.Path(data_dir) if data_dir else self.data_dir
        self.controller_port = free_port()
        self.properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"{self.host}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{self.host}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address},CONTROLLER://{self.host}:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self.data_dir),
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            **(settings or {}),
        }
        if quorum == "static":
            del self.properties["controller.quorum.bootstrap.servers"]
            self.properties["controller.quorum.voters"] = f"{self.properties['node.id']}@{self.host}:{self.controller_port}"

    def format(self, *options):
        """Makes the data directory with Kafka's own tool; `options` are the tool's."""
        done = subprocess.run(
            self.tools.java("-cp", f"{self.tools.jars}/*", "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID,
                            "-c", str(self._write_properties()), *options, heap_mb=256),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )
        if done.returncode != 0:
            raise Failure(f"Apache Kafka's StorageTool failed: {done.stdout.strip()}")

    def _write_properties(self):
        path = self.folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in self.properties.items()), encoding="utf-8")
        return path

    def start(self):
        server_properties = self._write_properties()
        class_path = ["-cp", f"{self.tools.jars}/*"]
        if not (self.data_dir / "meta.properties").exists():
            self.format(*(["--standalone"] if self.quorum == "dynamic" else []))
        self._spawn(self.tools.java("-Dcompat.log.level=info", *class_path, "kafka.Kafka", str(server_properties), heap_mb=512))
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _accepts(self.host, self.port):
            if self.process.poll() is not None:
                code, self.process = self.process.returncode, None
                raise Failure(f"Apache Kafka exited with {code} before it served{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise Failure(f"Apache Kafka did not serve within {START_TIMEOUT_S} s{self.log_tail()}")
            time.sleep(0.05)
        try:
            self.settle()
        except Failure:
            self.kill()
            raise

    def settle(self, topic=None):
        command = [self.tools.python, CLIENTS / "settle.py", self.address, *filter(None, [topic])]
        settled = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if settled.returncode != 0:
            raise Failure(f"Apache Kafka: {settled.stdout.strip()}{self.log_tail()}")


def _accepts(host, port):
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def free_port():
    """A free port below the range that outgoing connections take theirs from: while the broker is down, one of the
    clients' attempts to reach it could otherwise be given the broker's own port, and connect to itself."""
    lowest_outgoing = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    for _ in range(PORT_TRIES):
        port = random.randrange(10_000, lowest_outgoing)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failure(f"no free port found in {PORT_TRIES} tries")
