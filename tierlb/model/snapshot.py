"""The configuration of one node: an immutable, numbered value that is swapped whole.

A snapshot is made by the controller from the desired topology and from the addresses that nodes announced.
`Destination.hosts` are addresses that exist now. A destination may be empty while its tier is starting: its items are
held for a moment (`dataplane.hold`), and then every request gets 503 and every connection is closed. Hosts of pools
that are looked up in DNS are not included: the node finds them by itself, so that they come and go without a
controller.
"""

import attrs

from tierlb.model.address import Address, Transport
from tierlb.model.listener import ProxyVersion
from tierlb.model.load import JSON_KEY
from tierlb.model.tls import ListenerTls, PoolTls
from tierlb.model.topology import (
    DRAIN_S,
    Admin,
    ClientAbort,
    ForwardedFields,
    Forwarding,
    HealthCheck,
    Kind,
    Limits,
    Match,
    Orca,
    OutlierDetection,
    Override,
    Paths,
    Policy,
    PoolProtocol,
    Redirect,
    Respond,
    Timeouts,
)


@attrs.frozen
class HostSpec:
    """A child node or an endpoint that this node may send to.

    `name` is stable across restarts (`web-2`, `app/127.0.0.1:9001`). `target` is its tier or pool. `child`: it is a
    node of this cluster, whose inner port takes a PROXY v2 header at the start of each connection. `leads_out`: a child
    that joins connections, some of them to endpoints, so that its data may come from an endpoint. `reports`: it sends
    load reports (nodes and agents do). `parents`: how many nodes send to it, this one included. `level`: it is used
    while no host of a lower level is available (priorities of SRV records). `direct`: it is a child whose inner port
    takes clients' connections too (`Listener`). `protocol`: what an endpoint speaks.
    """

    name: str
    target: str
    address: Address
    child: bool = False
    leads_out: bool = False
    reports: bool = False
    parents: int = 1
    weight: float = 1.0
    admin: Admin = Admin.READY
    level: int = 0
    direct: bool = False
    protocol: PoolProtocol = PoolProtocol.HTTP1
    announces: ProxyVersion | None = None
    """The version of the PROXY header with which an endpoint's connections begin."""


@attrs.frozen
class PoolSettings:
    """The settings of a pool besides its hosts.

    `dns`: where the node finds them. `parents` then applies to each of them, and `overrides` are used. `protocol`: what
    they speak.
    """

    name: str
    health: HealthCheck | None = None
    agent_check_port: int | None = None
    dns: str | None = None
    parents: int = 1
    outlier: OutlierDetection | None = OutlierDetection()
    overrides: tuple[Override, ...] = ()
    tls: PoolTls | None = None
    protocol: PoolProtocol = PoolProtocol.HTTP1
    announces: ProxyVersion | None = None


@attrs.frozen(order=True)
class FoundEndpoint:
    """An endpoint that was found in DNS. `level`: 0, or more for one in reserve (`HostSpec.level`)."""

    address: Address
    weight: float = 1.0
    level: int = 0


@attrs.frozen
class Destination:
    """Hosts among which a chooser chooses, with the weight of this part in its action's split."""

    weight: float
    targets: tuple[str, ...]
    hosts: tuple[HostSpec, ...] = attrs.field(metadata={JSON_KEY: "members"})


@attrs.frozen
class Send:
    """The resolved form of a topology's `Forward`."""

    destinations: tuple[Destination, ...]


@attrs.frozen
class Rule:
    """The resolved form of a topology's `Route`."""

    match: Match
    action: Send | Respond | Redirect


def process_name(node: str, boot_id: str) -> str:
    """The name of one process of a node. A node has two while one takes over from the other."""
    return f"{node}/{boot_id}"


@attrs.frozen
class Listener:
    """A socket that the node opens.

    With `accept_from` (CIDR networks) connections from elsewhere are closed at once. `inner`: the peers are parents,
    and each connection must start with a PROXY v2 header that names the parent and proves that it belongs to the
    cluster; over UDP the first datagram of a session does. With `direct` clients come there too, without a header, by
    way of a parent that forwards in the kernel. A `shared` port (SO_REUSEPORT) is opened by several nodes of one
    machine.
    """

    address: Address
    inner: bool = False
    shared: bool = False
    accept_from: tuple[str, ...] = ()
    protocol: Transport = Transport.TCP
    direct: bool = False
    mode: int | None = None
    """The permissions of a unix socket; None: what the umask leaves."""
    spare: bool = False
    """It is left out where the machine has no IPv6: the tier listens at all addresses of both families."""
    redirect_https: int = 0
    """Each request is answered with a redirect to the same URL by https at this port; 0: none is."""
    announced_from: tuple[str, ...] = ()
    """From these networks (CIDR) each connection has to begin with a PROXY header, which is believed."""
    tls: ListenerTls | None = None
    """What clients speak that connect here. On connections from parents it is the snapshot's."""


@attrs.frozen
class Snapshot:
    """One node's configuration. `revision` distinguishes the snapshots of one controller, for the control channel
    alone; `accepted` is the revision of the history that it carries out, which is the number that operators see.

    `parents` are the processes (`process_name`) through which connections may come, at l4 also those above its parents:
    a connection through a process that is no longer among them is closed after its response. `admin`: the admin state
    of this node itself. In drain it closes all kept connections in the same way, and cuts what is left after `drain_s`.
    """

    revision: int
    cluster: str
    tier: str
    kind: Kind
    listeners: tuple[Listener, ...]
    rules: tuple[Rule, ...]
    balance: Policy = Policy.LOAD_AWARE
    hash_header: str | None = None
    orca: Orca | None = None
    agent_check: Address | None = None
    pools: tuple[PoolSettings, ...] = ()
    trusted_peers: tuple[str, ...] = ()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    parents: tuple[str, ...] = ()
    data_key: str = attrs.field(default="", repr=False)
    """The secret that this node and its neighbours show each other on the data path; "" keeps the one before."""
    admin: Admin = Admin.READY
    accepted: int = 0
    paths: Paths = Paths.NORMALISED
    drain_s: float = DRAIN_S
    client_abort: ClientAbort = ClientAbort.CANCEL
    forward: Forwarding = Forwarding.AUTO
    protocol: Transport = Transport.TCP
    """What an l4 node takes and sends; the same as that of its listeners."""
    responses: int | None = None
    cpus: tuple[int, ...] | None = None
    """As in `Tier`. They are the tier's; the node knows which of them is for it."""
    tls: ListenerTls | None = None
    """What clients speak whose connections parents give this node; at its listeners it is theirs."""
    kernel_parents: tuple[str, ...] = ()
    """Those of `parents` that forward in the kernel: nothing names them on the connections of their clients."""

    parent_tiers: tuple[str, ...] = ()
    """The tiers whose nodes connect to the inner port. Where data connections are secured they have to prove it."""

    forwarded: ForwardedFields = ForwardedFields.X_FORWARDED
    """As in `Tier`."""

    @property
    def kernel_parent_names(self) -> frozenset[str]:
        """Their nodes."""
        return frozenset(process.partition("/")[0] for process in self.kernel_parents)
