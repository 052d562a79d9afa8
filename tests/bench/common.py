"""The load generators, built here, what a process has used so far, and what machine this is."""

import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent.parent
# Behind this folder, for both have a transactions.py.
sys.path.append(str(HERE.parent / "compat"))

# The harness is beside this folder, so its path has to be known first.
from harness import Failure  # noqa: E402

# No case takes so long; only a hang reaches it.
LOAD_TIMEOUT_S = 600
GIGABYTE = 1_000_000_000
VALUE_BYTES = 1024
TUNED = ["batch.size=131072", "linger.ms=5"]


def build(cache, name):
    """Compiles one of the load generators in C unless it is there already; a `Failure` says in one line what is missing."""
    source, binary = HERE / f"{name}.c", cache / name
    if binary.exists() and binary.stat().st_mtime > source.stat().st_mtime:
        return binary
    cache.mkdir(parents=True, exist_ok=True)
    if shutil.which("cc") is None:
        raise Failure(f"`cc` is missing: it builds tests/bench/{name}.c")
    if not pathlib.Path("/usr/include/librdkafka/rdkafka.h").exists():
        _install_librdkafka()
    command = ["cc", "-O2", "-Wall", "-Wextra", "-std=gnu11", "-o", binary, source, "-lrdkafka", "-lpthread"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{name}.c does not compile: {done.stdout.strip()}")
    return binary


def _install_librdkafka():
    missing = "librdkafka's headers are missing: install Debian's librdkafka-dev"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Failure(missing)
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for words in (["update", "-qq"], ["install", "-y", "-qq", "librdkafka-dev"]):
        done = subprocess.run(["apt-get", *words], env=environment, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise Failure(missing)


def kload(binary, mode, address, topic, *options, producer=(), consumer=()):
    """Runs kload and returns what it measured."""
    return finish_kload(start_kload(binary, mode, address, topic, *options, producer=producer, consumer=consumer), mode, topic)


def start_kload(binary, mode, address, topic, *options, producer=(), consumer=()):
    command = [binary, mode, "-b", address, "-t", topic, *options]
    for setting in producer:
        command += ["-X", setting]
    for setting in consumer:
        command += ["-Y", setting]
    return subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish_kload(process, mode, topic):
    """What it measured; a `Failure` with its last words if it failed."""
    try:
        told, complaints = process.communicate(timeout=LOAD_TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        tail = " ".join((told + complaints).strip().splitlines()[-4:])
        raise Failure(f"kload {mode} {topic} failed ({process.returncode}): {tail}")
    return json.loads(told)


def spread(values, digits):
    """The median, with the least and the most."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def cpu_seconds(pid):
    """User and system time of all threads of a process, io_uring's workers among them; not the kernel's own threads."""
    return sum(cpu_split(pid))


def cpu_split(pid):
    """The same, user and system apart."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return tuple(int(field) / os.sysconf("SC_CLK_TCK") for field in fields[11:13])


def memory(pid):
    """Resident and proportional memory in MB, as `Rss` and `Pss`."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    return {name: sizes[name] for name in ("Rss", "Pss")}


def machine():
    """The machine and the commit, for the head of a report."""
    model = "unknown processor"
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    commit = subprocess.run(
        ["git", "-C", REPO, "rev-parse", "--short=12", "HEAD"], stdout=subprocess.PIPE, text=True, check=False
    ).stdout.strip()
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, commit {commit}, load average before: {load}"
