"""The topology file as values, after it was read and checked.

These are the values of the *desired* cluster: names, shapes and limits. They contain no allocated port, no process and
no health. Only `topology/` makes them, from text; everything after it may rely on them (every name resolves, there is
no cycle, every duration is positive).
"""

import enum

import attrs

from tierlb.model.address import Address, Transport
from tierlb.model.listener import ProxyVersion, TierListener, as_listeners
from tierlb.model.tls import AdminTls, ListenerTls, PoolTls, Tls

AUTO = "auto"
DRAIN_S = 30.0
"""The default drain time: long enough for nearly all answers, and what container engines grant."""


class Kind(enum.Enum):
    """What a tier balances: connections (l4) or requests (l7)."""

    L4 = "l4"
    L7 = "l7"


class Policy(enum.Enum):
    """How a node chooses among the hosts of a destination."""

    LOAD_AWARE = "load-aware"
    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    LEAST_REQUESTS = "least-requests"
    TWO_CHOICES = "two-choices"
    WEIGHTED = "weighted"
    PEAK_EWMA = "peak-ewma"
    MAGLEV = "maglev"


class Admin(enum.Enum):
    """The admin state of a node or endpoint, set by an operator and independent of its observed health.

    READY: it gets its share. DRAIN: nothing new, what runs finishes. MAINTENANCE: nothing at all, not even checks.
    """

    READY = "ready"
    DRAIN = "drain"
    MAINTENANCE = "maintenance"


class Orca(enum.Enum):
    """The formats of the `endpoint-load-metrics` response field (xDS ORCA)."""

    TEXT = "text"
    JSON = "json"
    BIN = "bin"


class Paths(enum.Enum):
    """How a request's path is treated before routes are looked up and it is forwarded.

    NORMALISED: it is brought into normal form; a path that servers read in different ways is refused where it could
    bypass a route. AS_SENT: nothing is changed and nothing refused.
    """

    NORMALISED = "normalised"
    AS_SENT = "as-sent"


class ClientAbort(enum.Enum):
    """What happens to a request whose client disconnected while it waited: CANCEL it at the endpoint, or FINISH it."""

    CANCEL = "cancel"
    FINISH = "finish"


class ForwardedFields(enum.Enum):
    """The fields in which endpoints get a client's address, the protocol that it used and the host that it asked for:
    X-Forwarded-For, -Proto and -Host, Forwarded (RFC 7239), or both."""

    X_FORWARDED = "x-forwarded"
    RFC_7239 = "rfc7239"
    BOTH = "both"


class PoolProtocol(enum.Enum):
    """What the endpoints of a pool speak with l7 tiers: HTTP/1.1, HTTP/2 without TLS (H2C) or over TLS (H2), or over
    TLS whatever each connection agrees on (AUTO; ALPN, RFC 7301)."""

    HTTP1 = "http/1.1"
    H2C = "h2c"
    H2 = "h2"
    AUTO = "auto"


class Forwarding(enum.Enum):
    """How an l4 node gets connections to a host. AUTO: the cheapest way that is possible to that host. HANDOFF: the
    socket itself goes to a node on the same machine. RELAY: it connects, and copies bytes both ways. NFTABLES: the
    kernel forwards, by rules that the node sets; never by AUTO."""

    AUTO = "auto"
    HANDOFF = "handoff"
    RELAY = "relay"
    NFTABLES = "nftables"


@attrs.frozen
class HealthCheck:
    """How a pool's endpoints are checked: GET `path` must answer with one of `statuses` (inclusive ranges); without a
    path a TCP connect is enough. Or `grpc` is asked by the health service of gRPC: a service, "" for the whole server;
    None: it is not. `healthy` and `unhealthy`: how many results in a row change an endpoint's health."""

    path: str | None = None
    grpc: str | None = None
    host: str | None = None
    interval_s: float = 2.0
    timeout_s: float = 1.0
    healthy: int = 2
    unhealthy: int = 3
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)
    announces: ProxyVersion | None = None
    protocol: PoolProtocol | None = None
    """These two are as in `Pool`, for the nodes that check; None: no header, and HTTP/1.1."""


@attrs.frozen
class OutlierDetection:
    """When an endpoint whose answers fail is ejected; the names are those of Envoy's outlier detection.

    `consecutive_errors`: 5xx answers, resets, cut or late answers in a row; `consecutive_gateway_errors`: the same
    without the answers (None: no threshold of their own). `success_rate`: compare those of five or more endpoints once
    in `interval_s`. `base_ejection_s` doubles with each ejection; the part `max_ejected` (0..1) of a pool may be out at
    once.
    """

    consecutive_errors: int = 5
    consecutive_gateway_errors: int | None = None
    success_rate: bool = True
    interval_s: float = 10.0
    base_ejection_s: float = 5.0
    max_ejected: float = 0.5


@attrs.frozen
class SharedStore:
    """The etcd in which several controllers keep the file while the cluster runs. `url`: etcd:// or, with TLS,
    etcds://, then HOST:PORT[,HOST:PORT…][/PREFIX]. `ca`: the signer of its certificate (None: those that the machine
    trusts). `certificate` and `key` are presented to it, `user` logs in. Values that are file names are read from
    there."""

    url: str
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    user: str | None = None
    password_file: str | None = None

    @property
    def members(self) -> tuple[str, ...]:
        """HOST:PORT of each."""
        return tuple(self.url.partition("://")[2].partition("/")[0].split(","))

    @property
    def files(self) -> dict[str, str]:
        """The file names that are given, by their keys in the topology file."""
        named = {key: getattr(self, key) for key in ("ca", "certificate", "key", "password_file")}
        return {key: name for key, name in named.items() if name is not None}


@attrs.frozen
class Share:
    """One part of a weighted split: `weight` parts of the items go to the hosts of all `targets` together."""

    weight: float
    targets: tuple[str, ...]


@attrs.frozen
class Forward:
    """Forward to tiers or pools. One share unless the file gives a weighted split."""

    shares: tuple[Share, ...]


@attrs.frozen
class Respond:
    """Answer at this node with a fixed response."""

    status: int = 200
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"


@attrs.frozen
class Redirect:
    """Answer with a redirect. `location` may hold {scheme}, {host}, {hostname} (without the port), {path} and {query}
    of the request, whose query is kept if it holds none."""

    location: str
    status: int = 308


Action = Forward | Respond | Redirect


@attrs.frozen(cache_hash=True)  # l7 nodes hash it for every head that is new to them
class Match:
    """Conditions on a request or, at l4, on a connection, that must all hold; an empty match holds for each.

    `hosts` are lower-case names, `*.example.com` matches any name below example.com. `path_prefix` matches whole
    segments (`/api` matches `/api` and `/api/x`, not `/apix`). `headers` and `query` map a name to the value
    it must have, or to None where presence is enough; header names are lower case.

    At l4: `sni` are names as in `hosts`, `alpn` protocols of which the client offers one, `sources` networks in CIDR
    form with the client's address, `ports` those that the client connected to.
    """

    path: str | None = None
    path_prefix: str | None = None
    hosts: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[tuple[str, str | None], ...] = ()
    query: tuple[tuple[str, str | None], ...] = ()
    sni: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()

    @property
    def reads_hello(self) -> bool:
        """Whether it depends on the TLS ClientHello of the connection."""
        return bool(self.sni or self.alpn)


@attrs.frozen
class Route:
    """The first route whose match holds decides what happens to a request or, at l4, to a connection."""

    match: Match
    action: Action


@attrs.frozen
class Timeouts:
    """How long each phase may last, in seconds. `response` and `stream` are for l7 tiers only.

    head: first byte of a request head to its last; at l4, how long a route waits for a ClientHello · idle: a kept-alive
    connection between requests (l7), no byte either way (l4) · connect: to a host, over TCP · response: request sent to
    response head · stream: no byte of a body.
    """

    head: float = 10.0
    idle: float = 75.0
    connect: float = 2.0
    response: float = 60.0
    stream: float = 60.0


@attrs.frozen
class Limits:
    """Caps per node. All but `connections` are for l7 tiers only; `body` None means any length. A request body must
    arrive with `body_rate` bytes a second at least; 0 means any rate. Over UDP `connections` are sessions."""

    connections: int = 10_000
    head: int = 32 * 1024
    headers: int = 100
    body: int | None = None
    body_rate: int = 240


@attrs.frozen
class Resources:
    """What one container may use at most, in compose and Kubernetes; None: no limit. The processes of `tierlb up` share
    the machine."""

    cpus: float | None = None
    memory_bytes: int | None = None


@attrs.frozen
class Tier:
    """A set of interchangeable nodes. All routes of an l4 tier forward."""

    name: str
    kind: Kind
    routes: tuple[Route, ...]
    listen: tuple[TierListener, ...] = attrs.field(default=(), converter=as_listeners)
    replicas: int = 1
    per_core: bool = False
    """The file says `replicas: auto`: `replicas` is how many cores there were when it was read."""
    balance: Policy = Policy.LOAD_AWARE
    hash_header: str | None = None
    """For maglev: the header field (lower case) to hash; None hashes the client's address."""
    orca: Orca | None = None
    """Add this node's own load to every response, for a parent that reads ORCA."""
    agent_check: Address | None = None
    """The address at which the node answers HAProxy's agent-check."""
    trusted_peers: tuple[str, ...] = ()
    """Networks in CIDR form whose X-Forwarded-* and request id are kept; parents always are."""
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    drain_s: float = DRAIN_S
    """How long work in progress may last at a node that is drained, replaced or stopped."""
    resources: Resources = Resources()
    paths: Paths = Paths.NORMALISED
    client_abort: ClientAbort = ClientAbort.CANCEL
    forwarded: ForwardedFields = ForwardedFields.X_FORWARDED
    cpus: tuple[int, ...] | None = None
    """The CPUs that nodes run on, each on one; empty: those that the process is given anyway. None: on any."""
    forward: Forwarding = Forwarding.AUTO
    protocol: Transport = Transport.TCP
    """What an l4 tier takes and sends to its targets; l7 is HTTP over TCP."""
    responses: int | None = None
    """Over UDP: how many datagrams answer one of the client's, after which a session ends. None: not known."""
    tls: ListenerTls | None = None
    """What clients speak, at listeners without `tls` of their own and on connections that l4 parents give this tier."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of all tiers and pools this tier sends to, in the file's order, each once."""
        names: dict[str, None] = {}
        for route in self.routes:
            if isinstance(route.action, Forward):
                for share in route.action.shares:
                    names.update(dict.fromkeys(share.targets))
        return tuple(names)


@attrs.frozen
class Run:
    """Start the pool's endpoints: `{port}` in `command` becomes each replica's port, `{host}` where it is to listen
    (127.0.0.1, or every address of a container). `image`: the container image that has the command; None: tierlb's."""

    command: str
    replicas: int = 1
    image: str | None = None
    resources: Resources = Resources()


@attrs.frozen
class Override:
    """The settings of an operator for one endpoint. `weight`: None leaves it unchanged."""

    address: Address
    weight: float | None = None
    admin: Admin = Admin.READY


@attrs.frozen
class Pool:
    """A named group of interchangeable endpoints: listed, started by `run`, joined by themselves (`agents`), or found
    in DNS, by a host name with a port or by the name of SRV records (`dns`).

    `weights` are parallel to `endpoints` (empty: all equal) and apply to every policy; 0: nothing is sent there.
    `overrides`: the settings of operators for endpoints that are listed or found in DNS. `agent_check_port`: each
    endpoint's machine answers HAProxy's agent-check there. `networks` (CIDR): where applications of agents may be,
    besides the address that the agent joins from. `outlier`: None where it is off. `proxy_protocol`: the version of
    the header with which connections to its endpoints begin.
    """

    name: str
    endpoints: tuple[Address, ...] = ()
    weights: tuple[float, ...] = ()
    run: Run | None = None
    agents: bool = False
    networks: tuple[str, ...] = ()
    dns: str | None = None
    health: HealthCheck | None = None
    agent_check_port: int | None = None
    outlier: OutlierDetection | None = OutlierDetection()
    overrides: tuple[Override, ...] = ()
    tls: PoolTls | None = None
    protocol: PoolProtocol = PoolProtocol.HTTP1
    proxy_protocol: ProxyVersion | None = None


@attrs.frozen
class Topology:
    """The whole file. Mappings keep the file's order. `store`: where it is kept while the cluster runs; None: a
    directory of the controller's machine."""

    cluster: str
    tiers: dict[str, Tier]
    pools: dict[str, Pool]
    admin: Address = Address("127.0.0.1", 7900)
    admin_hosts: tuple[str, ...] = ()
    """The hosts under which the admin API is called from elsewhere: names in lower case, and addresses."""
    admin_tls: AdminTls | None = None
    tls: Tls | None = None
    store: SharedStore | None = None
    take_clients: frozenset[str] = frozenset()
    """In the middle of a change only: tiers whose inner ports take clients' connections already, or still, although no
    parent forwards them in the kernel."""

    def parents(self, name: str) -> tuple[Tier, ...]:
        """The tiers that send to the tier or pool `name`."""
        return tuple(tier for tier in self.tiers.values() if name in tier.targets)
