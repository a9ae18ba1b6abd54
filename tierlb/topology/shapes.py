"""The topology file's shape: one attrs class per mapping in it, in the file's own words.

The converter structures these and the JSON Schema is made from them, so a key exists in both or in neither.
They hold what the file says and nothing else: a key that is not given is None, defaults are the model's.
`EXACTLY_ONE` and its neighbours and the `l7_only` mark say what one class alone cannot.
"""

from typing import Any

import attrs

from tierlb.model.topology import Admin, ClientAbort, Kind, Orca, Paths, Policy
from tierlb.topology.forms import (
    ApiHost,
    Body,
    BodyRate,
    Command,
    ConnectionCount,
    ContentType,
    Cpus,
    DnsName,
    EjectedShare,
    Endpoint,
    ErrorCount,
    FileName,
    FixedListen,
    HashHeader,
    HashSource,
    HeaderCount,
    HeaderName,
    HeadSize,
    Host,
    HostField,
    Image,
    JoinByThemselves,
    Listen,
    Location,
    Memory,
    Method,
    Name,
    Network,
    Off,
    Port,
    QueryName,
    RedirectStatus,
    Replicas,
    ResultCount,
    Seconds,
    Size,
    Status,
    StatusRange,
    StoreUrl,
    Switch,
    Target,
    TcpCheck,
    UrlPath,
    UrlPrefix,
    UserName,
    Wanted,
    Weight,
)

RESOURCES = "what each container may use, in compose and Kubernetes; under `tierlb up` processes share the machine"

To = Name | tuple[Name, ...] | dict[Name, Weight]


def required(about: str, *, l7_only: bool = False) -> Any:
    """A key that must be given."""
    return attrs.field(metadata={"about": about, "l7_only": l7_only})


def optional(about: str, *, l7_only: bool = False) -> Any:
    """A key that may be left out, and is None then."""
    return attrs.field(default=None, metadata={"about": about, "l7_only": l7_only})


@attrs.frozen(kw_only=True)
class AdminTlsShape:
    certificate: FileName = required("PEM file of the certificate that the admin API shows")
    key: FileName = required("PEM file of its private key, without a passphrase")


@attrs.frozen(kw_only=True)
class AdminShape:
    listen: Listen = required("HOST:PORT of the controller's API and dashboard (default 127.0.0.1:7900)")
    hosts: tuple[ApiHost, ...] | None = optional(
        "names and addresses by which other machines call it, such as lb.internal, without ports"
    )
    tls: AdminTlsShape | None = optional("serve it by https; files beside this one")


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
    body_rate: BodyRate | None = optional(
        "bytes a second that a request body must bring over 10 s of reading (default 240), else 408; off: any rate",
        l7_only=True,
    )


@attrs.frozen(kw_only=True)
class MatchShape:
    path: UrlPath | None = optional("the whole path, without the query")
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
    location: Location = required(
        "URL to go to; may hold {scheme}, {host}, {hostname}, {path} and {query}; the query is kept if it has none"
    )
    status: RedirectStatus | None = optional("301, 302, 303, 307 or 308 (default 308)")


@attrs.frozen(kw_only=True)
class RouteShape:
    match: MatchShape | None = optional("conditions that must all hold; left out: every request")
    to: To | None = optional("a tier or pool, a list of them (all together), or a mapping of name to share")
    respond: RespondShape | None = optional("answer here with a fixed response")
    redirect: RedirectShape | None = optional("answer here with a redirect")


@attrs.frozen(kw_only=True)
class HashOnShape:
    header: HashHeader = required("the header field whose value is hashed", l7_only=True)


@attrs.frozen(kw_only=True)
class ResourcesShape:
    cpus: Cpus | None = optional("cores, such as 0.5")
    memory: Memory | None = optional("such as 256MiB")


@attrs.frozen(kw_only=True)
class TierShape:
    kind: Kind = required("what the tier balances: connections (l4) or requests (l7)")
    listen: Listen | None = optional("HOST:PORT for clients; inner tiers need none")
    replicas: Replicas | None = optional("number of nodes (default 1)")
    balance: Policy | None = optional("how a node chooses among members (default load-aware)")
    hash_on: HashSource | HashOnShape | None = optional(
        "with balance maglev: what keeps a client at its member, source (its address, the default) or {header: NAME}"
    )
    to: To | None = optional("a tier or pool, a list of them (all together), or a mapping of name to share")
    routes: tuple[RouteShape, ...] | None = optional("the first that matches a request decides", l7_only=True)
    orca: Orca | None = optional("add the node's load to each response, as text, json or bin", l7_only=True)
    agent_check: FixedListen | None = optional("HOST:PORT where the node answers HAProxy's agent-check")
    trusted_peers: tuple[Network, ...] | None = optional("networks whose X-Forwarded-* fields are kept", l7_only=True)
    paths: Paths | None = optional(
        "normalised (the default: the normal form of a path is matched and forwarded) or as-sent", l7_only=True
    )
    client_abort: ClientAbort | None = optional(
        "what becomes of a request whose client left while it waited: cancel (the default) or finish", l7_only=True
    )
    timeouts: TimeoutsShape | None = optional("how long each phase may last, such as 250ms, 2s or 1m30s")
    limits: LimitsShape | None = optional("caps per node")
    drain: Seconds | None = optional(
        "how long requests and connections under way may go on at a node that is drained or stopped (default 30s)"
    )
    resources: ResourcesShape | None = optional(RESOURCES)


@attrs.frozen(kw_only=True)
class RunShape:
    command: Command = required("started once per replica; {port} is the port, {host} the host it is to listen on")
    replicas: Replicas | None = optional("number of processes (default 1)")
    image: Image | None = optional("container image that has the command (default tierlb's own)")
    resources: ResourcesShape | None = optional(RESOURCES)


@attrs.frozen(kw_only=True)
class OutlierShape:
    consecutive_errors: ErrorCount | None = optional(
        "5xx answers, resets, cut or late answers in a row that eject; more while others fail too (default 5)"
    )
    consecutive_gateway_errors: ErrorCount | None = optional(
        "the same without 5xx answers; fewer than consecutive_errors (default no threshold of their own)"
    )
    success_rate: Switch | None = optional(
        "false: do not eject endpoints whose success rate is far below the mean of five or more (default true)"
    )
    interval: Seconds | None = optional(
        "how often success rates are compared, and how far back the others' errors count (default 10s)"
    )
    base_ejection: Seconds | None = optional("how long the first ejection lasts; each doubles it up to 5m (default 5s)")
    max_ejected: EjectedShare | None = optional("the part of the pool that may be out at once (default 50%)")


@attrs.frozen(kw_only=True)
class HealthShape:
    path: Target | None = optional("GET this, with a query if need be; left out: a TCP connect is enough")
    host: HostField | None = optional("the request's Host field (default the endpoint's address)")
    interval: Seconds | None = optional("from one check to the next (default 2s)")
    timeout: Seconds | None = optional("how long a check may take (default 1s, or the interval if that is shorter)")
    healthy: ResultCount | None = optional("good results in a row that make an endpoint healthy again (default 2)")
    unhealthy: ResultCount | None = optional("bad results in a row that make an endpoint unhealthy (default 3)")
    status: StatusRange | tuple[StatusRange, ...] | None = optional(
        "the statuses that are good: one, a range such as 200-299, or a list of these (default 200-399)"
    )
    outlier: Off | OutlierShape | None = optional(
        "when endpoints whose answers fail are left out for a while, or off; alone in health it starts no checks"
    )


@attrs.frozen(kw_only=True)
class AgentsShape:
    networks: tuple[Network, ...] = required(
        "where applications may be, besides the address that their agent joins from, such as 10.0.0.0/8"
    )


@attrs.frozen(kw_only=True)
class EndpointShape:
    weight: Weight | None = optional("its share beside the others (default 1); 0: nothing is sent there")
    admin: Admin | None = optional(
        "drain: nothing new is sent there; maintenance: it is not checked either, and what is left is cut after the "
        "drain time (default ready)"
    )


@attrs.frozen(kw_only=True)
class PoolShape:
    endpoints: tuple[Endpoint, ...] | dict[Endpoint, Weight | EndpointShape] | None = optional(
        "HOST:PORT of each endpoint: a list, or a mapping to weights (0: nothing is sent there) or to weight and admin"
    )
    run: RunShape | None = optional("start and supervise the endpoints on this machine")
    agents: JoinByThemselves | AgentsShape | None = optional(
        "true: endpoints join by themselves with `tierlb agent`; or a mapping that says where they may be"
    )
    dns: DnsName | None = optional(
        "NAME:PORT, each of whose addresses is an endpoint, or a name of SRV records such as _http._tcp.api.internal"
    )
    overrides: dict[Endpoint, Weight | EndpointShape] | None = optional(
        "what is wanted of single endpoints that are found in DNS, by HOST:PORT: a weight, or weight and admin"
    )
    health: TcpCheck | HealthShape | None = optional("check each endpoint: tcp, or how; and outlier detection")
    agent_check: Port | None = optional("port where each endpoint's host answers HAProxy's agent-check")


@attrs.frozen(kw_only=True)
class TlsShape:
    certificate: FileName = required("PEM file of the certificate that nodes and controller show each other")
    key: FileName = required("PEM file of its private key, without a passphrase")
    ca: FileName = required("PEM file of the authorities one of which must have signed the other end's certificate")


@attrs.frozen(kw_only=True)
class SecurityShape:
    tls: TlsShape = required("TLS with certificates of both ends, for the control channel; files beside this one")


@attrs.frozen(kw_only=True)
class StoreShape:
    etcd: StoreUrl = required("etcd://HOST:PORT,HOST:PORT/PREFIX, or etcds://... with TLS")
    ca: FileName | None = optional("PEM file of who signed etcd's certificate (default whom the machine trusts)")
    certificate: FileName | None = optional("PEM file of the certificate that etcd is shown")
    key: FileName | None = optional("PEM file of its private key, without a passphrase")
    user: UserName | None = optional("who logs in; needs to read and write what is below PREFIX/CLUSTER/")
    password_file: FileName | None = optional("file with the user's password, in one line")


@attrs.frozen(kw_only=True)
class FileShape:
    cluster: Name = required("the cluster's name")
    admin: AdminShape | None = optional("where the controller listens")
    store: StoreUrl | StoreShape | None = optional(
        "where controllers of several machines keep all this: etcd://HOST:PORT,HOST:PORT/PREFIX, or a mapping for TLS "
        "and users (default a directory)"
    )
    security: SecurityShape | None = optional("how the cluster's own connections are protected")
    tiers: dict[Name, TierShape] = required("the tiers of balancers, by name")
    pools: dict[Name, PoolShape] | None = optional("the pools of endpoints, by name")


EXACTLY_ONE: dict[type, tuple[str, ...]] = {
    TierShape: ("to", "routes"),
    RouteShape: ("to", "respond", "redirect"),
    PoolShape: ("endpoints", "run", "agents", "dns"),
}
"""Of these keys a mapping holds one, no more and no less."""

AT_MOST_ONE: dict[type, tuple[str, ...]] = {
    MatchShape: ("path", "path_prefix"),
    PoolShape: ("agents", "agent_check"),
}

NEEDS: dict[type, dict[str, str]] = {
    PoolShape: {"overrides": "dns"},
    HealthShape: {"host": "path", "status": "path"},
    StoreShape: {"certificate": "key", "key": "certificate", "user": "password_file", "password_file": "user"},
}
"""Keys that say nothing without another."""

TLS_ONLY: dict[type, tuple[str, ...]] = {StoreShape: ("ca", "certificate", "key")}
"""Keys that say nothing where the URL is without TLS."""
