"""Installs the clients under test, pinned, into a cache outside the tracked tree; a tool that is missing is a `Failure`.

Each part is rebuilt when the files that pin or make it change (a stamp beside it holds their hash). Nothing is written
into the tracked tree: npm works on copies, go and mvn only read theirs. A file lock lets two runs share one cache.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import threading

from . import Failure

COMPAT = pathlib.Path(__file__).resolve().parent.parent
CLIENTS = COMPAT / "clients"
REPO = COMPAT.parent.parent
DEFAULT_CACHE = REPO / "target" / "compat"

# A cold install on a slow network; only a hang reaches it.
INSTALL_TIMEOUT_S = 900


@dataclasses.dataclass(frozen=True)
class Tools:
    """Where the installed things are."""

    cache: pathlib.Path

    @property
    def python(self):
        return self.cache / "venv" / "bin" / "python"

    @property
    def node_modules(self):
        return self.cache / "node" / "node_modules"

    @property
    def franz(self):
        return self.cache / "franz" / "client"

    @property
    def franz_tests(self):
        return self.cache / "franz-tests" / "kgo.test"

    @property
    def franz_sources(self):
        """The folder of franz-go's package kgo in Go's module cache."""
        return pathlib.Path((self.franz_tests.parent / "sources").read_text(encoding="utf-8"))

    @property
    def jars(self):
        return self.cache / "jars" / "lib"

    @property
    def java_classes(self):
        return self.cache / "java" / "classes"

    @property
    def jars3(self):
        return self.cache / "java3" / "lib"

    @property
    def java3_classes(self):
        return self.cache / "java3" / "classes"

    @property
    def tool_classes(self):
        return self.cache / "tools" / "classes"

    def java(self, *arguments, heap_mb):
        """The command line of a small JVM: little memory, quick to start."""
        return [
            "java", f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
            f"-Dlog4j2.configurationFile={CLIENTS / 'java' / 'log4j2.properties'}", *arguments,
        ]


def install(cache, parts):
    """Installs `parts` (of PARTS) side by side and returns the `Tools`; raises the first `Failure`."""
    cache.mkdir(parents=True, exist_ok=True)
    tools = Tools(cache)
    with _locked(cache / ".lock"):
        # The Java client is compiled against the jars, so these two are one thread.
        orders = (["python"], ["node"], ["go", "franz-tests"], ["jars", "java", "tools"], ["java3"], ["kcat"])
        chains = [[part for part in order if part in parts] for order in orders]
        failures = []

        def run_chain(chain):
            try:
                for part in chain:
                    PARTS[part](tools)
            except (Failure, OSError, subprocess.TimeoutExpired) as failure:
                failures.append(failure)

        threads = [threading.Thread(target=run_chain, args=(chain,)) for chain in chains if chain]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise Failure("; ".join(str(failure) for failure in failures))
    return tools


@contextlib.contextmanager
def _locked(path):
    with open(path, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _need(program, why):
    if shutil.which(program) is None:
        raise Failure(f"`{program}` is missing: {why}")


def _run(what, command, **options):
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        stdin=subprocess.DEVNULL, timeout=INSTALL_TIMEOUT_S, check=False, **options,
    )
    if done.returncode != 0:
        raise Failure(f"{what} failed ({done.returncode}): {' '.join(done.stdout.strip().splitlines()[-8:])}")
    return done.stdout


def _fresh(folder, inputs, extra=""):
    """Whether `folder` was made of exactly these inputs; if not, it is emptied. The caller stamps it when it is done."""
    digest = hashlib.sha256(extra.encode())
    for path in inputs:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    stamp = folder / ".stamp"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest.hexdigest():
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return lambda: stamp.write_text(digest.hexdigest(), encoding="utf-8")


def _install_python(tools):
    requirements = CLIENTS / "requirements.txt"
    stamp = _fresh(tools.cache / "venv", [requirements], extra=sys.version)
    if stamp:
        _run("making a Python venv", [sys.executable, "-m", "venv", tools.cache / "venv"])
        _run("pip install", [tools.python, "-m", "pip", "install", "-q", "--no-deps", "-r", requirements])
        stamp()


def _install_node(tools):
    _need("node", "kafkajs runs on it")
    _need("npm", "it installs kafkajs")
    pins = [CLIENTS / "kafkajs" / "package.json", CLIENTS / "kafkajs" / "package-lock.json"]
    stamp = _fresh(tools.cache / "node", pins)
    if stamp:
        for pin in pins:
            shutil.copy(pin, tools.cache / "node")
        _run("npm ci", ["npm", "ci", "--no-audit", "--no-fund"], cwd=tools.cache / "node")
        stamp()


def _install_go(tools):
    _need("go", "it builds the franz-go client")
    source = CLIENTS / "franz"
    stamp = _fresh(tools.franz.parent, sorted(source.iterdir()))
    if stamp:
        _run("go build", ["go", "build", "-o", tools.franz, "."], cwd=source, env=_go_environment())
        stamp()


def _go_environment():
    return dict(os.environ, GOTOOLCHAIN="local", GOFLAGS="-mod=readonly -buildvcs=false", GOWORK="off")


def _install_franz_tests(tools):
    """The tests of the franz-go that the client under test uses: its go.mod pins them."""
    _need("go", "it builds franz-go's tests")
    source, package = CLIENTS / "franz", "github.com/twmb/franz-go/pkg/kgo"
    stamp = _fresh(tools.franz_tests.parent, [source / "go.mod", source / "go.sum"])
    if stamp:
        _run("go test -c", ["go", "test", "-c", "-o", tools.franz_tests, package], cwd=source, env=_go_environment())
        folder = _run("go list", ["go", "list", "-f", "{{.Dir}}", package], cwd=source, env=_go_environment())
        (tools.franz_tests.parent / "sources").write_text(folder.strip(), encoding="utf-8")
        stamp()


def _install_jars(tools):
    _need("mvn", "it fetches Apache Kafka's jars")
    _need("java", "Apache Kafka and its client run on it")
    pom = CLIENTS / "java" / "pom.xml"
    stamp = _fresh(tools.jars.parent, [pom])
    if stamp:
        _run("mvn dependency:copy-dependencies", [
            "mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies",
            "-DincludeScope=runtime", f"-DoutputDirectory={tools.jars}",
        ])
        stamp()


def _install_java(tools):
    _need("javac", "it builds the Java client")
    source = CLIENTS / "java" / "Client.java"
    stamp = _fresh(tools.java_classes.parent, [source, CLIENTS / "java" / "pom.xml"])
    if stamp:
        _run("javac", ["javac", "-Xlint:all", "-Werror", "-cp", f"{tools.jars}/*", "-d", tools.java_classes, source])
        stamp()


def _install_java3(tools):
    _need("mvn", "it fetches the Java client of Kafka 3")
    _need("javac", "it builds the Java client")
    pom, source = CLIENTS / "java3" / "pom.xml", CLIENTS / "java" / "Client.java"
    stamp = _fresh(tools.jars3.parent, [pom, source])
    if stamp:
        _run("mvn dependency:copy-dependencies", [
            "mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies",
            "-DincludeScope=runtime", f"-DoutputDirectory={tools.jars3}",
        ])
        _run("javac", ["javac", "-Xlint:all", "-Werror", "-cp", f"{tools.jars3}/*", "-d", tools.java3_classes, source])
        stamp()


def _install_tools(tools):
    _need("javac", "it builds the driver of Apache Kafka's tools")
    sources = sorted((COMPAT / "tools").glob("*.java"))
    stamp = _fresh(tools.tool_classes.parent, [*sources, CLIENTS / "java" / "pom.xml"])
    if stamp:
        _run("javac", ["javac", "-Xlint:all", "-Werror", "-cp", f"{tools.jars}/*", "-d", tools.tool_classes, *sources])
        stamp()


def _install_kcat(_tools):
    if shutil.which("kcat"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        _run("apt-get update", ["apt-get", "update", "-qq"], env=environment)
        _run("apt-get install kcat", ["apt-get", "install", "-y", "-qq", "kcat"], env=environment)
    _need("kcat", "install the Debian package `kcat`")


PARTS = {
    "python": _install_python,
    "node": _install_node,
    "go": _install_go,
    "franz-tests": _install_franz_tests,
    "jars": _install_jars,
    "java": _install_java,
    "java3": _install_java3,
    "tools": _install_tools,
    "kcat": _install_kcat,
}
