#!/usr/bin/env python3
"""Runs the first scenario against a broker that `docker compose` started, with io_uring and without.

    python3 tests/docker/run.py --binary target/x86_64-unknown-linux-musl/release/odradek

Options:
    --binary BIN     the static binary that the image is built around (the Dockerfile's stage `prebuilt`)
    --cache DIR      where the engine, its images and the logs are kept (default target/docker)
    --engine own|machine
                     `own` starts a dockerd of its own, in the cache, without touching the machine's firewall, and needs
                     root; `machine` takes the engine that `docker` talks to (default own)

The compose file is run as it stands, twice: with docker/seccomp.json, where the broker has to run on io_uring, and with
the same profile less the three calls of io_uring, which is how Docker's own default profile treats them since version
25: there it has to fall back to epoll and say why. Port 9092 has to be free, as for anybody who uses that file.

Needs docker, dockerd and docker-compose (Debian: docker.io and docker-compose) and, for the client, pip.
Prints one line per test and at the end `N passed, N failed`.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPO / "tests" / "compat"))

import first_scenario  # noqa: E402  (the compat tests are no package)
from harness import Failure, install, report  # noqa: E402

COMPOSE_FILE = "docker-compose-kafka.yml"
PROFILE = "seccomp.json"
BOOTSTRAP = "localhost:9092"
READY_S = 60
STEP_S = 300


def main():
    arguments = _arguments()
    results = report.Report()
    started = time.monotonic()
    try:
        tools = install.install(arguments.compat_cache, {"python"})
        with _engine(arguments) as docker:
            _build(docker, arguments)
            for name, driver in (("io_uring", "uring"), ("no-io_uring", "sync")):
                _run(docker, name, driver, arguments, tools, results)
    except (Failure, subprocess.SubprocessError, OSError) as failure:
        results.add("docker", "the engine runs and the image is built", str(failure), time.monotonic() - started)
    return results.close()


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--cache", type=pathlib.Path, default=REPO / "target" / "docker")
    parser.add_argument("--compat-cache", type=pathlib.Path, default=install.DEFAULT_CACHE)
    parser.add_argument("--engine", choices=["own", "machine"], default="own")
    arguments = parser.parse_args()
    arguments.cache = arguments.cache.resolve()
    arguments.compat_cache = arguments.compat_cache.resolve()
    return arguments


class Docker:
    """The commands `docker` and `docker-compose` against one engine."""

    def __init__(self, host):
        # The classic builder: the newer one is a plug-in that many installations lack.
        self.environment = os.environ | {"DOCKER_BUILDKIT": "0"} | ({"DOCKER_HOST": host} if host else {})

    def run(self, *words, folder=REPO):
        done = subprocess.run(
            words, cwd=folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=STEP_S, check=False,
        )
        if done.returncode != 0:
            raise Failure(f"{' '.join(map(str, words))}: exit {done.returncode}: {done.stdout.strip()[-2000:]}")
        return done.stdout


@contextlib.contextmanager
def _engine(arguments):
    arguments.cache.mkdir(parents=True, exist_ok=True)
    if arguments.engine == "machine":
        yield Docker(None)
        return
    # Unix sockets have short names: not in the cache.
    with tempfile.TemporaryDirectory(prefix="odradek-docker-") as short, \
            open(arguments.cache / "dockerd.log", "w", encoding="utf-8") as log:
        host = f"unix://{short}/docker.sock"
        daemon = subprocess.Popen(
            ["dockerd", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--bridge=none",
             "--data-root", arguments.cache / "engine", "--exec-root", f"{short}/exec",
             "--pidfile", f"{short}/pid", "-H", host],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
        try:
            docker = Docker(host)
            _until("the engine answers", lambda: _answers(docker, daemon))
            yield docker
        finally:
            daemon.terminate()
            daemon.wait(timeout=STEP_S)


def _answers(docker, daemon):
    if daemon.poll() is not None:
        raise Failure(f"dockerd: exit {daemon.returncode}; see dockerd.log in the cache")
    with contextlib.suppress(Failure):
        docker.run("docker", "version")
        return True
    return False


def _until(what, condition):
    deadline = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"not within {READY_S} s: {what}")
        time.sleep(0.1)


def _build(docker, arguments):
    with tempfile.TemporaryDirectory(prefix="odradek-image-") as context:
        shutil.copytree(REPO / "docker", pathlib.Path(context) / "docker")
        shutil.copy(arguments.binary, pathlib.Path(context) / "odradek")
        docker.run("docker", "build", "-q", "-t", "odradek", "--target", "prebuilt", "-f", "docker/Dockerfile", ".",
                   folder=context)


def _run(docker, name, driver, arguments, tools, results):
    """Brings a broker up, runs the scenario against it, stops it, and brings it up on the same volume again."""
    folder = arguments.cache / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(REPO / "docker", folder)
    if driver == "sync":
        _refuse_io_uring(folder / PROFILE)
    compose = ["docker-compose", "-p", f"odradek-{name.replace('_', '')}", "-f", COMPOSE_FILE]

    def step(promise, act):
        started, failure = time.monotonic(), None
        try:
            act()
        except (Failure, subprocess.SubprocessError) as error:
            failure = str(error)
        results.add(name, promise, failure, time.monotonic() - started)
        return failure is None

    def up():
        docker.run(*compose, "up", "-d", "--no-build", folder=folder)
        container = docker.run(*compose, "ps", "-q", "kafka", folder=folder).strip()
        _until("the container is healthy", lambda: _healthy(docker, container))
        log = docker.run("docker", "logs", container)
        (folder / "broker.log").write_text(log, encoding="utf-8")
        if f"driver={driver}" not in log:
            raise Failure(f"the ready line names another driver: {log[-2000:]}")
        if driver == "sync" and "io_uring is refused" not in log:
            raise Failure(f"no line says why io_uring is not used: {log[-2000:]}")

    def stop():
        container = docker.run(*compose, "ps", "-q", "kafka", folder=folder).strip()
        docker.run(*compose, "stop", folder=folder)
        code = docker.run("docker", "inspect", "-f", "{{.State.ExitCode}}", container).strip()
        if code != "0":
            raise Failure(f"exit {code}: {docker.run('docker', 'logs', container)[-2000:]}")

    try:
        if step("compose brings up a healthy broker", up):
            first_scenario.run(tools, BOOTSTRAP, folder, results)
            step("compose stops it cleanly", stop)
            step("it comes up again on its volume", up)
            step("which holds what was written", lambda: _read_again(tools, folder))
    finally:
        docker.run(*compose, "down", "-v", "-t", "5", folder=folder)


def _refuse_io_uring(path):
    profile = json.loads(path.read_text(encoding="utf-8"))
    rules = [rule for rule in profile["syscalls"] if not any(call.startswith("io_uring_") for call in rule["names"])]
    if len(rules) != len(profile["syscalls"]) - 1:
        raise Failure("the three calls of io_uring are not one rule of the profile")
    profile["syscalls"] = rules
    path.write_text(json.dumps(profile), encoding="utf-8")


def _healthy(docker, container):
    state = json.loads(docker.run("docker", "inspect", "-f", "{{json .State}}", container))
    if not state["Running"]:
        raise Failure(f"exit {state['ExitCode']}: {docker.run('docker', 'logs', container)[-2000:]}")
    return state["Health"]["Status"] == "healthy"


def _read_again(tools, folder):
    done = subprocess.run(
        [tools.python, first_scenario.__file__, BOOTSTRAP, "again", "some_topic"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=STEP_S, check=False,
    )
    (folder / "again.log").write_text(done.stdout, encoding="utf-8")
    if done.returncode != 0:
        raise Failure(done.stdout.strip()[-2000:])


if __name__ == "__main__":
    sys.exit(main())
