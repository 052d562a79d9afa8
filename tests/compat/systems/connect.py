"""Kafka Connect with its file connectors: lines of one file go through a topic into another, each once and in order."""

import http.client
import json

from harness import Failure
from harness.broker import free_port

from .running import Program, Topics, until

LINES = 400
CONVERTERS = {
    "key.converter": "org.apache.kafka.connect.storage.StringConverter",
    "value.converter": "org.apache.kafka.connect.storage.StringConverter",
}


def _properties(path, settings):
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")
    return path


def _worker(tools, server, rest_port):
    return {
        "bootstrap.servers": server.address, **CONVERTERS, "plugin.path": tools.connect_plugins,
        "offset.flush.interval.ms": 500, "listeners": f"http://127.0.0.1:{rest_port}",
    }


class _Files:
    """The file that is read and the file that is written."""

    def __init__(self, folder, name):
        self.source, self.sink = folder / f"{name}-in.txt", folder / f"{name}-out.txt"
        self.topic = name
        self._lines = []

    def append(self, stage):
        # The source counts characters and skips bytes, so it would read others than these again after a restart.
        lines = [f"{stage} line {number}" for number in range(LINES)]
        with open(self.source, "a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        self._lines += lines

    def written(self):
        return self.sink.read_text(encoding="utf-8").splitlines() if self.sink.exists() else []

    def wait(self, *programs):
        """Until all lines are through. A file connector sees each line once, also over clean stops."""
        count = len(self._lines)
        until(lambda: len(self.written()) >= count, lambda: f"{len(self.written())} of {count} lines are through", *programs)
        written = self.written()
        if written != self._lines:
            wrong = next((i for i, pair in enumerate(zip(written, self._lines, strict=False)) if pair[0] != pair[1]), count)
            raise Failure(f"line {wrong} of what was written differs; {len(written)} lines for {count}: {written[wrong:wrong + 1]}")

    def check_topic(self, topics):
        values = [record["value"] for record in topics.read(self.topic)]
        if values != self._lines:
            raise Failure(f"the topic has {len(values)} records, not the {len(self._lines)} lines in their order")

    def connectors(self):
        file = "org.apache.kafka.connect.file.FileStream"
        return {
            f"{self.topic}-source": {
                "connector.class": f"{file}SourceConnector", "file": str(self.source), "topic": self.topic, "tasks.max": "1",
            },
            f"{self.topic}-sink": {
                "connector.class": f"{file}SinkConnector", "file": str(self.sink), "topics": self.topic, "tasks.max": "1",
            },
        }


def standalone(tools, server, folder):
    files, topics = _Files(folder, "connect-alone"), Topics(tools, server)
    worker = _properties(folder / "standalone.properties", {
        **_worker(tools, server, free_port()), "offset.storage.file.filename": folder / "connect.offsets",
    })
    connectors = [
        _properties(folder / f"{name}.properties", {"name": name, **settings}) for name, settings in files.connectors().items()
    ]
    command = tools.connect_java("org.apache.kafka.connect.cli.ConnectStandalone", worker, *connectors, heap_mb=256)
    for stage in ("first", "after a restart"):
        files.append(stage)
        program = Program("connect-standalone", command, folder)
        try:
            files.wait(program)
            files.append(f"{stage}, more")
            files.wait(program)
            program.stop()
        finally:
            program.kill()
    files.check_topic(topics)


class _Rest:
    """Connect's REST interface, of one worker."""

    def __init__(self, port):
        self.port = port

    def call(self, method, path, body=None):
        """(status, answer); (0, None) while there is nobody."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if text else None
        except (OSError, ValueError):
            return 0, None
        finally:
            connection.close()

    def running(self):
        """{connector or task: the worker that runs it}."""
        status, answer = self.call("GET", "/connectors?expand=status")
        found = {}
        for name, connector in (answer or {}).items() if status == 200 else ():
            parts = {name: connector["status"]["connector"]}
            parts |= {f"{name}-{task['id']}": task for task in connector["status"]["tasks"]}
            found |= {part: at["worker_id"] for part, at in parts.items() if at["state"] == "RUNNING"}
        return found


def distributed(tools, server, folder):
    files, topics = _Files(folder, "connect-many"), Topics(tools, server)
    ports = [free_port(), free_port()]
    workers, rest = {}, _Rest(ports[0])

    def start(port):
        settings = _properties(folder / f"distributed-{port}.properties", {
            **_worker(tools, server, port), "group.id": "connect-cluster", "heartbeat.interval.ms": 500,
            "scheduled.rebalance.max.delay.ms": 1000,
            **{f"{what}.storage.topic": f"connect-{what}" for what in ("config", "offset", "status")},
            **{f"{what}.storage.replication.factor": 1 for what in ("config", "offset", "status")},
        })
        command = tools.connect_java("org.apache.kafka.connect.cli.ConnectDistributed", settings, heap_mb=256)
        workers[port] = Program(f"connect-distributed-{port}", command, folder)

    def all_running(*expected):
        return len(rest.running()) == 4 and set(rest.running().values()) == {f"127.0.0.1:{port}" for port in expected}

    def wait(*expected):
        until(lambda: all_running(*expected), lambda: f"all run on {expected}: {rest.running()}", *workers.values())

    try:
        start(ports[0])
        until(lambda: rest.call("GET", "/")[0] == 200, "the worker serves", *workers.values())
        for name, settings in files.connectors().items():
            # A worker that has just joined may answer that a rebalance is under way.
            until(lambda name=name, settings=settings: rest.call("PUT", f"/connectors/{name}/config", settings)[0] in (200, 201),
                  f"{name} is made", *workers.values())
        files.append("first")
        wait(ports[0])
        files.wait(*workers.values())
        start(ports[1])
        wait(*ports)
        files.append("with two workers")
        files.wait(*workers.values())
        # The first leaves; the second has all of it.
        workers.pop(ports[0]).stop()
        rest.port = ports[1]
        wait(ports[1])
        files.append("with the other worker")
        files.wait(*workers.values())
        workers.pop(ports[1]).stop()
        # A worker alone finds connectors and offsets in the topics.
        start(ports[0])
        rest.port = ports[0]
        files.append("after a restart")
        wait(ports[0])
        files.wait(*workers.values())
        _check_offsets(rest, files)
        for name in files.connectors():
            _expect(rest.call("DELETE", f"/connectors/{name}")[0], 204, f"{name} is deleted")
        workers.pop(ports[0]).stop()
    finally:
        for worker in workers.values():
            worker.kill()
    files.check_topic(topics)


def _check_offsets(rest, files):
    """The source's offset is its position in the file, the sink's that in the topic: as committed, so a moment later."""
    def offset(name, field):
        status, answer = rest.call("GET", f"/connectors/{name}/offsets")
        return answer["offsets"][0]["offset"][field] if status == 200 and answer["offsets"] else None

    until(lambda: offset(f"{files.topic}-source", "position") == files.source.stat().st_size, "the source's position is told")
    until(lambda: offset(f"{files.topic}-sink", "kafka_offset") == len(files.written()), "the sink's offset is told")


def _expect(got, want, what):
    if got != want:
        raise Failure(f"{what}: expected {want}, got {got}")
