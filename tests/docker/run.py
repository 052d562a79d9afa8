#!/usr/bin/env python3
"""Runs the first scenario against a broker that `docker compose` started, with io_uring and without.

    python3 tests/docker/run.py --binary target/x86_64-unknown-linux-musl/release/odradek

Options:
    --binary BIN     the static binary that the image is built around (the Dockerfile's stage `prebuilt`)
    --cache DIR      where the engine, its images and the logs are kept (default target/docker)
    --engine own|machine
                     `own` starts a dockerd of its own, in the cache, without touching the machine's firewall, and needs
                     root; `machine` takes the engine that `docker` talks to (default own)
    --save FILE      write the image there, compressed, once all is well

Then come the files of tests/docker/compose, which are written for other images of Kafka: nothing of them is altered but
the image's name, and clients on the host and in the network of the containers write and read.

The compose file is run as it stands, twice: with docker/seccomp.json, where the broker has to run on io_uring, and with
the same profile less the three calls of io_uring, which is how Docker's own default profile treats them since version
25: there it has to fall back to epoll and say why. Port 9092 has to be free, as for anybody who uses that file.

Needs docker, dockerd and docker-compose (Debian: docker.io and docker-compose) and, for the client, pip.
Prints one line per test and at the end `N passed, N failed`.
"""

import argparse
import gzip
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent.parent
sys.path.insert(0, str(REPO / "tests" / "compat"))

import engine  # noqa: E402  (the compat tests are no package)
import first_scenario  # noqa: E402
from harness import Failure, install, report  # noqa: E402

COMPOSE_FILE = "docker-compose-kafka.yml"
PROFILE = "seccomp.json"
BOOTSTRAP = "localhost:9092"
# What the image may take, and whose it is: the user of Apache Kafka's image.
IMAGE_BYTES_MAX = 20_000_000
IMAGE_USER = "1000:1000"
# Of each foreign file: the service, where clients on the host come in, where clients of the network do.
FOREIGN = {
    "single-node": ("broker", "localhost:9092", None),
    "inside-and-outside": ("kafka", "localhost:29092", "kafka:9092"),
    "bitnami": ("kafka", "localhost:9094", "kafka:9092"),
}


def main():
    arguments = _arguments()
    results = report.Report()
    started = time.monotonic()
    try:
        tools = install.install(arguments.compat_cache, {"python"})
        with engine.engine(arguments) as docker:
            engine.build(docker, arguments.binary)
            for name, driver in (("io_uring", "uring"), ("no-io_uring", "sync")):
                _run(docker, name, driver, arguments, tools, results)
            for path in sorted((HERE / "compose").glob("*.yml")):
                _run_foreign(docker, path, arguments, tools, results)
            _check_image(docker, arguments, results)
    except (Failure, subprocess.SubprocessError, OSError) as failure:
        results.add("docker", "the engine runs and the image is built", str(failure), time.monotonic() - started)
    return results.close()


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--cache", type=pathlib.Path, default=REPO / "target" / "docker")
    parser.add_argument("--compat-cache", type=pathlib.Path, default=install.DEFAULT_CACHE)
    parser.add_argument("--save", type=pathlib.Path)
    parser.add_argument("--engine", choices=["own", "machine"], default="own")
    arguments = parser.parse_args()
    arguments.cache = arguments.cache.resolve()
    arguments.compat_cache = arguments.compat_cache.resolve()
    return arguments


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
        engine.until("the container is healthy", lambda: engine.healthy(docker, container))
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


def _run_foreign(docker, path, arguments, tools, results):
    """A compose file for another image: only the image's name is altered."""
    service, outside, inside = FOREIGN[path.stem]
    folder = arguments.cache / path.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    text = path.read_text(encoding="utf-8")
    altered, count = re.subn(r"^( +image:) .*$", r"\1 odradek", text, flags=re.MULTILINE)
    if count != 1:
        raise Failure(f"{path.name} names {count} images")
    (folder / path.name).write_text(altered, encoding="utf-8")
    project = f"odradek-{path.stem}"
    compose = ["docker-compose", "-p", project, "-f", path.name]

    def step(promise, act):
        started, failure = time.monotonic(), None
        try:
            act()
        except (Failure, subprocess.SubprocessError) as error:
            failure = str(error)
        results.add(path.stem, promise, failure, time.monotonic() - started)
        return failure is None

    def up():
        docker.run(*compose, "up", "-d", folder=folder)
        container = docker.run(*compose, "ps", "-q", service, folder=folder).strip()
        engine.until("the container is healthy", lambda: engine.healthy(docker, container))
        log = docker.run("docker", "logs", container)
        (folder / "broker.log").write_text(log, encoding="utf-8")

    def read_inside():
        words = ["topic", "consume", "some_topic", "--from", "earliest", "--print", "%v\n", "--bootstrap-server", inside]
        said = docker.run("docker", "run", "--rm", "--network", f"{project}_default", "odradek", *words)
        expected = [f"Msg {number}" for number in range(first_scenario.MESSAGES)]
        if sorted(said.splitlines()) != sorted(expected):
            raise Failure(f"{said[-2000:]} was read")

    try:
        if step("a file for another image brings up a healthy broker", up):
            started = time.monotonic()
            done = subprocess.run(
                [tools.python, first_scenario.__file__, outside, "partitions", "some_topic"], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=engine.STEP_S, check=False,
            )
            (folder / "outside.log").write_text(done.stdout, encoding="utf-8")
            failure = None if done.returncode == 0 else done.stdout.strip()[-2000:]
            results.add(path.stem, "a client on the host writes and reads", failure, time.monotonic() - started)
            if inside:
                step("a client in its network reads that by the broker's name", read_inside)
    finally:
        docker.run(*compose, "down", "-v", "-t", "5", folder=folder)


def _check_image(docker, arguments, results):
    started, failure = time.monotonic(), None
    image = json.loads(docker.run("docker", "image", "inspect", "odradek"))[0]
    if image["Size"] > IMAGE_BYTES_MAX or image["Config"]["User"] != IMAGE_USER:
        failure = f"{image['Size']} bytes, user {image['Config']['User']!r}"
    results.add("image", f"it has {image['Size'] / 1e6:.1f} MB and no root", failure, time.monotonic() - started)
    if arguments.save and not results.failed:
        with tempfile.NamedTemporaryFile(suffix=".tar") as plain:
            docker.run("docker", "save", "-o", plain.name, "odradek")
            with open(plain.name, "rb") as tar, gzip.GzipFile(arguments.save, "wb", mtime=0) as packed:
                shutil.copyfileobj(tar, packed)


def _refuse_io_uring(path):
    profile = json.loads(path.read_text(encoding="utf-8"))
    rules = [rule for rule in profile["syscalls"] if not any(call.startswith("io_uring_") for call in rule["names"])]
    if len(rules) != len(profile["syscalls"]) - 1:
        raise Failure("the three calls of io_uring are not one rule of the profile")
    profile["syscalls"] = rules
    path.write_text(json.dumps(profile), encoding="utf-8")


def _read_again(tools, folder):
    done = subprocess.run(
        [tools.python, first_scenario.__file__, BOOTSTRAP, "again", "some_topic"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=engine.STEP_S, check=False,
    )
    (folder / "again.log").write_text(done.stdout, encoding="utf-8")
    if done.returncode != 0:
        raise Failure(done.stdout.strip()[-2000:])


if __name__ == "__main__":
    sys.exit(main())
