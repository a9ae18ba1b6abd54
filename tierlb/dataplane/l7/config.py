"""The configuration of an l7 front: one value, compiled from a snapshot and swapped by one assignment.

Whatever the hot path asks of a snapshot is worked out here once. Exchanges look at the configuration that is in force
when they ask, so a response may end under other limits than its request began with.
"""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Final

from tierlb.balance.drain import grace_s
from tierlb.balance.hashing import stable_hash
from tierlb.dataplane.l7.client_identity import ClientIdentity, is_in
from tierlb.dataplane.l7.max_forwards import FinalRecipient
from tierlb.dataplane.l7.plan import PlanBook, RequestPlan
from tierlb.dataplane.l7.reply import ReplyBook
from tierlb.dataplane.parent_identity import ParentIdentity
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.dataplane.upstream.split import Split
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Policy, Redirect, Respond
from tierlb.net import peer_liveness
from tierlb.wire.proxy_protocol import encode_local

RuleAction = HostSet | Split | Respond | Redirect | FinalRecipient
"""What a rule does, or at the end the node that is the final recipient (`plan.RequestPlan.rule`)."""


class Hashing:
    """What consistent hashing goes by: a header field if the tier names one and the request has it, else the address of
    the client."""

    __slots__ = ("_header",)

    def __init__(self, header: str | None) -> None:
        self._header = header.encode() if header else None

    def key(self, plan: RequestPlan, identity: ClientIdentity) -> int:
        if self._header is not None and (value := plan.head.get(self._header)) is not None:
            return stable_hash(value)
        named = plan.head.get(b"x-forwarded-for") if identity.trusted else None
        return stable_hash(named.partition(b",")[0].strip() if named else identity.address)


class FrontConfig:
    """`books` are the plans for clients, by `ClientIdentity.book`. `identity` is what nodes of the
    cluster show each other, and `preface` is sent first to a child node. `hashing` is None unless the tier balances by
    consistent hashing. `quiet_s`: how long a host may owe a response before a look at it is due. `times_hosts`: the
    policy uses the times of responses."""

    __slots__ = (
        "_actions",
        "_networks",
        "books",
        "draining",
        "hashing",
        "identity",
        "preface",
        "quiet_s",
        "replies",
        "snapshot",
        "timeouts",
        "times_hosts",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        actions: Sequence[RuleAction],
        books: tuple[PlanBook, ...],
        replies: ReplyBook,
        identity: ParentIdentity,
        *,
        draining: bool,
    ) -> None:
        self.snapshot: Final = snapshot
        self.books: Final = books
        self.replies: Final = replies
        self.preface: Final = encode_local(identity.credentials)
        self.draining: Final = draining
        self.identity: Final = identity
        self.timeouts: Final = snapshot.timeouts
        self.quiet_s: Final = min(snapshot.timeouts.response, peer_liveness.LOOK_S)
        self.hashing: Final = Hashing(snapshot.hash_header) if snapshot.balance is Policy.MAGLEV else None
        self.times_hosts: Final = snapshot.balance is Policy.PEAK_EWMA
        self._actions: Final = tuple(actions)
        self._networks: Final = tuple(ip_network(text) for text in snapshot.trusted_peers)

    def in_drain(self) -> "FrontConfig":
        """The same of a node that drains."""
        return FrontConfig(self.snapshot, self._actions, self.books, self.replies, self.identity, draining=True)

    @property
    def grace_s(self) -> float:
        """How long a kept connection of a draining node waits for one more request."""
        return grace_s(self.snapshot.drain_s)

    def action(self, plan: RequestPlan) -> HostSet | Respond | Redirect | FinalRecipient | None:
        """What to do with a request by its rule; None if none matches. A weighted split is drawn here, per request."""
        if plan.rule is None:
            return None
        action = self._actions[plan.rule]
        return action.pick() if isinstance(action, Split) else action

    def trusts(self, address: str) -> bool:
        """Whether the X-Forwarded-* fields and the request id of a peer are believed."""
        return is_in(address, self._networks)
