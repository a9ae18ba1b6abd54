"""`tierlb explain`: one real request, and how each tier chose a host for it.

The admin API makes a nonce known to all nodes, the request carries it, and the response carries every choice made for
it. Nodes get a nonce some ms later and do not confirm it: a request whose explanation has gaps is sent again, a few
times. One that could change something (POST and so on) is sent once, after all that time.
"""

import socket
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import attrs
import click

from tierlb.cli.choices import ChoiceTrace, as_plain, trace_of, trace_table
from tierlb.cli.client import Where, admin_place
from tierlb.cli.printable import printable
from tierlb.cli.rows import counts_connections
from tierlb.cli.status import ask_admin, fetch_status
from tierlb.model.address import Address, read_address

NONCE_FIELD = "X-Tierlb-Explain"
ATTEMPTS = 10
"""The admin API takes a tenth of a second for each, so a second in all."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
WITH_LENGTH = frozenset({"POST", "PUT", "PATCH"})
"""Their requests have no body here, and must declare that (RFC 9110 §8.6)."""
EXPLAIN_CONNECT_S = 5.0
EXPLAIN_ANSWER_S = 60.0
WIDE = 500
"""Characters a line has in a file."""
MAX_EXPLAINED_HEAD_BYTES = 256 * 1024
IN_TARGETS = "!$%&'()*+,-./:;=?@_~"
"""Besides letters and digits, what stays as it was typed; the rest is percent-encoded."""


@attrs.frozen
class TierEntry:
    """The tier that takes the request, and where. `secured`: clients speak TLS there."""

    tier: str
    address: Address
    secured: bool = False


@attrs.frozen
class Question:
    """The request but for its nonce; `url` is for people."""

    url: str
    method: str
    target: str
    fields: tuple[tuple[str, str], ...]

    def with_nonce(self, nonce: str) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """Method, target and fields."""
        return self.method, self.target, (*self.fields, (NONCE_FIELD, nonce))


@attrs.frozen
class Answer:
    """What of the response is shown."""

    status: int
    reason: str
    lines: tuple[str, ...]


def run_explain(url: str, admin_url: Where, headers: Sequence[str], method: str, as_json: bool) -> None:
    """Ask, and print what was found; exits with 1 if a tier gave no explanation."""
    admin_place(admin_url)
    given = tuple(map(_header_field, headers))
    status = fetch_status(admin_url)
    entry = find_entry(status, url, admin_url)
    question = ask_for(url, entry, method.upper(), given)
    answer, way = _explained(admin_url, status, entry, question)
    if as_json:
        _print_json(question, answer, way)
    elif way.choices:
        _print(question, answer, way)
    if way.missing is not None:
        raise click.ClickException(
            f"{question.url} answered {answer.status}, but {printable(way.missing)} did not explain its choice: "
            f"is it connected to its parents and the controller? See `tierlb status --admin {admin_url}`"
        )


def find_entry(status: dict[str, Any], url: str, admin_url: Where) -> TierEntry:
    """The tier that the URL means: the one at its host and port, or the first that listens and has HTTP to explain.

    Raises a UsageError for a URL that leads elsewhere, a ClickException where only connections are balanced.
    """
    tiers = status["tiers"]
    public = {name: places for name in tiers if (places := public_places(status, name, "tcp"))}
    if not public:
        raise _tcp_only(public)
    speaking = {name: places for name, places in public.items() if not counts_connections(name, tiers)}
    if url.startswith("/"):
        if not speaking:
            raise _tcp_only(public)
        name = next(iter(speaking))
        address = next((each for each in public[name] if not _is_secured(tiers[name], each)), public[name][0])
    else:
        host, port = _url_place(url)
        hosts = resolved_hosts(host)
        found = ((n, a) for n, places in public.items() for a in places if a.port == port and _is_at(a, hosts))
        name, address = next(found, ("", Address("", 0)))
        if not name:
            known = ", ".join(f"{each} ({name})" for name, places in public.items() for each in places)
            raise click.UsageError(f"{url}: this cluster does not listen there, but at {known}")
        if name not in speaking:
            raise _tcp_only({name: public[name]})
    return TierEntry(name, entry_address(address, admin_place(admin_url)[0]), secured=_is_secured(tiers[name], address))


def _is_secured(tier: dict[str, Any], address: Address) -> bool:
    """Whether clients speak TLS there."""
    return any(address in read_address(each).bound for each in tier.get("tls", ()))


def public_places(status: dict[str, Any], name: str, protocol: str) -> list[Address]:
    """Where the tier listens for this protocol, but for unix sockets."""
    tier = status["tiers"][name]
    if tier.get("protocol", "tcp") != protocol:
        return []
    listed = (read_address(each) for each in tier["listen"])
    return [address for each in listed if not each.is_unix for address in each.bound]


def ask_for(url: str, entry: TierEntry, method: str, given: Sequence[tuple[str, str]]) -> Question:
    """The request for this URL, or path, with the fields given. Raises a UsageError for what is no HTTP."""
    scheme = "https" if entry.secured else "http"
    parts = urlsplit(f"{scheme}://{entry.address}{url}" if url.startswith("/") else url)
    if parts.scheme != scheme:
        raise click.UsageError(f"{url}: clients speak {'TLS' if entry.secured else 'no TLS'} there: write {scheme}://")
    target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=IN_TARGETS)
    names = {name.lower() for name, _ in given}
    usual = [("Host", parts.netloc.rpartition("@")[2]), ("User-Agent", "tierlb-explain"), ("Accept", "*/*")]
    usual += [("Connection", "close")]
    usual += [("Content-Length", "0")] if method in WITH_LENGTH and "transfer-encoding" not in names else []
    fields = (*((name, value) for name, value in usual if name.lower() not in names), *given)
    question = Question(f"{scheme}://{parts.netloc}{target}", method, target, fields)
    from tierlb.net.http_client import demand_request

    try:
        demand_request(*question.with_nonce("nonce"))
    except ValueError as error:
        raise click.UsageError(f"that is not an HTTP request without a body: {error}") from error
    return question


def ask_with_nonce(address: Address, question: Question, nonce: str) -> Answer:
    """Send it on a new connection and read the head of the answer; its body is not read."""
    import trio

    from tierlb.net.http_client import BadAnswer, CutAnswer

    try:
        return trio.run(_ask_on_stream, address, question, nonce)
    except CutAnswer as error:
        raise click.ClickException(f"{question.url} closed the connection without an answer") from error
    except BadAnswer as error:
        raise click.ClickException(f"{question.url} does not answer as HTTP does: {error}") from error
    except trio.TooSlowError as error:
        raise click.ClickException(f"{question.url} did not answer in time") from error
    except (OSError, trio.BrokenResourceError) as error:
        reason = getattr(error, "strerror", None) or _tls_reason(error) or error
        raise click.ClickException(f"{question.url} cannot be reached: {reason}") from error


def _tls_reason(error: BaseException) -> str:
    """Why TLS failed, if it did. Where a client must show a certificate the reason is the server's, and comes late."""
    from tierlb.net.client_tls import handshake_reason

    cause = error.__cause__
    if not isinstance(cause, ssl.SSLError):
        return ""
    reason = handshake_reason(cause)
    demanded = "certificate required" in reason or "alert handshake failure" in reason  # of TLS 1.3, and of 1.2
    advice = "; where clients must show a certificate (client_ca), explain cannot ask, as it shows none"
    return f"the TLS handshake failed: {reason}{advice if demanded else ''}"


async def _ask_on_stream(address: Address, question: Question, nonce: str) -> Answer:
    import trio

    from tierlb.net.http_client import HttpConnection
    from tierlb.net.self_connect import open_stream

    with trio.fail_after(EXPLAIN_CONNECT_S):
        stream = await open_stream(address.host, address.port)
    with trio.fail_after(EXPLAIN_ANSWER_S):
        async with _secured(stream, question) as stream:
            head = await HttpConnection(stream, MAX_EXPLAINED_HEAD_BYTES).ask(*question.with_nonce(nonce))
    return Answer(head.status, head.reason, head.values(NONCE_FIELD))


def _secured(stream: Any, question: Question) -> Any:
    """The stream, over TLS for an https URL. The certificate is not verified: the address is from the controller."""
    parts = urlsplit(question.url)
    if parts.scheme != "https":
        return stream
    import trio

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return trio.SSLStream(stream, context, server_hostname=parts.hostname, https_compatible=True)


def _explained(
    admin_url: Where, status: dict[str, Any], entry: TierEntry, question: Question
) -> tuple[Answer, ChoiceTrace]:
    for attempt in range(1, ATTEMPTS + 1):
        nonce = str(ask_admin(admin_url, "POST", "/v1/explain", frozenset({"nonce"}))["nonce"])
        if question.method not in SAFE and attempt < ATTEMPTS:
            continue
        answer = ask_with_nonce(entry.address, question, nonce)
        way = trace_of(status, entry.tier, answer.lines)
        if way.missing is None:
            break
    return answer, way


def _print(question: Question, answer: Answer, way: ChoiceTrace) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    by = f" from {way.by}" if way.by else ""
    outcome = f"{answer.status} {answer.reason}".strip() + by
    console.print(
        Text(f"{question.method} {printable(question.url)}\n", "bold"),
        trace_table(way),
        Text(f"\n{printable(outcome)}"),
    )


def _print_json(question: Question, answer: Answer, way: ChoiceTrace) -> None:
    import json

    asked = {"method": question.method, "url": question.url}
    click.echo(json.dumps({**asked, "status": answer.status, "reason": answer.reason, **as_plain(way)}, indent=2))


def _header_field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"-H {text!r}: write it as 'Name: value'")
    return name.strip(), value.strip()


def _url_place(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise click.UsageError(f"{url}: write it as http://HOST:PORT/PATH (or https://), or /PATH alone")
    return host, port


def resolved_hosts(host: str) -> set[str]:
    """Its addresses. Raises a ClickException where it has none."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise click.ClickException(f"{host}: {error.strerror or error}") from error


def _is_at(address: Address, hosts: set[str]) -> bool:
    return address.host in hosts or is_wildcard(address)


def is_wildcard(address: Address) -> bool:
    """Whether it is every address of a machine."""
    return address.host in ("0.0.0.0", "::")  # noqa: S104 (a comparison)


def entry_address(address: Address, admin_host: str) -> Address:
    """A tier that listens on every interface of a machine listens at the address of its admin API, too."""
    if not is_wildcard(address):
        return address
    hosts = sorted(resolved_hosts(admin_host), key=lambda host: (":" in host) is not (":" in address.host))
    return Address(hosts[0], address.port)


def _tcp_only(places: dict[str, list[Address]]) -> click.ClickException:
    names = " and ".join(f"{name} ({', '.join(map(str, each))})" for name, each in places.items())
    carries = f"{names} carries plain TCP" if names else "this cluster carries datagrams"
    return click.ClickException(f"only HTTP can be explained, and {carries}: no l7 tier stands at or below it")
