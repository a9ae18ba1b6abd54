"""The rules by which the kernel forwards connections, as a script for nft(8): pure, from hosts and slots to text.

The layout is that of kube-proxy's nftables mode: a chain for each host with its DNAT, and a chain that looks up a
number in a map of verdicts. Only a connection's first packet passes the nat hooks, `prerouting` (clients elsewhere) or
`output` (clients on this machine); the others follow what conntrack remembers. A connection for which no rule has a
host goes on to the local port, where the node accepts and relays it.

What a host can be reached from decides whether it is in a map (`View`):

* A packet from elsewhere may not be sent on to a loopback address; and to other machines only where the kernel forwards
  (`net.ipv4.ip_forward`). Setting `route_localnet` would open the loopback services of this machine to its network.
* A client that connected to a loopback address has one itself, so its packets cannot leave the machine.
* A host that is its own client would answer itself by the short way, so it sees this machine as the client.
* `HostAt.here`: the host listens on this machine on every address that a client may have used. Only the port changes
  then, and all views reach it.

Over UDP a host that died is known by its ICMP errors, which the rules count. The kernel passes them on to the clients
whose datagrams they are about, and goes on to send these there.

A script changes the table in one transaction. Names are made of what nft takes in names; others' text is in comments
only, without what could end them.

Source: nft(8); kubernetes/pkg/proxy/nftables (its README and `proxier.go`).
"""

import enum
import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence

import attrs

from tierlb.balance.slots import Selector, Slots
from tierlb.model.address import Address

TABLE_PREFIX = "tierlb"
LONGEST_PART = 40
"""Of a table's name, for the cluster and for the node. The kernel takes 255 bytes for the whole, and the name of the
abstract socket that goes with it 107."""
HASH_SEED = 0x7469_6572
"""The same at every node, so that a source address has the same slot everywhere."""
LONGEST_COMMENT = 100
TRACKING = "tracking"
"""A chain that no packet passes. The kernel tracks connections only while a rule needs that, and translates only those
that it tracks: without a host in the rules, those under way would break."""


class Family(enum.Enum):
    """`keyword`: as in rules."""

    IPV4 = "ip"
    IPV6 = "ip6"

    @property
    def loopback(self) -> str:
        return "127.0.0.0/8" if self is Family.IPV4 else "::1"

    @property
    def protocol(self) -> str:
        return "ipv4" if self is Family.IPV4 else "ipv6"


class View(enum.Enum):
    """Where a client is: ELSEWHERE, or on this machine, with a LOOPBACK address or an address of the machine's OWN."""

    ELSEWHERE = "elsewhere"
    LOOPBACK = "loopback"
    OWN = "own"


@attrs.frozen
class HostAt:
    """A host in the rules. `number` names its chain and its counter. `here`: see the module. `wants_header`: each
    connection to it has to begin with a PROXY header, so only the node reaches it."""

    number: int
    name: str
    address: Address
    here: bool = False
    wants_header: bool = False

    @property
    def chain(self) -> str:
        return f"host_{self.number}"

    @property
    def refusals(self) -> str:
        return f"refused_{self.number}"

    @property
    def family(self) -> Family:
        return family_of(self.address)


@attrs.frozen
class Ruleset:
    """What one node's table is to be: connections to `listens` go to `hosts` by `slots`. `label`: set on each
    of these (`wire.conntrack`). `forwards`: the families that the kernel forwards to other machines; `own`: the hosts'
    addresses that are this machine's."""

    table: str
    listens: tuple[Address, ...]
    hosts: tuple[HostAt, ...] = ()
    slots: Slots | None = None
    protocol: str = "tcp"
    label: int = 0
    forwards: frozenset[Family] = frozenset(Family)
    own: frozenset[str] = frozenset()

    def reaches(self, view: View, family: Family, host: HostAt) -> bool:
        """Whether a connection from there can be sent to the host."""
        if host.family is not family or host.wants_header:
            return False
        if host.here:
            return True
        if is_loopback(host.address.host):
            return view is not View.ELSEWHERE
        if host.address.host in self.own:
            return True
        return view is View.OWN or (view is View.ELSEWHERE and family in self.forwards)

    def reached(self, view: View, family: Family) -> tuple[HostAt, ...]:
        """All that can."""
        return tuple(host for host in self.hosts if self.reaches(view, family, host))


def table_name(cluster: str, node: str) -> str:
    """The name of a node's table, different for each cluster and node."""
    return f"{cluster_prefix(cluster)}{_part(node)}"


def cluster_prefix(cluster: str) -> str:
    """What the names of all tables of a cluster begin with, and no others."""
    return f"{TABLE_PREFIX}_{_part(cluster)}_"


def _part(text: str) -> str:
    """Bytes that names of nft cannot have, and the one that separates parts, as /xx; bounded, and different for
    different texts."""
    escaped = re.sub(rb"[^A-Za-z0-9-]", lambda found: b"/%02x" % found[0][0], text.encode()).decode()
    if len(escaped) <= LONGEST_PART:
        return escaped
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{escaped[: LONGEST_PART - 10].rstrip('/')}//{digest}"


def family_of(address: Address) -> Family:
    return Family.IPV6 if ":" in address.host else Family.IPV4


def is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def change(before: Ruleset | None, after: Ruleset) -> str:
    """A script that makes `after` of `before` (None: of whatever is there). Counters of hosts that stay go on."""
    table = f"inet {after.table}"
    lines = [f"add table {table}"]
    if before is None:
        lines += [f"delete table {table}", f"add table {table}"]
        lines += [f"add chain {table} {TRACKING}", f"add rule {table} {TRACKING} ct state new"]
    known = {host.number: host for host in before.hosts} if before else {}
    old_chains = _pick_chains(before) if before else {}
    new_chains = _pick_chains(after)
    for host in after.hosts:
        if known.get(host.number) != host:
            lines += _host_lines(after, host)
    lines += [f"flush chain {table} {name}" for name in old_chains]
    for name, hosts in new_chains.items():
        lines += [f"add chain {table} {name}", f"add rule {table} {name} {_lookup(hosts, after)}"]
    lines += _hook_lines(table, after, new_chains)
    lines += _own_client_lines(table, after)
    lines += _refusal_lines(table, after)
    lines += [f"delete chain {table} {name}" for name in old_chains if name not in new_chains]
    staying = {host.number for host in after.hosts}
    for host in known.values():
        if host.number not in staying:
            lines += [f"delete chain {table} {host.chain}", f"delete counter {table} {host.chain}"]
            if after.protocol == "udp":
                lines += [f"delete chain {table} {host.refusals}", f"delete counter {table} {host.refusals}"]
    return "\n".join(lines) + "\n"


def removal(tables: Iterable[str]) -> str:
    """A script that removes tables, whether or not they are there."""
    return "".join(f"add table inet {name}\ndelete table inet {name}\n" for name in tables)


def _host_lines(ruleset: Ruleset, host: HostAt) -> list[str]:
    table = f"inet {ruleset.table}"
    to = f"dnat to :{host.address.port}" if host.here else f"dnat {host.family.value} to {host.address}"
    match = f"meta nfproto {host.family.protocol} meta l4proto {ruleset.protocol}"
    act = f'counter name "{host.chain}" ct label set {ruleset.label} {to} comment "{_comment(host.name)}"'
    lines = [
        f"add counter {table} {host.chain}",
        f"add chain {table} {host.chain}",
        f"flush chain {table} {host.chain}",
        f"add rule {table} {host.chain} {match} {act}",
    ]
    if ruleset.protocol == "udp":
        lines += [
            f"add counter {table} {host.refusals}",
            f"add chain {table} {host.refusals}",
            f"flush chain {table} {host.refusals}",
            f'add rule {table} {host.refusals} counter name "{host.refusals}"',
        ]
    return lines


def _comment(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9 ./:_\[\]-]", "?", text)[:LONGEST_COMMENT]


def _pick_chains(ruleset: Ruleset) -> dict[str, tuple[HostAt, ...]]:
    """The chains that choose a host, and among which: one for each different answer over the views of a family."""
    chains: dict[str, tuple[HostAt, ...]] = {}
    if ruleset.slots is None:
        return chains
    for family in {family_of(address) for address in ruleset.listens}:
        for view in View:
            hosts = ruleset.reached(view, family)
            if hosts and hosts not in chains.values():
                chains[f"pick_{family.value}_{view.value}"] = hosts
    return dict(sorted(chains.items()))


def _lookup(hosts: Sequence[HostAt], ruleset: Ruleset) -> str:
    """Of the numbers of hosts that are not among these, the map has none: such a connection is left to the node."""
    slots = ruleset.slots
    assert slots is not None
    chains = [host.chain if host in hosts else None for host in ruleset.hosts]
    elements = [
        f"{first if first == last else f'{first}-{last}'} : goto {chains[index]}"
        for first, last, index in slots.runs
        if chains[index] is not None
    ]
    return f"{_key(slots, hosts[0].family)} vmap {{ {', '.join(elements)} }}"


def _key(slots: Slots, family: Family) -> str:
    match slots.selector:
        case Selector.RANDOM:
            return f"numgen random mod {slots.modulus}"
        case Selector.TURN:
            return f"numgen inc mod {slots.modulus}"
        case Selector.SOURCE:
            return f"jhash {family.value} saddr mod {slots.modulus} seed {HASH_SEED:#x}"


def _hook_lines(table: str, ruleset: Ruleset, chains: Mapping[str, tuple[HostAt, ...]]) -> list[str]:
    lines = []
    for hook, views in (("prerouting", (View.ELSEWHERE,)), ("output", (View.LOOPBACK, View.OWN))):
        lines += [
            f"add chain {table} {hook} {{ type nat hook {hook} priority -100; policy accept; }}",
            f"flush chain {table} {hook}",
        ]
        for view in views:
            for address in ruleset.listens:
                family = family_of(address)
                hosts = ruleset.reached(view, family)
                name = next((name for name, own in chains.items() if own == hosts), None)
                match = _destination(view, family, address.host)
                if name is not None and match is not None:
                    lines.append(f"add rule {table} {hook} {match} {ruleset.protocol} dport {address.port} goto {name}")
    return lines


def _own_client_lines(table: str, ruleset: Ruleset) -> list[str]:
    lines = [
        f"add chain {table} postrouting {{ type nat hook postrouting priority 100; policy accept; }}",
        f"flush chain {table} postrouting",
    ]
    for family in Family:
        hosts = dict.fromkeys(host.address.host for host in ruleset.reached(View.ELSEWHERE, family) if not host.here)
        if hosts:
            pairs = ", ".join(f"{host} . {host}" for host in hosts)
            match = f"ct label {ruleset.label} {family.value} saddr . {family.value} daddr {{ {pairs} }}"
            lines.append(f"add rule {table} postrouting {match} masquerade")
    return lines


def _refusal_lines(table: str, ruleset: Ruleset) -> list[str]:
    """Of hosts elsewhere, and of those on this machine."""
    lines = []
    for hook in ("prerouting", "output") if ruleset.protocol == "udp" else ():
        name = f"refusals_{hook}"
        lines += [
            f"add chain {table} {name} {{ type filter hook {hook} priority -150; policy accept; }}",
            f"flush chain {table} {name}",
        ]
        for family, icmp in ((Family.IPV4, "icmp"), (Family.IPV6, "icmpv6")):
            hosts = {host.address: host for host in ruleset.hosts if host.family is family and not host.here}
            if hosts:
                refused = f"{icmp} type destination-unreachable {icmp} code port-unreachable"
                own = f"ct label {ruleset.label} ct direction reply"
                to = ", ".join(f"{at.host} . {at.port} : goto {host.refusals}" for at, host in hosts.items())
                key = f"{family.value} saddr . ct reply proto-src"
                lines.append(f"add rule {table} {name} {refused} {own} {key} vmap {{ {to} }}")
    return lines


def _destination(view: View, family: Family, host: str) -> str | None:
    """What a packet of the view that is for a listening address is sent to; None: there is no such packet."""
    keyword, parsed = family.value, ipaddress.ip_address(host)
    if parsed.is_unspecified:
        if view is View.LOOPBACK:
            return f"{keyword} daddr {family.loopback}"
        other = f" {keyword} daddr != {family.loopback}" if view is View.OWN else ""
        return f"meta nfproto {family.protocol} fib daddr type local{other}"
    if view is not View.ELSEWHERE and parsed.is_loopback is not (view is View.LOOPBACK):
        return None
    return f"{keyword} daddr {host}"
