"""`tierlb explain TIER`: which routes a connection takes through l4 tiers, by the file that the cluster runs.

Nothing is sent but a request to the admin API. The comparison is the one that nodes make (dataplane/l4/routes.py). What
is not given of the connection is asked for where a route depends on it.
"""

import json
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

import attrs
import click

from tierlb.cli.client import Where
from tierlb.cli.explain import WIDE
from tierlb.cli.printable import printable
from tierlb.cli.status import ask_admin
from tierlb.dataplane.l4.routes import ConnectionMatch
from tierlb.model.address import Transport
from tierlb.model.topology import Forward, Kind, Route, Tier, Topology
from tierlb.topology.load import load_text
from tierlb.topology.problems import nearest
from tierlb.topology.tree import match_text
from tierlb.wire.client_hello import NO_HELLO, ClientHello, Verdict, normal_server_name


@attrs.frozen
class ConnectionAsked:
    """The connection that is asked about. `source` and `port` are None where they are not given."""

    sni: str = ""
    alpn: tuple[str, ...] = ()
    source: str | None = None
    port: int | None = None

    @property
    def hello(self) -> ClientHello:
        """What its client sends first."""
        return ClientHello(Verdict.WHOLE, normal_server_name(self.sni), self.alpn) if self._is_tls else NO_HELLO

    @property
    def _is_tls(self) -> bool:
        return bool(self.sni or self.alpn)

    def words(self) -> str:
        """For people."""
        told = [f"sni {self.sni}"] if self.sni else []
        told += [f"alpn {', '.join(self.alpn)}"] if self.alpn else []
        told += [] if self._is_tls else ["without a ClientHello"]
        told += [f"from {self.source}"] if self.source else []
        return ", ".join(told + ([f"to port {self.port}"] if self.port else []))


@attrs.frozen
class RouteTaken:
    """The route at one tier: its position (None: the connection has none), its conditions, and what it leads to."""

    tier: str
    route: int | None
    match: str
    to: tuple[str, ...] = ()


def run_explain_route(tier: str, asked: ConnectionAsked, admin_url: Where, as_json: bool) -> None:
    """Print the routes. Raises a UsageError where more must be given, or the tier is none of l4."""
    answer = ask_admin(admin_url, "GET", "/v1/topology", frozenset({"text"}))
    topology = load_text(answer["text"], str(answer.get("file") or "FILE"))
    asked = _checked(topology, tier, asked)
    taken = list(routes_taken(topology, tier, asked))
    if as_json:
        click.echo(json.dumps({"connection": attrs.asdict(asked), "routes": [attrs.asdict(each) for each in taken]}))
    else:
        _print_routes(topology, asked, taken)


def _checked(topology: Topology, name: str, asked: ConnectionAsked) -> ConnectionAsked:
    tier = topology.tiers.get(name)
    if tier is None:
        guess = nearest(name, list(topology.tiers))
        advice = f" (did you mean {guess!r}?)" if guess else ": write a URL, /PATH or the name of an l4 tier"
        raise click.UsageError(f"no tier named {name!r}{advice}")
    if tier.kind is not Kind.L4:
        raise click.UsageError(f"{name} is an l7 tier, which routes requests: write the URL of one, or /PATH")
    if tier.protocol is Transport.UDP and (asked.sni or asked.alpn):
        raise click.UsageError(f"{name} takes datagrams: --sni and --alpn are for tiers over TCP")
    if asked.source is not None:
        try:
            asked = attrs.evolve(asked, source=str(ip_address(asked.source)))
        except ValueError:
            raise click.UsageError(f"--source {asked.source}: write an IP address") from None
    ports = {each.address.port for each in tier.listen if each.address.port}
    return attrs.evolve(asked, port=ports.pop()) if asked.port is None and len(ports) == 1 else asked


def routes_taken(topology: Topology, name: str, asked: ConnectionAsked) -> Iterator[RouteTaken]:
    """The route at the tier, then those at the l4 tiers that it leads to, each once. Raises a UsageError where more
    must be known."""
    waiting, seen = [name], set[str]()
    while waiting:
        tier = topology.tiers.get(waiting.pop(0))
        if tier is not None and tier.kind is Kind.L4 and tier.name not in seen:
            seen.add(tier.name)
            taken = _route_at(tier, asked)
            yield taken
            waiting += taken.to


def _route_at(tier: Tier, asked: ConnectionAsked) -> RouteTaken:
    for position, route in enumerate(tier.routes):
        if _takes(tier.name, position, route, asked):
            return RouteTaken(tier.name, position, match_text(route.match), _targets(route))
    return RouteTaken(tier.name, None, "")


def _takes(tier: str, position: int, route: Route, asked: ConnectionAsked) -> bool:
    wanted = route.match
    missing = ["--port"] if wanted.ports and asked.port is None else []
    missing += ["--source"] if wanted.sources and asked.source is None else []
    known = (
        wanted
        if not missing
        else attrs.evolve(
            wanted,
            ports=wanted.ports if asked.port is not None else (),
            sources=wanted.sources if asked.source is not None else (),
        )
    )
    match = ConnectionMatch(known)
    source = asked.source or "0.0.0.0"  # noqa: S104 (compared only where it is given)
    if not (match.holds_for_address(source, asked.port or 0) and match.holds_for_hello(asked.hello)):
        return False
    if missing:
        words = f"routes[{position}] of {tier} ({match_text(wanted)})"
        raise click.UsageError(f"{words} depends on what is not given: add {' and '.join(missing)}")
    return True


def _targets(route: Route) -> tuple[str, ...]:
    action = route.action
    shares = action.shares if isinstance(action, Forward) else ()
    return tuple(dict.fromkeys(target for share in shares if share.weight > 0 for target in share.targets))


def _print_routes(topology: Topology, asked: ConnectionAsked, taken: Sequence[RouteTaken]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(Text(printable(f"A connection {asked.words()}"), "bold"))
    for each in taken:
        tier = topology.tiers[each.tier]
        console.print(Text(f"\n{tier.name} · {tier.kind.value}", "bold"))
        for position, route in enumerate(tier.routes):
            mark, style = ("▸", "green") if position == each.route else (" ", "")
            words = f"{mark} routes[{position}]  {match_text(route.match)} → {', '.join(_targets(route)) or 'nothing'}"
            console.print(Text(printable(words), style))
        if each.route is None:
            console.print(Text("no route takes it: the connection is closed", "yellow"))
