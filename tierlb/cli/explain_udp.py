"""`tierlb explain udp://HOST:PORT`: how each tier over UDP chooses a host for a new client, this one.

No endpoint takes part (wire/explain_datagram.py). A datagram that is lost, or comes before all nodes know the nonce,
is sent again, a few times.
"""

import json
import socket
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from tierlb.cli.choices import ChoiceTrace, as_plain, trace_of, trace_table
from tierlb.cli.client import Where, admin_place
from tierlb.cli.explain import WIDE, TierEntry, entry_address, is_wildcard, public_places, resolved_hosts
from tierlb.cli.printable import printable
from tierlb.cli.status import ask_admin, fetch_status
from tierlb.model.address import Address
from tierlb.wire.explain_datagram import choices_in, explain_question

UDP_SCHEME = "udp://"
DATAGRAMS = 5
FIRST_NONCES = 3
"""The admin API takes a tenth of a second for each, and a node that was never asked gets the first one late."""
EXPLAIN_DATAGRAM_S = 2.0
"""For one attempt: each tier takes less than a millisecond and the way between them."""
ANSWER_BYTES = 65536


def run_explain_udp(url: str, admin_url: Where, as_json: bool) -> None:
    """Ask, and print what was found; exits with 1 if a tier gave no explanation."""
    status = fetch_status(admin_url)
    entry = find_datagram_entry(status, url, admin_url)
    way = _asked_way(admin_url, status, entry)
    if as_json:
        click.echo(json.dumps({"url": url, **as_plain(way)}, indent=2))
    elif way.choices:
        _print_way(url, way)
    if way.missing is not None:
        raise click.ClickException(
            f"{printable(way.missing)} did not explain its choice: is it connected to its parents and the controller? "
            f"See `tierlb status --admin {admin_url}`"
        )


def find_datagram_entry(status: dict[str, Any], url: str, admin_url: Where) -> TierEntry:
    """The tier over UDP that listens there. Raises a UsageError where none does."""
    tiers = status["tiers"]
    public = [(name, address) for name in tiers for address in public_places(status, name, "udp")]
    host, _, port = url.removeprefix(UDP_SCHEME).rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        raise click.UsageError(f"{url}: write it as udp://HOST:PORT")
    hosts = resolved_hosts(host.strip("[]"))
    for name, address in public:
        if address.port == int(port) and (address.host in hosts or is_wildcard(address)):
            return TierEntry(name, entry_address(address, admin_place(admin_url)[0]))
    known = ", ".join(f"{address} ({name})" for name, address in public)
    advice = f"but at {known}" if known else "and nowhere: it has no tier with protocol: udp"
    raise click.UsageError(f"{url}: this cluster does not listen for datagrams there, {advice}")


def ask_with_datagram(address: Address, nonce: str) -> Sequence[str]:
    """The lines of the answer; none if there was none in time."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(EXPLAIN_DATAGRAM_S)
        try:
            sock.connect(address.sockaddr)
            sock.send(explain_question(nonce))
            return choices_in(sock.recv(ANSWER_BYTES), nonce) or ()
        except TimeoutError:
            return ()
        except OSError as error:
            raise click.ClickException(f"{address} cannot be reached: {error.strerror or error}") from error


def _asked_way(admin_url: Where, status: dict[str, Any], entry: TierEntry) -> ChoiceTrace:
    for _ in range(FIRST_NONCES):  # so that nodes have one before a datagram comes, which would reach an endpoint
        ask_admin(admin_url, "POST", "/v1/explain", frozenset({"nonce"}))
    for _ in range(DATAGRAMS):
        nonce = str(ask_admin(admin_url, "POST", "/v1/explain", frozenset({"nonce"}))["nonce"])
        way = trace_of(status, entry.tier, ask_with_datagram(entry.address, nonce))
        if way.missing is None:
            break
    return way


def _print_way(url: str, way: ChoiceTrace) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    outcome = f"\n{printable(way.endpoint)} would get it" if way.endpoint else "\nno endpoint would get it"
    console.print(Text(f"{printable(url)}\n", "bold"), trace_table(way), Text(outcome))
