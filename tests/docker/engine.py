"""An engine for containers, the image of the project in it, and the commands `docker` and `docker-compose`."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from harness import Failure

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
READY_S = 60
STEP_S = 300


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
def engine(arguments):
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
            until("the engine answers", lambda: _answers(docker, daemon))
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


def until(what, condition):
    deadline = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"not within {READY_S} s: {what}")
        time.sleep(0.1)


def build(docker, binary):
    with tempfile.TemporaryDirectory(prefix="odradek-image-") as context:
        shutil.copytree(REPO / "docker", pathlib.Path(context) / "docker")
        shutil.copy(REPO / ".dockerignore", context)
        shutil.copy(binary, pathlib.Path(context) / "odradek")
        docker.run("docker", "build", "-q", "-t", "odradek", "--target", "prebuilt", "-f", "docker/Dockerfile", ".",
                   folder=context)


def healthy(docker, container):
    state = json.loads(docker.run("docker", "inspect", "-f", "{{json .State}}", container))
    if not state["Running"]:
        raise Failure(f"exit {state['ExitCode']}: {docker.run('docker', 'logs', container)[-2000:]}")
    return state["Health"]["Status"] == "healthy"
