"""The steps that bring running containers to the state of a compose file without cutting connections.

Compose itself recreates a container as soon as its networks differ, which cuts its connections. Here networks are
connected to running containers, and a container that has to be recreated gets a successor beside it and ends when that
is ready. So there are two steps: `growth` first, `decline` when nothing is sent any more to what has to go.

Pure: containers and networks are values, and so are actions. Carried out by docker.py.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from tierlb.deploy.compose import DEFINITION_LABEL, Document
from tierlb.deploy.compose_network import CONTROLLER_SERVICE
from tierlb.deploy.container import NODE_DATA_PORT, POOL_PORT

DATA_PORTS = frozenset({NODE_DATA_PORT, POOL_PORT})
TCP_ESTABLISHED = "01"
"""The state in /proc/net/tcp."""


@attrs.frozen
class Container:
    """An existing container. `networks`: its address in each. `published`: addresses of the machine. `ready`: it runs,
    and its health check succeeds if it has one. `endpoint`: it is one of a pool, not a node or the controller."""

    id: str
    service: str
    number: int
    definition: str
    running: bool = True
    ready: bool = True
    networks: Mapping[str, str] = attrs.field(factory=dict)
    published: frozenset[str] = frozenset()
    endpoint: bool = False


@attrs.frozen
class Scene:
    """All rendered containers and networks of a compose project; networks have their names in the compose file.
    Anything else in the project is left alone."""

    project: str
    containers: tuple[Container, ...]
    networks: frozenset[str]

    def of(self, service: str) -> tuple[Container, ...]:
        """Its containers."""
        return tuple(each for each in self.containers if each.service == service)


@attrs.frozen
class ContainerLink:
    """A container in a network, with its aliases there besides the name of its service."""

    network: str
    container: str
    aliases: tuple[str, ...] = ()


@attrs.frozen
class Growth:
    """Networks to create (and whether each has no way out), networks to connect, and the new number of containers by
    service, including those that have to go."""

    networks: dict[str, bool]
    links: tuple[ContainerLink, ...]
    numbers: dict[str, int]


@attrs.frozen
class Decline:
    """Containers to end, networks to disconnect and to remove."""

    containers: tuple[Container, ...]
    links: tuple[ContainerLink, ...]
    networks: tuple[str, ...]


def conflicts(document: Document, scene: Scene) -> tuple[str, ...]:
    """Why the containers cannot be changed that way without cutting connections."""
    return tuple(
        conflict
        for name, spec in document["services"].items()
        for conflict in _conflicts(name, frozenset(_published(spec)), scene)
    )


def outdated(document: Document, scene: Scene) -> tuple[str, ...]:
    """Services whose containers stay as they are, because recreating them would cut their connections."""
    services = document["services"]
    return tuple(name for name, spec in services.items() if _stays(name, spec) and any(_stale(spec, scene.of(name))))


def growth(document: Document, scene: Scene) -> Growth:
    """What has to be added."""
    networks = {
        name: bool(spec.get("internal")) for name, spec in document["networks"].items() if name not in scene.networks
    }
    links = tuple(
        ContainerLink(network, container.id, (container.service, *named.get("aliases", ())))
        for container in scene.containers
        for network, named in document["services"].get(container.service, {}).get("networks", {}).items()
        if network not in container.networks
    )
    numbers = {name: _container_number(name, spec, scene.of(name)) for name, spec in document["services"].items()}
    return Growth(networks, links, {name: number for name, number in numbers.items() if number})


def decline(document: Document, scene: Scene) -> Decline:
    """What has to go once everything that was added is ready."""
    services = document["services"]
    surplus = tuple(
        each for name in _topology_services(scene) for each in _surplus(name, services.get(name), scene.of(name))
    )
    links = tuple(
        ContainerLink(network, container.id)
        for container in scene.containers
        if container not in surplus
        for network in container.networks
        if network not in services[container.service]["networks"]
    )
    return Decline(surplus, links, tuple(sorted(scene.networks - document["networks"].keys())))


def stop_rounds(containers: tuple[Container, ...]) -> list[list[Container]]:
    """Which of them are ended at a time. Nodes have drained and end all at once. The endpoints of a pool end one after
    the other: one that ends may reset a connection with a request on it, and this is sent once more to another
    endpoint, which must not end as well."""
    rounds: list[list[Container]] = []
    of_service: Counter[str] = Counter()
    for each in containers:
        number = of_service[each.service]
        of_service[each.service] += each.endpoint
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(each)
    return rounds


def awaited(document: Document, scene: Scene) -> tuple[str, ...]:
    """Services that lose containers and do not have enough ready ones without them."""
    going = {each.id for each in decline(document, scene).containers}
    return tuple(
        name
        for name, spec in document["services"].items()
        if going & {each.id for each in scene.of(name)}
        and sum(each.ready for each in scene.of(name) if each.id not in going) < spec.get("scale", 1)
    )


def in_use(table: str, address: str) -> int:
    """How many connections, or sockets of sessions over UDP, exist at this address, from the text of /proc/net/tcp and
    /proc/net/udp, one after the other."""
    return sum(
        _label_text(local_host) == address and bool(DATA_PORTS & {int(local_port, 16), int(remote_port, 16)})
        for local_host, local_port, remote_port in _established(table)
    )


def _conflicts(name: str, wanted: frozenset[str], scene: Scene) -> Iterator[str]:
    there = scene.of(name)
    if any(wanted - each.published for each in there):
        yield f"{name} is to publish {_container_list(wanted)}, for which its container would have to be made anew"
    for each in scene.containers:
        if each.service != name and wanted & each.published:
            ports = _container_list(wanted & each.published)
            yield f"{name} is to publish {ports}, which the container of {each.service} does"


def _established(table: str) -> Iterator[tuple[str, str, str]]:
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == TCP_ESTABLISHED:
            (host, _, port), (_, _, remote_port) = fields[1].partition(":"), fields[2].partition(":")
            yield host, port, remote_port


def _label_text(host: str) -> str:
    """An IPv4 address that the kernel printed as a number, which it reads in the machine's byte order."""
    return ".".join(map(str, int(host, 16).to_bytes(4, sys.byteorder)))


def _container_number(name: str, spec: Document, there: tuple[Container, ...]) -> int:
    """How many containers the service needs; 0 if it has them."""
    fresh = [each for each in there if _stays(name, spec) or each not in _stale(spec, there)]
    missing = spec.get("scale", 1) - len(fresh)
    return len(there) + max(missing, 0) if missing > 0 or not all(each.running for each in fresh) else 0


def _surplus(name: str, spec: Document | None, there: tuple[Container, ...]) -> Iterator[Container]:
    """The containers to end: those of an old definition, then the newest."""
    if spec is None:
        yield from there
        return
    stale = () if _stays(name, spec) else tuple(_stale(spec, there))
    yield from stale
    fresh = sorted((each for each in there if each not in stale), key=lambda each: each.number)
    yield from fresh[spec.get("scale", 1) :]


def _stale(spec: Document, there: tuple[Container, ...]) -> tuple[Container, ...]:
    return tuple(each for each in there if each.definition != spec["labels"][DEFINITION_LABEL])


def _stays(name: str, spec: Document) -> bool:
    """Whether the service cannot have a second container beside the first one."""
    return name == CONTROLLER_SERVICE or bool(spec.get("ports"))


def _published(spec: Mapping[str, Any]) -> Iterator[str]:
    """As engines tell it: `:443` for every address."""
    for port in spec.get("ports", ()):
        address, _, inside = port.rpartition(":")
        address = address if ":" in address else f":{address}"
        yield address + inside[inside.find("/") :] if "/" in inside else address


def _topology_services(scene: Scene) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.service for each in scene.containers))


def _container_list(addresses: frozenset[str]) -> str:
    return " and ".join(sorted(addresses))
