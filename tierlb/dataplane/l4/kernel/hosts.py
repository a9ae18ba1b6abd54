"""The hosts to which the kernel forwards connections of this node, and what is known of these.

nftables counts the connections that began, at the chain of each host. conntrack shows those that are open, and those
that the host has not answered: one that two walks in a row find unanswered is a connect that failed. Over UDP a host
may have nothing to answer, so that counts only at a host that has answered nobody while its siblings have. conntrack
forgets a connection that is refused at once, so of that nothing is seen here (`suspects`), but over UDP the rules count
the ICMP errors of each host.

A host that is in no snapshot any more stays here until WALKS_AFTER walks in a row have found no connection to it.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping
from itertools import count

from tierlb.balance.counted_connections import CountedConnections
from tierlb.dataplane.upstream.host import Host
from tierlb.model.address import Address
from tierlb.telemetry.tally import Tally
from tierlb.wire.conntrack import PROTOCOLS, ConnectionPhase, Flow
from tierlb.wire.nft_ruleset import HostAt, is_loopback

WALKS_AFTER = 2
"""The first may have begun before the last connection did."""
MOST_UNANSWERED = 8
"""Of one walk, for one host: more than eject it."""


class KernelHost:
    """`packets` and `refusals` are what its counters showed last. `fresh`: connections began since `suspects` was
    asked; `fed`: some began since the last walk. `empty_walks`: so many have found no connection to it since it is in
    no snapshot."""

    __slots__ = ("at", "counted", "empty_walks", "fed", "fresh", "host", "packets", "refusals")

    def __init__(self, host: Host, at: HostAt, tally: Tally) -> None:
        self.host = host
        self.at = at
        self.counted = CountedConnections(host, tally)
        self.packets = self.refusals = self.empty_walks = 0
        self.fresh = self.fed = False


class KernelHosts:
    """By host. `_unanswered`: the connections that the last walk found without an answer."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._known: dict[Host, KernelHost] = {}
        self._numbers = count(1)
        self._unanswered: set[bytes] = set()
        self._by_address: dict[Address, KernelHost] = {}
        self._by_port: dict[int, KernelHost] = {}

    def __iter__(self) -> Iterator[KernelHost]:
        return iter(self._known.values())

    def __getitem__(self, host: Host) -> KernelHost:
        return self._known[host]

    @property
    def open(self) -> int:
        """How many connections there are to all."""
        return sum(each.counted.open for each in self)

    @property
    def fed(self) -> bool:
        """Whether connections began since the last walk, or may have begun before their host left."""
        return any(each.fed or each.host.condition.retired for each in self)

    def open_at(self, host: Host) -> int:
        """How many there are to one."""
        known = self._known.get(host)
        return known.counted.open if known else 0

    def follow(self, hosts: Iterable[Host]) -> None:
        """These are the hosts of the current snapshot."""
        wanted = dict.fromkeys(hosts)
        for host in wanted:
            known = self._known.get(host)
            if known is None:
                self._known[host] = KernelHost(host, _at(next(self._numbers), host), self._tally)
            else:
                known.at = _at(known.at.number, host)
        newest_last = [*(each for each in self if each.host not in wanted), *(self._known[host] for host in wanted)]
        self._by_address = {each.at.address: each for each in newest_last if not each.at.here}
        self._by_port = {each.at.address.port: each for each in newest_last if each.at.here}

    def took(self, now: float, packets: Mapping[str, int]) -> int:
        """What the counters show; how many connections began since the last time."""
        total = 0
        for each in self:
            shown = packets.get(each.at.chain, 0)
            began = shown - each.packets if shown >= each.packets else shown
            each.packets = shown
            refused, each.refusals = each.refusals, packets.get(each.at.refusals, 0)
            if each.refusals > refused:
                each.host.reach.dial_failed(errno.ECONNREFUSED)
            if began:
                each.fresh = each.fed = True
                each.counted.begin(now, began)
                total += began
        return total

    def forget_counters(self) -> None:
        """The counters begin anew."""
        for each in self:
            each.packets = each.refusals = 0

    def walked(self, now: float, flows: Mapping[Flow, int], opening: Mapping[bytes, Flow]) -> None:
        """All connections to ports of this node, as one walk found them."""
        found: dict[KernelHost, int] = {}
        for flow, amount in flows.items():
            each = self.of(flow)
            if each is not None and flow.phase is not ConnectionPhase.OVER:
                found[each] = found.get(each, 0) + amount
        answered = {self.of(flow) for flow in flows if flow.phase is not ConnectionPhase.OPENING} - {None}
        failed: dict[KernelHost, int] = {}
        for sent, flow in opening.items():
            each = self.of(flow)
            must_answer = flow.protocol == PROTOCOLS["tcp"] or (answered and each not in answered)
            if each is not None and sent in self._unanswered and must_answer:
                failed[each] = failed.get(each, 0) + 1
        self._unanswered = set(opening)
        for each in list(self):
            each.counted.walked(now, found.get(each, 0))
            self._judge(each, failed.get(each, 0))
            each.fed = False
            each.empty_walks = each.empty_walks + 1 if each.host.condition.retired and not each.counted.open else 0
            if each.empty_walks >= WALKS_AFTER:
                del self._known[each.host]

    def of(self, flow: Flow) -> KernelHost | None:
        """Where a connection went."""
        found = self._by_address.get(flow.host)
        if found is None and (flow.host.host == flow.connected_to.host or is_loopback(flow.host.host)):
            found = self._by_port.get(flow.host.port)
        return found

    @staticmethod
    def _judge(each: KernelHost, failed: int) -> None:
        reach = each.host.reach
        for _ in range(min(failed, MOST_UNANSWERED)):
            reach.dial_failed(errno.ETIMEDOUT)
        if each.fed and not failed and reach.ejection.failures and not reach.ejection.ejected:
            reach.connected()

    def suspects(self) -> list[Host]:
        """Those that may refuse what they are given: hosts that got connections since this was asked last, and nodes
        that do not report."""
        found = [each.host for each in self if each.fresh or (each.host.spec.child and not _reports(each.host))]
        for each in self:
            each.fresh = False
        return found


def _reports(host: Host) -> bool:
    return host.estimate.received.connected


def _at(number: int, host: Host) -> HostAt:
    """A node on this machine listens on whatever addresses its parents do (`topology.allot`)."""
    spec = host.spec
    here = spec.direct and is_loopback(spec.address.host)
    return HostAt(number, host.name, spec.address, here=here, wants_header=spec.child and not spec.direct)
