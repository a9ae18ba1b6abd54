"""What is right in a topology file and probably not meant: warnings, with their places, that keep nothing from running.

`check` and the commands that run a file print them. A rule here takes the file's shape and yields faults.
"""

import ipaddress
from collections.abc import Iterator

from tierlb.topology.problems import Fault, Path
from tierlb.topology.shapes import FileShape
from tierlb.topology.uses import Use, cpu_faults

IN_CONTAINERS = "has no effect under `tierlb up`, whose processes share this machine; acts in compose and Kubernetes"
OWN_IMAGE = "has no effect under `tierlb up`, which starts the command on this machine; acts in compose and Kubernetes"


def advice(file: FileShape, use: Use | None) -> Iterator[Fault]:
    """All of it, for a file without a fault; `use`: the command that runs it, where that is known."""
    yield from _for_strangers(file)
    if use is None:
        yield from cpu_faults(file)
    if use is Use.UP:
        yield from (Fault(path, message, at_key=True) for path, message in _for_containers(file))


def _for_strangers(file: FileShape) -> Iterator[Fault]:
    """The token of the admin API would travel in the clear."""
    admin = file.admin
    if admin is not None and admin.tls is None and not ipaddress.ip_address(admin.listen.host).is_loopback:
        message = (
            f"{admin.listen} is open to other machines without TLS, which can read the token on the way: add "
            "tls: {certificate: FILE, key: FILE}, or listen on 127.0.0.1"
        )
        yield Fault(("admin", "listen"), message)


def _for_containers(file: FileShape) -> Iterator[tuple[Path, str]]:
    for name, tier in file.tiers.items():
        if tier.resources is not None:
            yield ("tiers", name, "resources"), IN_CONTAINERS
    for name, pool in (file.pools or {}).items():
        if pool.run is not None and pool.run.resources is not None:
            yield ("pools", name, "run", "resources"), IN_CONTAINERS
        if pool.run is not None and pool.run.image is not None:
            yield ("pools", name, "run", "image"), OWN_IMAGE
