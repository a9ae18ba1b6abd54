"""The topology file's shape: one attrs class per mapping in it, in the file's own words.

The converter structures these and the JSON Schema is made from them, so a key exists in both or in neither.
They hold what the file says and nothing else: a key that is not given is None, defaults are the model's.
`EXACTLY_ONE` and the `l7_only` mark say what one class alone cannot.
"""

from typing import Any

import attrs

from tierlb.model.topology import Kind, Policy
from tierlb.topology.forms import (
    Body,
    Command,
    ConnectionCount,
    ContentType,
    Endpoint,
    HeaderCount,
    HeaderName,
    HeadSize,
    Host,
    Listen,
    Location,
    Method,
    Name,
    Network,
    QueryName,
    RedirectStatus,
    Replicas,
    Seconds,
    Size,
    Status,
    UrlPath,
    UrlPrefix,
    Wanted,
    Weight,
)

To = Name | tuple[Name, ...] | dict[Name, Weight]


def required(about: str) -> Any:
    """A key that must be given."""
    return attrs.field(metadata={"about": about})


def optional(about: str, *, l7_only: bool = False) -> Any:
    """A key that may be left out, and is None then."""
    return attrs.field(default=None, metadata={"about": about, "l7_only": l7_only})


@attrs.frozen(kw_only=True)
class AdminShape:
    listen: Listen = required("HOST:PORT of the controller's API and dashboard (default 127.0.0.1:7900)")


@attrs.frozen(kw_only=True)
class TimeoutsShape:
    head: Seconds | None = optional("from the first byte of a request head to its last", l7_only=True)
    idle: Seconds | None = optional("a kept-alive connection between requests; at l4, no byte either way")
    connect: Seconds | None = optional("connecting to a child or endpoint")
    response: Seconds | None = optional("from the request sent to the response head", l7_only=True)
    stream: Seconds | None = optional("no byte of a body either way", l7_only=True)


@attrs.frozen(kw_only=True)
class LimitsShape:
    connections: ConnectionCount | None = optional("open connections per node")
    head: HeadSize | None = optional("bytes of a request head, such as 32KiB", l7_only=True)
    headers: HeaderCount | None = optional("fields in a request head", l7_only=True)
    body: Size | None = optional("bytes of a request body, such as 10MB; any length if left out", l7_only=True)


@attrs.frozen(kw_only=True)
class MatchShape:
    path: UrlPath | None = optional("the whole path, as sent")
    path_prefix: UrlPrefix | None = optional("whole leading segments: /api matches /api and /api/x, not /apix")
    host: Host | tuple[Host, ...] | None = optional("a host name, *.example.com for all below it, or a list")
    method: Method | tuple[Method, ...] | None = optional("a request method or a list of them")
    headers: dict[HeaderName, Wanted] | None = optional("header name to value; no value: it is present")
    query: dict[QueryName, Wanted] | None = optional("query field to value; no value: it is present")


@attrs.frozen(kw_only=True)
class RespondShape:
    status: Status | None = optional("status code, 200 to 599 (default 200)")
    body: Body | None = optional("the text to answer with")
    content_type: ContentType | None = optional("media type of the body (default text/plain; charset=utf-8)")


@attrs.frozen(kw_only=True)
class RedirectShape:
    location: Location = required("URL to go to; may hold {scheme}, {host}, {path} and {query}")
    status: RedirectStatus | None = optional("301, 302, 303, 307 or 308 (default 308)")


@attrs.frozen(kw_only=True)
class RouteShape:
    match: MatchShape | None = optional("conditions that must all hold; left out: every request")
    to: To | None = optional("a tier or pool, a list of them (all together), or a mapping of name to share")
    respond: RespondShape | None = optional("answer here with a fixed response")
    redirect: RedirectShape | None = optional("answer here with a redirect")


@attrs.frozen(kw_only=True)
class TierShape:
    kind: Kind = required("what the tier balances: connections (l4) or requests (l7)")
    listen: Listen | None = optional("HOST:PORT for clients; inner tiers need none")
    replicas: Replicas | None = optional("number of nodes (default 1)")
    balance: Policy | None = optional("how a node chooses among members (default least-requests)")
    to: To | None = optional("a tier or pool, a list of them (all together), or a mapping of name to share")
    routes: tuple[RouteShape, ...] | None = optional("the first that matches a request decides", l7_only=True)
    trusted_peers: tuple[Network, ...] | None = optional("networks whose X-Forwarded-* fields are kept", l7_only=True)
    timeouts: TimeoutsShape | None = optional("how long each phase may last, such as 250ms, 2s or 1m30s")
    limits: LimitsShape | None = optional("caps per node")


@attrs.frozen(kw_only=True)
class RunShape:
    command: Command = required("started once per replica, {port} is the port it is to listen on")
    replicas: Replicas | None = optional("number of processes (default 1)")


@attrs.frozen(kw_only=True)
class PoolShape:
    endpoints: tuple[Endpoint, ...] | None = optional("HOST:PORT of each endpoint")
    run: RunShape | None = optional("start and supervise the endpoints on this machine")


@attrs.frozen(kw_only=True)
class FileShape:
    cluster: Name = required("the cluster's name")
    admin: AdminShape | None = optional("where the controller listens")
    tiers: dict[Name, TierShape] = required("the tiers of balancers, by name")
    pools: dict[Name, PoolShape] | None = optional("the pools of endpoints, by name")


EXACTLY_ONE: dict[type, tuple[str, ...]] = {
    TierShape: ("to", "routes"),
    RouteShape: ("to", "respond", "redirect"),
    PoolShape: ("endpoints", "run"),
}
"""Of these keys a mapping holds one, no more and no less."""

AT_MOST_ONE: dict[type, tuple[str, ...]] = {MatchShape: ("path", "path_prefix")}
