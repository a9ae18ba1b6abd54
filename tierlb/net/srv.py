"""SRV records (RFC 2782), which the system's resolver cannot be asked for: DNS is, by dnspython, at the servers and
with the search domains of resolv.conf, read anew each time as the system does.

The records of the lowest priority lead to level 0, those of the next to level 1 and so on: a level is used while none
of those before it has an available endpoint. Their hosts are asked for in turn, unless the answer has their addresses.
A host that does not exist is left out. One of level 0 that cannot be resolved now makes the whole answer one that could
not be had: without that host it would look as if an endpoint had left. One in reserve is left out then.
"""

import contextlib
from collections.abc import Iterable, Mapping

import attrs
import trio
from dns.exception import DNSException
from dns.message import Message
from dns.name import Name, root
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.SRV import SRV
from dns.resolver import NXDOMAIN, NoAnswer, Resolver

from tierlb.model.address import Address
from tierlb.model.snapshot import FoundEndpoint
from tierlb.net.names import one_family

LIFETIME_S = 5.0
"""For one question, over all servers: as long as the system's resolver waits for its first server."""
MOST_RECORDS = 1000
"""Each may cost a question of its own."""
LEAST_WEIGHT = 0.01
"""A weight of 0 is to have a small chance beside others (RFC 2782), not none."""


async def services(name: str) -> tuple[FoundEndpoint, ...]:
    """The endpoints of the name's SRV records, in order, each once; none if the resolver fails now. In a thread: an
    answer of 64 KiB takes a tenth of a second to read, which traffic must not wait for."""
    return await trio.to_thread.run_sync(_services, name, abandon_on_cancel=True)


def _services(name: str) -> tuple[FoundEndpoint, ...]:
    try:
        resolver = Resolver()
        answer = resolver.resolve(name, "SRV", search=True, lifetime=LIFETIME_S)
        records = offered(record for record in answer if isinstance(record, SRV))[:MOST_RECORDS]
        told = _told(answer.response)
        hosts: dict[Name, tuple[str, ...]] = {}
        for each in records:
            in_reserve = each.priority > records[0].priority
            with contextlib.suppress(*((DNSException, OSError) if in_reserve else ())):
                hosts[each.target] = told.get(each.target) or _addresses(resolver, each.target)
    except (DNSException, OSError):
        return ()
    return endpoints(records, hosts)


def offered(records: Iterable[SRV]) -> tuple[SRV, ...]:
    """By priority, the lowest first. The root as a host means that there is no such service."""
    return tuple(sorted((each for each in records if each.target != root), key=lambda record: record.priority))


def endpoints(records: Iterable[SRV], hosts: Mapping[Name, tuple[str, ...]]) -> tuple[FoundEndpoint, ...]:
    """Where the records lead, by the addresses of their hosts. What several records of a priority name weighs as much
    as all of them; what those of several name belongs to the lowest."""
    ordered = offered(records)
    levels = {priority: level for level, priority in enumerate(sorted({record.priority for record in ordered}))}
    found: dict[Address, FoundEndpoint] = {}
    for record in ordered:
        for host in hosts.get(record.target, ()):
            new = FoundEndpoint(Address(host, record.port), record.weight or LEAST_WEIGHT, levels[record.priority])
            known = found.setdefault(new.address, attrs.evolve(new, weight=0.0))
            if known.level == new.level:
                found[new.address] = attrs.evolve(new, weight=known.weight + new.weight)
    return tuple(sorted(found.values()))


def _told(response: Message) -> dict[Name, tuple[str, ...]]:
    """The addresses that came with the answer."""
    told: dict[Name, list[str]] = {}
    for records in response.additional:
        told.setdefault(records.name, []).extend(each.address for each in records if isinstance(each, A | AAAA))
    return {name: one_family(hosts) for name, hosts in told.items()}


def _addresses(resolver: Resolver, host: Name) -> tuple[str, ...]:
    for kind in ("A", "AAAA"):
        try:
            answer = resolver.resolve(host, kind, lifetime=LIFETIME_S)
        except NXDOMAIN:
            break
        except NoAnswer:
            continue
        return tuple(record.address for record in answer if isinstance(record, A | AAAA))
    return ()
