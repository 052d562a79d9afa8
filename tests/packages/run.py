#!/usr/bin/env python3
"""Checks the packages that `cargo xtask release` has built. Needs root, Debian's tools and an engine for containers.

    python3 tests/packages/run.py --packages target/release-packages --binary target/x86_64-unknown-linux-musl/release/odradek

Options:
    --packages DIR       where they are
    --binary BIN         the static binary, for the image
    --cache DIR          where the Debian root, the engine and the logs are kept (default target/packages)
    --engine own|machine see tests/docker/run.py
    --only PART          unit, deb, tar or image; repeatable (default: all)

The .deb is installed by dpkg into a Debian of its own, and the broker is run there as the unit runs it: as the package's
user, with everything read-only but its own folder. What it asks of the kernel meanwhile, as strace sees it, has to be
within the unit's SystemCallFilter. Prints one line per test and at the end `N passed, N failed`.
"""

import argparse
import contextlib
import gzip
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent.parent
sys.path.insert(0, str(REPO / "tests" / "compat"))

from harness import Failure, report  # noqa: E402  (the compat tests are no package)

PARTS = ("unit", "deb", "tar", "image")
UNIT = "lib/systemd/system/odradek.service"
PORT = 19392
STEP_S = 600
READY_S = 30
# What `systemd-analyze security` counts, times ten: 10 is "exposed to little".
EXPOSURE_MAX = 20
FILES = (
    "etc/odradek/server.properties", UNIT, "usr/bin/odradek", "usr/share/bash-completion/completions/odradek",
    "usr/share/doc/odradek/changelog.gz", "usr/share/doc/odradek/copyright",
    "usr/share/fish/vendor_completions.d/odradek.fish", "usr/share/lintian/overrides/odradek",
    "usr/share/zsh/vendor-completions/_odradek",
)
MANUAL = "usr/share/man/man1"


def main():
    arguments = _arguments()
    results = report.Report()

    def step(subject, promise, act):
        started, failure = time.monotonic(), None
        try:
            act()
        except (Failure, subprocess.SubprocessError, OSError) as error:
            failure = str(error)
        results.add(subject, promise, failure, time.monotonic() - started)

    parts = arguments.only or PARTS
    if "tar" in parts:
        step("tar", "what it holds runs", lambda: _tar(_only(arguments.packages, "odradek-*-musl.tar.gz")))
    if "unit" in parts or "deb" in parts:
        deb = _only(arguments.packages, "odradek_*.deb")
        with _debian(arguments.cache) as root:
            if "deb" in parts:
                step("deb", "it holds what it should, as root's", lambda: _contents(deb))
                step("deb", "lintian has nothing to say", lambda: _run("lintian", "--allow-root", "--fail-on", "error,warning", deb))
            step("deb", "dpkg installs it and makes its user", lambda: _install(root, deb))
            if "unit" in parts:
                step("unit", "systemd understands it", lambda: _verify(root))
                step("unit", "systemd finds it hardened", lambda: _run(
                    "systemd-analyze", "security", f"--root={root}", "--offline=true", "--no-pager",
                    f"--threshold={EXPOSURE_MAX}", "odradek.service"))
            for driver in ("uring", "sync"):
                step("unit", f"its user is served on a read-only root, with {driver}, within its system calls",
                     lambda driver=driver: _serve(root, arguments.cache, driver))
            if "deb" in parts:
                step("deb", "an upgrade leaves altered settings, a removal the records", lambda: _remove(root, deb))
    if "image" in parts:
        step("image", "it is small, nobody's, and serves on a read-only root", lambda: _image(arguments))
    return results.close()


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=pathlib.Path, required=True)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--cache", type=pathlib.Path, default=REPO / "target" / "packages")
    parser.add_argument("--engine", choices=["own", "machine"], default="own")
    parser.add_argument("--only", choices=PARTS, action="append")
    arguments = parser.parse_args()
    arguments.packages = arguments.packages.resolve()
    arguments.cache = arguments.cache.resolve()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    return arguments


def _run(*words, **options):
    done = subprocess.run(
        [str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=STEP_S, check=False, **options,
    )
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, words))}: exit {done.returncode}: {done.stdout.strip()[-2000:]}")
    return done.stdout


def _only(folder, pattern):
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{folder}: {len(found)} files like {pattern}, not one")
    return found[0]


def _tar(path):
    with tempfile.TemporaryDirectory(prefix="odradek-tar-") as scratch:
        _run("tar", "--extract", "--file", path, "--directory", scratch)
        (tree,) = pathlib.Path(scratch).iterdir()
        binary = tree / "odradek"
        if "statically linked" not in _run("file", "-b", binary) and "static-pie" not in _run("file", "-b", binary):
            raise Failure("the binary is not static")
        for name in ("LICENSE", "odradek.service", "server.properties", "completions/odradek.bash"):
            if not (tree / name).stat().st_size:
                raise Failure(f"{name} is empty")
        _manual(sorted((tree / "man").iterdir()))
        with _broker([binary, "start", "--data-dir", f"{scratch}/data"], "auto", pathlib.Path(scratch) / "log"):
            _scenario([binary])


@contextlib.contextmanager
def _debian(cache):
    """A small Debian of the machine's release, unpacked anew; how it is made once is kept."""
    tar = cache / "debian.tar"
    if not tar.exists():
        release = dict(line.split("=", 1) for line in _run("cat", "/etc/os-release").splitlines() if "=" in line)
        sources = [path for path in (pathlib.Path("/etc/apt/sources.list.d/debian.sources"),
                                     pathlib.Path("/etc/apt/sources.list")) if path.exists()]
        part = cache / "debian.part.tar"
        _run("mmdebstrap", "--quiet", "--variant=minbase", "--include=adduser", release["VERSION_CODENAME"], part, sources[0])
        part.rename(tar)
    with tempfile.TemporaryDirectory(prefix="odradek-debian-") as root:
        _run("tar", "--extract", "--file", tar, "--directory", root, "--exclude=./dev/*")
        (pathlib.Path(root) / "dev" / "null").touch()
        os.chmod(root, 0o755)
        yield pathlib.Path(root)


def _contents(deb):
    _run("dpkg-deb", "--info", deb)
    files = []
    for line in _run("dpkg-deb", "--contents", deb).splitlines():
        mode, owner, _, _, _, name = line.split(maxsplit=5)
        if owner != "root/root":
            raise Failure(f"{name} is of {owner}")
        if not mode.startswith("d"):
            files.append(name.removeprefix("./"))
    pages = {name for name in files if name.startswith(MANUAL)}
    if set(files) - pages != set(FILES):
        raise Failure(f"it holds {sorted(files)}")
    with tempfile.TemporaryDirectory(prefix="odradek-deb-") as scratch:
        _run("dpkg-deb", "--extract", deb, scratch)
        _manual([pathlib.Path(scratch) / page for page in sorted(pages)])


def _manual(pages):
    """A page for each command: those that the pages themselves name, and no others."""
    texts = {}
    for page in pages:
        text = gzip.decompress(page.read_bytes()) if page.suffix == ".gz" else page.read_bytes()
        texts[page.name.removesuffix(".gz").removesuffix(".1")] = text.decode()
    named, left = {"odradek"}, ["odradek"]
    while left:
        text = texts.get(left.pop(), "").replace("\\-", "-")
        found = set(re.findall(r"^(odradek[a-z-]+)\(1\)$", text, re.MULTILINE)) - named
        named |= found
        left += found
    if not {"odradek-start", "odradek-topic-consume", "odradek-perf-end-to-end"} <= named or named != set(texts):
        raise Failure(f"pages and commands differ in {sorted(named ^ set(texts))}; pages name {len(named)} commands")


def _install(root, deb):
    shutil.copy(deb, root / "odradek.deb")
    _run("chroot", root, "dpkg", "--install", "/odradek.deb")
    user = _run("chroot", root, "getent", "passwd", "odradek").strip().split(":")
    if user[2] == "0" or not user[-1].endswith("nologin"):
        raise Failure(f"the user is {user}")
    if _run("chroot", root, "stat", "-c", "%U:%G %a", "/var/lib/odradek").strip() != "odradek:odradek 750":
        raise Failure("its folder is not its user's")


def _verify(root):
    said = _run("systemd-analyze", "verify", f"--root={root}", "--man=no", "--recursive-errors=no", f"/{UNIT}")
    lines = [line for line in said.splitlines() if "odradek" in line]
    if lines:
        raise Failure("; ".join(lines))


@contextlib.contextmanager
def _broker(words, driver, log):
    words = [*words, "--driver", driver, "--listen", f"127.0.0.1:{PORT}", "--set", "admin.listen=none"]
    with open(log, "w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
            start_new_session=True,
        )
        try:
            ready = process.stdout.readline()
            if not ready.startswith("ready "):
                raise Failure(f"not ready: {log.read_text(encoding='utf-8')[-2000:]}")
            if driver != "auto" and f"driver={driver}" not in ready:
                raise Failure(f"another driver: {ready}")
            yield
            os.killpg(process.pid, signal.SIGTERM)
            if process.wait(timeout=READY_S) != 0:
                raise Failure(f"exit {process.returncode}: {log.read_text(encoding='utf-8')[-2000:]}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _scenario(odradek):
    broker = ["--bootstrap-server", f"127.0.0.1:{PORT}"]
    topic = f"topic-{time.monotonic_ns()}"
    _run(*odradek, "topic", "create", topic, "--partitions", "3", *broker)
    done = subprocess.run([str(word) for word in [*odradek, "topic", "produce", topic, *broker]], input="one\ntwo\n",
                          text=True, capture_output=True, timeout=READY_S, check=False)
    if done.returncode != 0:
        raise Failure(done.stderr)
    read = _run(*odradek, "topic", "consume", topic, *broker).split()
    if sorted(read) != ["one", "two"]:
        raise Failure(f"{read} was read")


def _serve(root, cache, driver):
    """As the unit has it: everything is read-only but the state's folder, and nobody is root."""
    calls = cache / f"calls-{driver}.txt"
    isolate = (
        'mount --bind "$0" "$0" && mount --bind "$0/var/lib/odradek" "$0/var/lib/odradek" && '
        'mount -t proc proc "$0/proc" && mount -o remount,ro,bind "$0" && cd "$0" && exec "$@"'
    )
    words = [
        "unshare", "--mount", "sh", "-c", isolate, root, "strace", "-f", "-qq", "-e", "signal=none", "-o", calls,
        "chroot", "--userspec=odradek:odradek", root, "/usr/bin/odradek", "start", "--config",
        "/etc/odradek/server.properties",
    ]
    with _broker(words, driver, cache / f"unit-{driver}.log"):
        owners = {path.owner_uid for path in _processes(root)}
        if owners != {int(_run("chroot", root, "id", "-u", "odradek"))}:
            raise Failure(f"it runs as {owners}")
        _scenario(["chroot", root, "/usr/bin/odradek"])
    if not any((root / "var/lib/odradek/data").iterdir()):
        raise Failure("nothing was written to its folder")
    text = calls.read_text(encoding="utf-8", errors="replace")
    made = _calls(text)
    if "PROT_WRITE|PROT_EXEC" in text:
        raise Failure("memory is written and executed, which MemoryDenyWriteExecute does not allow")
    missing = made - _allowed((root / UNIT).read_text(encoding="utf-8"))
    if missing:
        raise Failure(f"the unit does not allow {sorted(missing)}")
    if driver == "uring" and "io_uring_enter" not in made:
        raise Failure("strace has not seen the broker")


def _processes(root):
    class Process:
        def __init__(self, uid):
            self.owner_uid = uid

    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(path / "exe") == str(root / "usr/bin/odradek"):
                yield Process(path.stat().st_uid)


def _calls(text):
    """The names of the calls that the broker made, from its execve on."""
    _, _, after = text.partition('execve("/usr/bin/odradek"')
    return set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed)", after, re.MULTILINE)) - {"resumed"}


def _allowed(unit):
    """What the unit's SystemCallFilter lines leave, in their order, as systemd reads them."""
    allowed = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE):
        names = set()
        for word in line.removeprefix("~").split():
            names |= _group(word) if word.startswith("@") else {word}
        allowed = allowed - names if line.startswith("~") else allowed | names
    # systemd adds what every process needs to get as far as its execve.
    return allowed | _group("@default")


def _group(name):
    names = set()
    for line in _run("systemd-analyze", "syscall-filter", "--no-pager", name).splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            names |= _group(word) if word.startswith("@") else {word}
    return names


def _remove(root, deb):
    settings = root / "etc/odradek/server.properties"
    altered = settings.read_text(encoding="utf-8") + "num.partitions=3\n"
    settings.write_text(altered, encoding="utf-8")
    _run("chroot", root, "dpkg", "--install", "/odradek.deb")
    if settings.read_text(encoding="utf-8") != altered:
        raise Failure("the altered settings are gone")
    _run("chroot", root, "dpkg", "--remove", "odradek")
    if not settings.exists() or (root / "usr/bin/odradek").exists():
        raise Failure("a removal leaves the settings and nothing else")
    _run("chroot", root, "dpkg", "--purge", "odradek")
    if settings.exists() or not any((root / "var/lib/odradek/data").iterdir()):
        raise Failure("a purge leaves the records and nothing else")


def _image(arguments):
    version = _only(arguments.packages, "odradek-*-musl.tar.gz").name.split("-")[1]
    said = _run(
        "python3", REPO / "tests/docker/run.py", "--binary", arguments.packages / "tree/odradek", "--engine",
        arguments.engine, "--save", arguments.packages / f"odradek-{version}-image.tar.gz",
    )
    print(said, end="")


if __name__ == "__main__":
    sys.exit(main())
