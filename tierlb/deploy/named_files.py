"""The files that nodes read, by the names that a topology file gives them: certificates of tiers and what they show and
trust at pools.

A controller in a container looks for each at `file_place` of its name, and nodes get these paths from it. So every
container has the file there. The files of the control channel and of the store are other ones, which have places of
their own (`compose`, `kubernetes_pods`).
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from tierlb.deploy.container import MOUNTED_TOPOLOGY, file_place
from tierlb.model.topology import Topology
from tierlb.topology.source import read_source
from tierlb.topology.typed import Scalar

TLS_FILE_KEYS = ("certificate", "key", "ca", "client_ca")
MOST_KEY_CHARS = 60
"""Of what is readable in a key, which names a file in Kubernetes and may have 253 characters."""


def files_of_tiers(topology: Topology, topology_text: str) -> dict[str, tuple[str, ...]]:
    """By tier the files that its nodes read, as they are named in the text, each place once. Tiers without any are left
    out."""
    data: Any = read_source(topology_text).data or {}
    tiers, pools = data.get("tiers") or {}, data.get("pools") or {}
    found = {}
    for tier in topology.tiers.values():
        given = tiers.get(tier.name, {})
        names = [*_names(given.get("tls")), *_of_listeners(given.get("listen"))]
        for target in tier.targets:
            names += _names(pools.get(target, {}).get("tls"))
        if names:
            found[tier.name] = tuple({file_place(name): name for name in names}.values())
    return found


def file_key(name: str) -> str:
    """What a secret with this file is called, so that each place has a name of its own."""
    place = file_place(name)
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", place.removeprefix("/etc/tierlb/")).strip("-.")[-MOST_KEY_CHARS:]
    return f"{readable}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def below_topology(name: str) -> str:
    """The place of the file relative to the directory of the topology file; empty if it is elsewhere."""
    folder = f"{MOUNTED_TOPOLOGY.rpartition('/')[0]}/"
    place = file_place(name)
    return place.removeprefix(folder) if place.startswith(folder) else ""


def _of_listeners(listen: Any) -> Iterator[str]:
    for each in listen if isinstance(listen, list) else [listen]:
        if isinstance(each, dict):
            yield from _names(each.get("tls"))


def _names(tls: Any) -> Iterator[str]:
    """The file names below a `tls`, in the order of the text."""
    if not isinstance(tls, dict):
        return
    for key, value in tls.items():
        if key == "certificates" and isinstance(value, list):
            for pair in value:
                yield from _names(pair)
        elif key in TLS_FILE_KEYS and isinstance(value, Scalar):
            yield value.text
