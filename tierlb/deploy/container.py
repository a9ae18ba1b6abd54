"""What runs in a container, whatever renders it: fixed ports, fixed paths, the commands of nodes, controller and pools.

A container has an address of its own, so ports need not be allocated: each is the same in all containers, and firewall
rules, probes and services can name it. Everything listens on all interfaces, because the address is not known
beforehand. Tokens are files: an environment is inherited, and shown by tools that inspect the container.
"""

import posixpath
import shlex
from collections.abc import Iterator
from typing import Any

import attrs

import tierlb
from tierlb.model.address import Transport
from tierlb.model.listener import TierListener
from tierlb.model.topology import Forwarding, Run, Tier, Topology
from tierlb.topology.allot import tiers_joined, transports_to
from tierlb.topology.certificates import UnusableCertificate, read_certificate
from tierlb.topology.source import read_source
from tierlb.topology.typed import Scalar

CONTROL_PORT = 7901
"""The port of the controller at which nodes join."""
ADMIN_PORT = 7900
NODE_CONTROL_PORT = 7946
"""The port of a node for reports of its children, probes and metrics."""
NODE_DATA_PORT = 7945
"""The port of a node for traffic from its parents."""
POOL_PORT = 9000
"""The port of an endpoint that `run` starts."""
UID = 10001
"""No user of the machine has it: those of people and services are smaller."""

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 (all interfaces of a container, which are its own)
DEFAULT_IMAGE = f"tierlb:{tierlb.__version__}"
"""Built by compose/Dockerfile. It also runs the commands of pools where the file names no image."""
MOUNTED_TOPOLOGY = "/etc/tierlb/topology.yaml"
JOIN_TOKEN_FILE = "/run/secrets/tierlb/join-token"  # noqa: S105 (where it is, not what it is)
"""The cluster's secret, from which all other join tokens follow: for controllers alone."""
MOUNTED_NODE_TOKEN = "/run/secrets/tierlb/node-token"  # noqa: S105
AGENT_TOKEN_FILE = "/run/secrets/tierlb/agent-token"  # noqa: S105
MOUNTED_ADMIN_TOKEN = "/run/secrets/tierlb/admin-token"  # noqa: S105
STATE_DIRECTORY = "/var/lib/tierlb"
VOLUME_STATE = f"{STATE_DIRECTORY}/state"
"""On a volume of Kubernetes. Many of those are writable for every user, so tierlb makes a directory of its own there.
"""
HANDOFF_DIRECTORY = "/run/tierlb"
"""Where nodes of one machine meet, in a volume that their containers share."""
STORE_FILES = {"certificate": "tls.crt", "key": "tls.key", "ca": "ca.crt", "password_file": "password"}
"""The names of the files of `store` as secrets, by their keys."""
PYTHON = ("/opt/tierlb/bin/python", "-I", "-S")
PROBE = (*PYTHON, "/opt/tierlb/ready.py")
"""Checks whether the process in its container is ready; installed by compose/Dockerfile."""

ContainerCommand = tuple[str, ...]


def node_command(
    tier: str,
    join_url: str,
    control_name: str,
    token_file: str = MOUNTED_NODE_TOKEN,
    state: str | None = STATE_DIRECTORY,
    handoff: str | None = None,
) -> ContainerCommand:
    """A node of `tier`, named after its container. `control_name` is a DNS name of all nodes of the tier, by which its
    children find it. `state` must outlive the process, else None. `handoff`: where it meets nodes of its machine."""
    return (
        *("tierlb", "node", "--tier", tier, "--join", join_url, "--token-file", token_file),
        *(
            "--host",
            EVERY_ADDRESS,
            "--data-port",
            str(NODE_DATA_PORT),
            "--control-listen",
            f"{EVERY_ADDRESS}:{NODE_CONTROL_PORT}",
        ),
        *("--control-name", f"{control_name}:{NODE_CONTROL_PORT}"),
        *(("--state", state) if state else ()),
        *(("--handoff", handoff) if handoff else ()),
    )


def controller_command(
    run_dns: str,
    admin_host: str = EVERY_ADDRESS,
    token_file: str = JOIN_TOKEN_FILE,
    admin_token_file: str = MOUNTED_ADMIN_TOKEN,
    state: str | None = STATE_DIRECTORY,
    admin_port: int = ADMIN_PORT,
) -> ContainerCommand:
    """The controller. `state`: the directory of the history, None where the topology has a store.

    `run_dns` is the DNS name of each pool with `run`, with `{pool}` for the pool's name.
    """
    return (
        *("tierlb", "controller", MOUNTED_TOPOLOGY),
        *("--listen", f"{EVERY_ADDRESS}:{CONTROL_PORT}", "--admin-listen", f"{admin_host}:{admin_port}"),
        *("--token-file", token_file, "--admin-token-file", admin_token_file),
        *(("--state", state) if state is not None else ()),
        *("--run-dns", f"{run_dns}:{POOL_PORT}"),
    )


def pool_command(run: Run) -> ContainerCommand:
    """One endpoint, listening on all interfaces at POOL_PORT."""
    words = shlex.split(run.command)
    return tuple(word.replace("{host}", EVERY_ADDRESS).replace("{port}", str(POOL_PORT)) for word in words)


def pool_probe(topology: Topology, pool: str) -> str:
    """What `PROBE` looks at in the container of an endpoint: whether it takes what is sent to it."""
    return str(POOL_PORT) if Transport.TCP in transports_to(topology, pool) else f"udp:{POOL_PORT}"


def tls_options(directory: str) -> ContainerCommand:
    """Options of a node whose certificate, key and authority are in this directory, under the names that Kubernetes
    uses."""
    return (
        *("--tls-certificate", f"{directory}/tls.crt", "--tls-key", f"{directory}/tls.key"),
        *("--tls-ca", f"{directory}/ca.crt"),
    )


def store_files(topology_text: str) -> dict[str, str]:
    """The files that `store` names, by their names as secrets, as in the topology file."""
    data: Any = read_source(topology_text).data
    store = data.get("store") if isinstance(data, dict) else None
    named = store if isinstance(store, dict) else {}
    return {secret: named[key].text for key, secret in STORE_FILES.items() if isinstance(named.get(key), Scalar)}


def file_place(name: str) -> str:
    """The path at which a controller that reads the topology file in a container looks for a file that it names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(MOUNTED_TOPOLOGY), name))


def certificate_warnings(topology: Topology) -> Iterator[str]:
    """All nodes show one certificate, to nodes of other tiers as well."""
    if topology.tls is None:
        return
    try:
        fields = read_certificate(topology.tls.certificate, topology.tls.key)
    except UnusableCertificate as error:
        yield f"security.tls: {error}"
        return
    if lacks := [name for name in tiers_joined(topology) if name not in fields.names]:
        names = ", ".join(f"DNS:{name}" for name in lacks)
        yield f"security.tls.certificate: nodes would refuse it: add {names} to its subjectAltName"


def port_problems(topology: Topology) -> Iterator[str]:
    """What a container cannot provide: ports that a node's container uses, files not rendered, routes."""
    if topology.admin_tls is not None:
        yield (
            "admin.tls: acts under `tierlb up` and `tierlb controller`, and is not rendered: leave it out here, and "
            "reach the API from the machine itself or through a proxy that speaks TLS"
        )
    for pool in topology.pools.values():
        for endpoint in pool.endpoints:
            if endpoint.is_unix:
                yield (
                    f"pools.{pool.name}.endpoints: {endpoint} would be looked for in each node's own container: write "
                    "an address of the network"
                )
    for tier in topology.tiers.values():
        if tier.forward is Forwarding.NFTABLES:
            yield (
                f"tiers.{tier.name}.forward: nftables is for nodes through which hosts route their answers, and those "
                "of other containers take another way: write auto"
            )
        yield from _merged_problems(tier)
        listening = [("listen", each.address) for each in tier.listen]
        if tier.agent_check is not None:
            listening.append(("agent_check", tier.agent_check))
        for key, address in listening:
            if address.is_unix:
                yield (
                    f"tiers.{tier.name}.{key}: {address} would be a file in each node's own container: listen on a port"
                )
                continue
            if address.port in (NODE_CONTROL_PORT, NODE_DATA_PORT):
                yield f"tiers.{tier.name}.{key}: port {address.port} is a node's own in a container: choose another"
            if address.port == 0:
                yield f"tiers.{tier.name}.{key}: a container needs the port named that is to be reached: choose one"


def _merged_problems(tier: Tier) -> Iterator[str]:
    """A container listens at all of its addresses, so listeners that share a port are one there."""
    settings: dict[int, TierListener] = {}
    for each in (each for each in tier.listen if not each.address.is_unix):
        first = settings.setdefault(each.address.port, each)
        if attrs.evolve(each, address=first.address) != first:
            yield (
                f"tiers.{tier.name}.listen: {first.address} and {each.address} are one port in a container and have "
                "different settings: give them different ports, or the same settings"
            )
