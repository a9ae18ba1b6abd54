"""What one node needs to serve: an immutable, numbered value that is swapped whole.

A snapshot is made by the controller from the desired topology and from the addresses that nodes announced.
`Destination.members` are addresses that exist now; a destination may be empty (every request then gets
503, every connection is closed) while its tier is starting.
"""

import attrs

from tierlb.model.address import Address
from tierlb.model.topology import Kind, Limits, Match, Policy, Redirect, Respond, Timeouts


@attrs.frozen
class Member:
    """A child node or an endpoint that this node may send to.

    `name` is stable across restarts (`web-2`, `app/127.0.0.1:9001`); `target` is the tier or pool it belongs to.
    `proxy_protocol`: open each connection with a PROXY protocol v2 header (l4 parent to tierlb child).
    """

    name: str
    target: str
    address: Address
    proxy_protocol: bool = False


@attrs.frozen
class Destination:
    """Members that are chosen from together, with the weight of this part in its action's split."""

    weight: float
    targets: tuple[str, ...]
    members: tuple[Member, ...]


@attrs.frozen
class Send:
    """The resolved form of a topology's `Forward`."""

    destinations: tuple[Destination, ...]


@attrs.frozen
class Rule:
    """The resolved form of a topology's `Route`."""

    match: Match
    action: Send | Respond | Redirect


@attrs.frozen
class Listener:
    """A socket the node opens.

    With `accept_from` (CIDR networks) connections from elsewhere are closed at once. `proxy_protocol`: each
    connection must open with a PROXY v2 header; the port is for l4 parents only. `inner`: the peers are parents,
    so what they say of the client (X-Forwarded-*, request id) is believed. A `shared` port (SO_REUSEPORT) is
    opened by several nodes of one host.
    """

    address: Address
    proxy_protocol: bool = False
    inner: bool = False
    shared: bool = False
    accept_from: tuple[str, ...] = ()


@attrs.frozen
class Snapshot:
    """One node's configuration at `revision`."""

    revision: int
    cluster: str
    tier: str
    kind: Kind
    listeners: tuple[Listener, ...]
    rules: tuple[Rule, ...]
    balance: Policy = Policy.LEAST_REQUESTS
    trusted_peers: tuple[str, ...] = ()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
