"""What rules depend on besides hosts and shares: where the node listens, and what this machine forwards."""

from collections.abc import Iterable

from tierlb.model.address import Address
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import DRAIN_S
from tierlb.net.netfilter import forwarded_families, is_own_address
from tierlb.wire.nft_ruleset import Family, family_of, is_loopback

SETTING = {Family.IPV4: "net.ipv4.ip_forward", Family.IPV6: "net.ipv6.conf.all.forwarding"}


class Surroundings:
    """`own`: the hosts' addresses that are this machine's. `elsewhere`: the families of those that are not. `listened`:
    where the node listens now, or did: connections from then may be open. `problem`: what nft complained about."""

    def __init__(self) -> None:
        self.cluster = ""
        self.protocol = "tcp"
        self.drain_s = DRAIN_S
        self.own: frozenset[str] = frozenset()
        self.forwarded: frozenset[Family] = frozenset()
        self.problem = ""
        self._elsewhere: frozenset[Family] = frozenset()
        self._listens: tuple[Address, ...] = ()
        self._listened: dict[Address, None] = {}

    @property
    def listens(self) -> tuple[Address, ...]:
        return self._listens

    @listens.setter
    def listens(self, addresses: tuple[Address, ...]) -> None:
        self._listens = addresses
        self._listened |= dict.fromkeys(addresses)

    @property
    def listened(self) -> tuple[Address, ...]:
        return tuple(self._listened)

    def follow(self, snapshot: Snapshot, hosts: Iterable[str]) -> None:
        """A new snapshot, and the addresses of its hosts."""
        self.cluster, self.drain_s, self.protocol = snapshot.cluster, snapshot.drain_s, snapshot.protocol.value
        others = [host for host in dict.fromkeys(hosts) if not is_loopback(host)]
        self.own = frozenset(filter(is_own_address, others))
        self._elsewhere = frozenset(family_of(Address(host, 0)) for host in others if host not in self.own)

    def look(self) -> None:
        """An operator may have changed what this machine forwards."""
        self.forwarded = forwarded_families()

    def lacks(self) -> tuple[str, ...]:
        """What keeps the kernel from forwarding, in sentences for an operator."""
        off = [SETTING[family] for family in Family if family in self._elsewhere - self.forwarded]
        sentences = [f"{name} is 0, so connections to other machines are relayed: sysctl -w {name}=1" for name in off]
        if self.problem:
            sentences.append(f"nftables refuses the rules, so connections are relayed: {self.problem}")
        return tuple(sentences)
