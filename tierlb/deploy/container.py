"""What runs in a container, whatever renders it: fixed ports, fixed paths, the commands of nodes, controller and pools.

A container has an address of its own, so ports need not be allocated: each is the same in all containers, and whoever
writes a firewall rule, a probe or a service can name it. Everything listens on all interfaces, for the address is not
known beforehand. Tokens come as files: an environment is inherited, and shown by whoever shows the container.
"""

import posixpath
import shlex
from collections.abc import Iterator
from typing import Any

import tierlb
from tierlb.model.topology import Run, Topology
from tierlb.topology.source import read_source
from tierlb.topology.typed import Scalar

CONTROL_PORT = 7901
"""Of the controller: where nodes join."""
ADMIN_PORT = 7900
NODE_CONTROL_PORT = 7946
"""Of a node: where its children report, and where it answers probes and is scraped."""
NODE_DATA_PORT = 7945
"""Of a node: where its parents send."""
POOL_PORT = 9000
"""Of an endpoint that `run` starts."""
UID = 10001
"""No user of the host: those that it gives to people and services are smaller."""

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
"""On a volume of Kubernetes. Every user may write to many of those, so tierlb makes a directory of its own there."""
STORE_FILES = {"certificate": "tls.crt", "key": "tls.key", "ca": "ca.crt", "password_file": "password"}
"""What those that `store` names are called as secrets, by their keys."""
PYTHON = ("/opt/tierlb/bin/python", "-I", "-S")
PROBE = (*PYTHON, "/opt/tierlb/ready.py")
"""Says whether what is in its container is ready; as compose/Dockerfile has it."""

ContainerCommand = tuple[str, ...]


def node_command(
    tier: str,
    join_url: str,
    control_name: str,
    token_file: str = MOUNTED_NODE_TOKEN,
    state: str | None = STATE_DIRECTORY,
) -> ContainerCommand:
    """A node of `tier`, named after its container. `control_name` is a DNS name of all nodes of the tier, by which its
    children find it. `state` must outlive the process, else None."""
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
    )


def controller_command(
    run_dns: str,
    admin_host: str = EVERY_ADDRESS,
    token_file: str = JOIN_TOKEN_FILE,
    admin_token_file: str = MOUNTED_ADMIN_TOKEN,
    state: str | None = STATE_DIRECTORY,
    admin_port: int = ADMIN_PORT,
) -> ContainerCommand:
    """`state`: where the history is kept, None where the topology has a store.

    `run_dns` is the DNS name of each pool with `run`, `{pool}` in the place of the pool's name."""
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


def tls_options(directory: str) -> ContainerCommand:
    """Of a node that finds its certificate, its key and the authority there, named as Kubernetes names them."""
    return (
        *("--tls-certificate", f"{directory}/tls.crt", "--tls-key", f"{directory}/tls.key"),
        *("--tls-ca", f"{directory}/ca.crt"),
    )


def store_files(topology_text: str) -> dict[str, str]:
    """The files that `store` names, by what they are called as secrets, as the topology file has them."""
    data: Any = read_source(topology_text).data
    store = data.get("store") if isinstance(data, dict) else None
    named = store if isinstance(store, dict) else {}
    return {secret: named[key].text for key, secret in STORE_FILES.items() if isinstance(named.get(key), Scalar)}


def file_place(name: str) -> str:
    """Where a controller that reads the topology file in a container looks for a file that is named in it."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(MOUNTED_TOPOLOGY), name))


def port_problems(topology: Topology) -> Iterator[str]:
    """What the file asks for that a container cannot give: ports that each node's container uses itself, and files that
    are not rendered."""
    if topology.admin_tls is not None:
        yield (
            "admin.tls: acts under `tierlb up` and `tierlb controller`, and is not rendered: leave it out here, and "
            "reach the API from the machine itself or through a proxy that speaks TLS"
        )
    for tier in topology.tiers.values():
        for key, address in (("listen", tier.listen), ("agent_check", tier.agent_check)):
            if address is not None and address.port in (NODE_CONTROL_PORT, NODE_DATA_PORT):
                yield f"tiers.{tier.name}.{key}: port {address.port} is a node's own in a container: choose another"
            if address is not None and address.port == 0:
                yield f"tiers.{tier.name}.{key}: a container needs the port named that is to be reached: choose one"
