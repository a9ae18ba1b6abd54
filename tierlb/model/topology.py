"""What the topology file says, once it has been read and found right.

These are the values of the *desired* cluster: names, shapes and limits. They hold no port that was
allocated, no process and no health. `topology/` makes them from text and is the only maker; everything
after it may rely on them (every name resolves, there is no cycle, every duration is positive).
"""

import enum

import attrs

from tierlb.model.address import Address

DRAIN_S = 30.0
"""The drain time of a tier that names none: long enough for nearly all answers, and what container engines grant."""


class Kind(enum.Enum):
    """What a tier balances: connections (l4) or requests (l7)."""

    L4 = "l4"
    L7 = "l7"


class Policy(enum.Enum):
    """How a node chooses among the members of a destination."""

    LOAD_AWARE = "load-aware"
    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    LEAST_REQUESTS = "least-requests"
    TWO_CHOICES = "two-choices"
    WEIGHTED = "weighted"
    PEAK_EWMA = "peak-ewma"
    MAGLEV = "maglev"


class Admin(enum.Enum):
    """What an operator wants of a member; apart from what is observed of it (its health).

    READY: gets its share. DRAIN: nothing new, what runs finishes. MAINTENANCE: nothing at all, not even checks.
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
    """What becomes of a request's path before routes are looked up, and is forwarded.

    NORMALISED: its normal form; one that servers read in different ways is refused where a route could be passed by
    with it. AS_SENT: nothing is changed and nothing refused.
    """

    NORMALISED = "normalised"
    AS_SENT = "as-sent"


class ClientAbort(enum.Enum):
    """What becomes of a request whose client left while it waited: CANCEL it at the endpoint, or FINISH it."""

    CANCEL = "cancel"
    FINISH = "finish"


@attrs.frozen
class HealthCheck:
    """How a pool's endpoints are checked: GET `path` must answer with one of `statuses` (inclusive ranges); without a
    path a TCP connect is enough. `healthy` and `unhealthy`: so many results in a row change an endpoint's health."""

    path: str | None = None
    host: str | None = None
    interval_s: float = 2.0
    timeout_s: float = 1.0
    healthy: int = 2
    unhealthy: int = 3
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)


@attrs.frozen
class OutlierDetection:
    """When an endpoint whose answers fail is left out for a while; by names of Envoy's outlier detection.

    `consecutive_errors`: 5xx answers, resets, cut or late answers in a row; `consecutive_gateway_errors`: the same
    without the answers (None: no threshold of their own). `success_rate`: compare those of five or more endpoints once
    in `interval_s`. `base_ejection_s` doubles with each ejection; `max_ejected` (0..1) of a pool may be out at once.
    """

    consecutive_errors: int = 5
    consecutive_gateway_errors: int | None = None
    success_rate: bool = True
    interval_s: float = 10.0
    base_ejection_s: float = 5.0
    max_ejected: float = 0.5


@attrs.frozen
class Tls:
    """Files in PEM form for the control channel. Both ends show `certificate` and demand one that `ca` signed."""

    certificate: str
    key: str
    ca: str


@attrs.frozen
class AdminTls:
    """Files in PEM form for the admin API, which shows the certificate and asks for none."""

    certificate: str
    key: str


@attrs.frozen
class SharedStore:
    """The etcd that several controllers keep the file in while the cluster runs. `url`: etcd:// or, with TLS, etcds://,
    then HOST:PORT[,HOST:PORT…][/PREFIX]. `ca`: who signed its certificate (None: whom the machine trusts);
    `certificate` and `key` are shown to it, `user` is who logs in. What a file name is given for is read from there."""

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
        """Those that are named, by their keys in the topology file."""
        named = {key: getattr(self, key) for key in ("ca", "certificate", "key", "password_file")}
        return {key: name for key, name in named.items() if name is not None}


@attrs.frozen
class Share:
    """One part of a weighted split: `weight` parts of the items go to the members of all `targets` together."""

    weight: float
    targets: tuple[str, ...]


@attrs.frozen
class Forward:
    """Send on to tiers or pools. One share unless the file gives a weighted split."""

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


@attrs.frozen
class Match:
    """Conditions on a request that must all hold; an empty match holds for every request.

    `hosts` are lower-case names, `*.example.com` matches any name below example.com. `path_prefix` matches whole
    segments (`/api` matches `/api` and `/api/x`, not `/apix`). `headers` and `query` map a name to the value
    it must have, or to None where presence is enough; header names are lower case.
    """

    path: str | None = None
    path_prefix: str | None = None
    hosts: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[tuple[str, str | None], ...] = ()
    query: tuple[tuple[str, str | None], ...] = ()


@attrs.frozen
class Route:
    """The first route whose match holds decides what happens to a request."""

    match: Match
    action: Action


@attrs.frozen
class Timeouts:
    """How long each phase may last, in seconds. `head` and `response` are for l7 tiers only.

    head: first byte of a request head to its last · idle: a kept-alive connection between requests (l7), no byte
    either way (l4) · connect: to a member · response: request sent to response head · stream: no byte of a body.
    """

    head: float = 10.0
    idle: float = 75.0
    connect: float = 2.0
    response: float = 60.0
    stream: float = 60.0


@attrs.frozen
class Limits:
    """Caps per node. All but `connections` are for l7 tiers only; `body` None means any length. A request body has
    to bring `body_rate` bytes a second; 0 means any rate."""

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
    """A set of interchangeable nodes. An l4 tier has exactly one route, with an empty match, that forwards."""

    name: str
    kind: Kind
    routes: tuple[Route, ...]
    listen: Address | None = None
    replicas: int = 1
    balance: Policy = Policy.LOAD_AWARE
    hash_header: str | None = None
    """For maglev: the header field (lower case) that is hashed; None hashes the client's address."""
    orca: Orca | None = None
    """Add this node's own load to every response, for a parent that reads ORCA."""
    agent_check: Address | None = None
    """Answer HAProxy's agent-check here."""
    trusted_peers: tuple[str, ...] = ()
    """Networks in CIDR form whose X-Forwarded-* and request id are kept; parents always are."""
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    drain_s: float = DRAIN_S
    """How long what is under way may go on at a node that is drained, replaced or stopped."""
    resources: Resources = Resources()
    paths: Paths = Paths.NORMALISED
    client_abort: ClientAbort = ClientAbort.CANCEL

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
    """What an operator wants of one endpoint, whatever else is known of it. `weight`: None leaves it as it is."""

    address: Address
    weight: float | None = None
    admin: Admin = Admin.READY


@attrs.frozen
class Pool:
    """A named group of interchangeable endpoints: listed, started by `run`, joining by themselves (`agents`), or found
    in DNS, by a host name with a port or by the name of SRV records (`dns`).

    `weights` are parallel to `endpoints` (empty: all equal) and count under every policy; 0: nothing is sent there.
    `overrides`: endpoints that are wanted otherwise than as they are listed, or found in DNS. `agent_check_port`: each
    endpoint's host answers HAProxy's agent-check there. `networks` (CIDR): where applications of agents may be, besides
    the address that the agent joins from. `outlier`: None where it is off.
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


@attrs.frozen
class Topology:
    """The whole file. Mappings keep the file's order. `store`: what keeps it while the cluster runs; None: a
    directory of the controller's machine."""

    cluster: str
    tiers: dict[str, Tier]
    pools: dict[str, Pool]
    admin: Address = Address("127.0.0.1", 7900)
    admin_hosts: tuple[str, ...] = ()
    """Under which the admin API is called from elsewhere: names in lower case, and addresses."""
    admin_tls: AdminTls | None = None
    tls: Tls | None = None
    store: SharedStore | None = None

    def parents(self, name: str) -> tuple[Tier, ...]:
        """The tiers that send to the tier or pool `name`."""
        return tuple(tier for tier in self.tiers.values() if name in tier.targets)
