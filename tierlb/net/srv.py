"""SRV records (RFC 2782), which the system's resolver cannot be asked for: DNS is, by dnspython, at the servers and
with the search domains of resolv.conf, read anew each time as the system does.

Of the records only those of the lowest priority count. Their hosts are asked for in turn, unless the answer says where
they are. A host that does not exist is left out. One of which nobody can say anything makes the whole answer one that
could not be had: without that host it would look as if an endpoint had left.

Left out: records of a higher priority when those of the lowest are down, which would take a sight of their health.
"""

from collections.abc import Iterable, Mapping

from dns.asyncresolver import Resolver
from dns.exception import DNSException
from dns.message import Message
from dns.name import Name, root
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.SRV import SRV
from dns.resolver import NXDOMAIN, NoAnswer

from tierlb.model.address import Address
from tierlb.model.snapshot import Found
from tierlb.net.lookup import one_family

LIFETIME_S = 5.0
"""For one question, over all servers: as long as the system's resolver waits for its first server."""
LEAST_WEIGHT = 0.01
"""A weight of 0 is to have a small chance beside others (RFC 2782), not none."""


async def services(name: str) -> tuple[Found, ...]:
    """The endpoints of the name's SRV records, in order, each once; none if nobody can say now."""
    try:
        resolver = Resolver()
        answer = await resolver.resolve(name, "SRV", search=True, lifetime=LIFETIME_S)
        records = preferred(record for record in answer if isinstance(record, SRV))
        told = _told(answer.response)
        hosts = {each.target: told.get(each.target) or await _addresses(resolver, each.target) for each in records}
    except (DNSException, OSError):
        return ()
    return endpoints(records, hosts)


def preferred(records: Iterable[SRV]) -> tuple[SRV, ...]:
    """Those of the lowest priority. The root as a host says that there is no such service."""
    offered = [record for record in records if record.target != root]
    lowest = min((record.priority for record in offered), default=0)
    return tuple(record for record in offered if record.priority == lowest)


def endpoints(records: Iterable[SRV], hosts: Mapping[Name, tuple[str, ...]]) -> tuple[Found, ...]:
    """Where the records lead, by the addresses of their hosts. What several of them name weighs as much as all."""
    weights: dict[Address, float] = {}
    for record in records:
        for host in hosts[record.target]:
            address = Address(host, record.port)
            weights[address] = weights.get(address, 0.0) + (record.weight or LEAST_WEIGHT)
    return tuple(Found(address, weight) for address, weight in sorted(weights.items()))


def _told(response: Message) -> dict[Name, tuple[str, ...]]:
    """The addresses that came with the answer."""
    told: dict[Name, list[str]] = {}
    for records in response.additional:
        told.setdefault(records.name, []).extend(each.address for each in records if isinstance(each, A | AAAA))
    return {name: one_family(hosts) for name, hosts in told.items()}


async def _addresses(resolver: Resolver, host: Name) -> tuple[str, ...]:
    for kind in ("A", "AAAA"):
        try:
            answer = await resolver.resolve(host, kind, lifetime=LIFETIME_S)
        except NXDOMAIN:
            break
        except NoAnswer:
            continue
        return tuple(record.address for record in answer if isinstance(record, A | AAAA))
    return ()
