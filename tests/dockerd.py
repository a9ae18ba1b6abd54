"""A docker engine of a test's own, in a network namespace of its own, and an image for it without a registry.

Bridges, addresses and packet filters that the engine makes vanish with the namespace; images and containers are in a
directory of the test. The thread that enters `engine` is inside of the namespace until it leaves, so the sockets it
makes reach what containers publish; for commands there is `Docker.run`.

No image can be fetched where tests run. So the base is made of this machine's own Python, the libraries it needs and a
shell, and with it come the packages that pip asks for in a build, fetched beforehand. From there on everything is as
with an image from a registry: compose/Dockerfile does not know the difference.
"""

import contextlib
import ctypes
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import threading
import tomllib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from tests.builds import TESTED
from tests.processes import ROOT, Process, running

NEEDED = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "docker-compose": "docker-compose",
    "nsenter": "util-linux",
    "ip": "iproute2",
}
START_S = 40.0
LOOK_EVERY_S = 0.2
THREADS_S = 20.0
COMMAND_S = 180.0
BUILD_S = 1200.0
"""The build of an image; compiling takes minutes where other tests run."""
CLONE_NEWNET = 0x40000000
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
PROGRAMS = ("sh", "mkdir", "chown", "ls", "cat", "sleep")
HEADERS = {"arpa", "asm-generic", "linux", "net", "netinet", "sys", sysconfig.get_config_var("MULTIARCH")}
"""Directories of the C library's and the kernel's headers."""
STUBS = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1")
"""Libraries that are part of libc now, and that wheels for older ones still name."""
LIBRARY = re.compile(r"(/\S+) \(0x")
LEFT_OUT = re.compile(r"/(site-packages|test|tests|idlelib|tkinter|turtledemo|__pycache__|config-[^/]*)(/|$)|\.a$")
BASE, IMAGE = "tierlb-test-base", "tierlb:test"
COMPILES = TESTED == "compiled"
"""Whether the image is made as by default, with machine code; else it is Python, which takes two minutes less."""
OFFLINE = b"[global]\nno-index = true\nfind-links = /wheels\ndisable-pip-version-check = true\n"

_libc = ctypes.CDLL(None, use_errno=True)


@attrs.frozen
class Docker:
    """The engine, as seen by its clients. `pid` is in its namespace."""

    socket: Path
    pid: int

    @property
    def env(self) -> dict[str, str]:
        """For its clients; without anybody's own plugins and settings."""
        return {**os.environ, "PATH": PATH, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": "/nonexistent"}

    def argv(self, argv: Sequence[str]) -> list[str]:
        """A command line for the same inside of the namespace."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *argv]

    def run(
        self, *argv: str, cwd: Path = ROOT, check: bool = True, within_s: float = COMMAND_S
    ) -> "subprocess.CompletedProcess[str]":
        """Run it there to its end; what it says is in the failure if it fails."""
        done = subprocess.run(self.argv(argv), cwd=cwd, env=self.env, capture_output=True, text=True, timeout=within_s)
        assert not check or done.returncode == 0, f"{argv}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done

    async def arun(self, *argv: str, cwd: Path = ROOT, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """The same, while others go on."""
        return await trio.to_thread.run_sync(partial(self.run, *argv, cwd=cwd, check=check))


def demand() -> None:
    """Skip, saying so, where there can be no engine."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: a docker engine needs root")
    for program, package in NEEDED.items():
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"NOT TESTED: {program} is not installed (apt-get install {package})")


@contextlib.contextmanager
def engine(directory: Path) -> Iterator[Docker]:
    """`demand` first. Skips, saying so, where it does not start."""
    data, socket, log = directory / "data", directory / "sock", directory / "dockerd.log"
    argv = ["dockerd", f"--data-root={data}", f"--exec-root={directory / 'exec'}", f"--pidfile={directory / 'pid'}"]
    try:
        with _network_of_our_own(), running([*argv, f"--host=unix://{socket}"], log, {"PATH": PATH}) as process:
            docker = Docker(socket, process.pid)
            _wait(docker, process, log)
            yield docker
            _end_containers(docker)
    finally:
        for namespace in (directory / "exec" / "netns").glob("*"):  # of a daemon that could not tidy up
            subprocess.run(["umount", namespace], capture_output=True, timeout=COMMAND_S)
        shutil.rmtree(data, ignore_errors=True)


def base(directory: Path) -> Path:
    """What the image is built on, as an archive; before the engine, in whose namespace there is no way out. Skips,
    saying so, where the packages in it cannot be had."""
    wheels = directory / "wheels"
    compilers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["tierlb"]["compilers"]
    needed = [".", "hatchling", *(compilers if COMPILES else ())]
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", f"--dest={wheels}", *needed]
    fetched = subprocess.run(fetch, cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_S)
    if fetched.returncode != 0:
        pytest.skip(f"NOT TESTED: no image without a way to PyPI: {fetched.stderr.strip()[-300:]}")
    archive = directory / "base.tar"
    with tarfile.open(archive, "w") as tar:
        _add_python(tar)
        if COMPILES:
            _add_compiler(tar, directory)
        _add_programs(tar)
        tar.add(wheels, "wheels")
        _add_text(tar, "etc/pip.conf", OFFLINE)
        _add_text(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        _add_text(tar, "etc/group", b"root:x:0:\n")
        _add_directory(tar, "tmp", 0o1777)
    return archive


def build(docker: Docker, archive: Path) -> None:
    """IMAGE, as a user builds it, but that one base serves for both stages."""
    docker.run("docker", "import", "--change=ENV PATH=/usr/local/bin:/usr/bin:/bin", str(archive), BASE)
    settings = {"BASE": BASE, "BUILD": BASE, "TIERLB_COMPILE": str(int(COMPILES))}
    options = [f"--build-arg={name}={value}" for name, value in settings.items()]
    docker.run("docker", "build", "--file=compose/Dockerfile", f"--tag={IMAGE}", *options, ".", within_s=BUILD_S)


@contextlib.contextmanager
def _network_of_our_own() -> Iterator[None]:
    """This thread is in a new network namespace, which goes with the last process in it."""
    with open("/proc/thread-self/ns/net") as before:
        _check(_libc.unshare(CLONE_NEWNET))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=COMMAND_S, env={"PATH": PATH})
            yield
        finally:
            _check(_libc.setns(before.fileno(), CLONE_NEWNET))
            _wait_alone(os.fstat(before.fileno()).st_ino)


def _wait_alone(network: int) -> None:
    """Until no thread is left that was begun in there: trio keeps those that are idle for ten seconds, and a test that
    came after would be given one."""
    for _ in range(int(THREADS_S / LOOK_EVERY_S)):
        if all(_network_of(thread) in (network, None) for thread in Path("/proc/self/task").iterdir()):
            return
        threading.Event().wait(LOOK_EVERY_S)
    raise AssertionError("a thread stays in the network of the engine")


def _network_of(thread: Path) -> int | None:
    """None if it has just ended."""
    try:
        return (thread / "ns" / "net").stat().st_ino
    except FileNotFoundError:
        return None


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _wait(docker: Docker, process: "Process[bytes]", log: Path) -> None:
    for _ in range(int(START_S / LOOK_EVERY_S)):
        if docker.run("docker", "version", check=False).returncode == 0:
            return
        try:
            process.wait(LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            continue
        break
    pytest.skip(f"NOT TESTED: dockerd does not start here: {log.read_text()[-600:]}")


def _end_containers(docker: Docker) -> None:
    if left := docker.run("docker", "ps", "--all", "--quiet").stdout.split():
        docker.run("docker", "rm", "--force", "--volumes", *left)


def _add_python(tar: tarfile.TarFile) -> None:
    standard = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))
    program = Path(sys.executable).resolve()
    tar.add(standard, f"usr/local/lib/{standard.name}", filter=_taken)
    tar.add(program, "usr/local/bin/python3")
    bundled = Path("/usr/share/python-wheels")  # where Debian has those of ensurepip
    if bundled.is_dir():
        tar.add(bundled, str(bundled).lstrip("/"))
    _add_libraries(tar, [program, *standard.rglob("lib-dynload/*.so")])


def _add_compiler(tar: tarfile.TarFile, directory: Path) -> None:
    """gcc, Python's headers, and what a library is linked with, as the linker lists it."""
    source = directory / "empty.c"
    source.touch()
    link = ["gcc", "-shared", "-pthread", "-Wl,-t", str(source), "-o", str(directory / "empty.so")]
    linked = {os.path.normpath(line) for line in _said(*link).splitlines() if line.startswith("/usr")}
    parts = [Path(_said("gcc", f"-print-prog-name={name}")) for name in ("cc1", "collect2", "lto-wrapper")]
    parts += [Path(_said("gcc", f"-print-file-name={name}")) for name in ("liblto_plugin.so", "include")]
    linked |= {os.path.normpath(_said("gcc", f"-print-file-name={name}")) for name in STUBS}
    headers = (each for each in Path("/usr/include").iterdir() if each.is_file() or each.name in HEADERS)
    for path in (*sorted(linked), *parts, *headers):
        tar.add(Path(path).resolve(), str(path).lstrip("/"))
    programs = [Path(shutil.which(name, path=PATH) or name).resolve() for name in ("gcc", "as", "ld")]
    for name, program in zip(("gcc", "as", "ld"), programs, strict=True):
        tar.add(program, f"usr/bin/{name}")
    include = Path(sysconfig.get_path("include"))
    tar.add(include, f"usr/local/include/{include.name}")
    _add_libraries(tar, [*programs, parts[0], parts[1]])


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMMAND_S).stdout.strip()


def _add_programs(tar: tarfile.TarFile) -> None:
    found = [Path(shutil.which(name, path=PATH) or name).resolve() for name in PROGRAMS]
    for name, program in zip(PROGRAMS, found, strict=True):
        tar.add(program, f"bin/{name}")
    _add_libraries(tar, found)


def _add_libraries(tar: tarfile.TarFile, programs: Sequence[Path]) -> None:
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, timeout=COMMAND_S).stdout
    needed = {library.lstrip("/"): library for library in LIBRARY.findall(listed)}
    for name in sorted(needed.keys() - set(tar.getnames())):
        tar.add(Path(needed[name]).resolve(), name)


def _taken(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if LEFT_OUT.search(member.name) else member


def _add_text(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))


def _add_directory(tar: tarfile.TarFile, name: str, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    tar.addfile(member)
