"""A topology as a compose file: one service per tier, one per pool with `run`, and the controller.

Which services share a network, and so reach each other, is decided in `compose_network.py`, and in which containers
connections are handed over in `compose_handoff.py`.

The result uses only what both docker-compose 1.29 and the Compose Specification have. Left out: several machines (use
Kubernetes, or `tierlb node` by hand), and endpoints without `run`, which compose does not start.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from tierlb.balance.stop_times import stop_whole_s
from tierlb.deploy.compose_handoff import HANDOFF, handoff_directory, handoff_volume
from tierlb.deploy.compose_limits import service_limits, service_scale
from tierlb.deploy.compose_network import (
    CONTROLLER_SERVICE,
    WAY_OUT,
    joined_networks,
    network_alias,
    networks,
    published,
)
from tierlb.deploy.container import (
    ADMIN_PORT,
    CONTROL_PORT,
    MOUNTED_TOPOLOGY,
    NODE_CONTROL_PORT,
    PROBE,
    STATE_DIRECTORY,
    UID,
    certificate_warnings,
    controller_command,
    file_place,
    node_command,
    pool_command,
    pool_probe,
    port_problems,
    tls_options,
)
from tierlb.deploy.named_files import file_key
from tierlb.deploy.yaml_text import dump
from tierlb.model.address import EVERY_HOST, ListenAddress, Transport
from tierlb.model.topology import Pool, Run, Tier, Topology
from tierlb.topology.uses import NO_NUMBERS
from tierlb.wire.credentials import Principal, Role

Document = dict[str, Any]

JOIN_TOKEN, ADMIN_TOKEN = "join-token", "admin-token"
"""The join token is the cluster's secret, from which those of nodes and agents follow: it is for the controller alone.
"""
NODE_TOKEN, AGENT_TOKEN = "node-token-", "agent-token-"
"""Prefixes of the tokens of tiers and of pools with agents."""
TLS_SECRETS = ("tls.crt", "tls.key", "ca.crt")
STORE = "store-"
"""Prefix of the secrets of the store."""
FILE_PREFIX = "file-"
SECRETS_PATH = "/run/secrets"
FOLDER = posixpath.dirname(MOUNTED_TOPOLOGY)
"""The directory of the topology file, where the controller looks for the files that it names."""
CONTROLLER_STOP_S = 15
"""The controller drains nothing; this allows for a busy engine."""
HEALTH_TIMES: Document = {"interval": "3s", "timeout": "15s", "retries": 3, "start_period": "120s"}
"""A check costs about 30 ms of CPU time, nearly all of it the engine's, and takes seconds on a machine that is full."""
COMPOSE_CLUSTER_LABEL = "tierlb.cluster"
DEFINITION_LABEL = "tierlb.definition"
KIND_LABEL, POOL_KIND = "tierlb.kind", "pool"
"""Hash of the container's definition, to recognise containers that have to be recreated. Networks and replicas are not
included: they can be changed while it runs."""
CHANGEABLE = ("scale", "depends_on", "networks")
HARDENED: Document = {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
CONTAINER_SECURITY: Document = {"user": f"{UID}:{UID}", "read_only": True, "tmpfs": ["/tmp"], **HARDENED}  # noqa: S108
"""For tierlb's own image. Other images may need another user and writable files."""
NUMBER_LIKE = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""Names that the system's resolver takes for IPv4 addresses (inet_aton)."""


@attrs.frozen
class TlsFiles:
    """The TLS files as named in the topology file, relative to its directory."""

    certificate: str
    key: str
    ca: str


@attrs.frozen
class Rendering:
    """What is rendered. `image` has tierlb. `tls`: required if the topology has `security.tls`. `source`: the topology
    file for the next rendering, if it is not the one beside the compose file. `store`: as from `container.store_files`.
    `files`: as from `named_files.files_of_tiers`."""

    topology: Topology
    image: str
    tls: TlsFiles | None = None
    source: str = ""
    store: Mapping[str, str] = MappingProxyType({})
    files: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    @property
    def all_files(self) -> tuple[str, ...]:
        """Of all tiers, each place once."""
        return tuple({file_place(name): name for names in self.files.values() for name in names}.values())


def store_secrets(rendering: Rendering) -> dict[str, str]:
    """The secrets of the store, by the names of their files in `rendering.store`. A file that the topology file names
    twice is included once."""
    taken = set(_places(rendering.tls)) if rendering.tls else set()
    found = {}
    for key in rendering.store:
        if _at_address(rendering, key) not in taken:
            taken.add(_at_address(rendering, key))
            found[key] = f"{STORE}{key}"
    return found


def file_secret(name: str) -> str:
    """The secret of a file that nodes read."""
    return f"{FILE_PREFIX}{file_key(name)}"


def role_tokens(topology: Topology) -> dict[str, Principal]:
    """The tokens that follow from the join token, each with its principal, by the names of their secrets."""
    nodes = {f"{NODE_TOKEN}{name}": Principal(Role.NODE, name) for name in topology.tiers}
    agents = {f"{AGENT_TOKEN}{pool.name}": pool.name for pool in topology.pools.values() if pool.agents}
    return nodes | {secret: Principal(Role.AGENT, name) for secret, name in agents.items()}


def faults(topology: Topology) -> tuple[str, ...]:
    """What prevents the rendering, each with its place in the file and what to do."""
    groups = (_name_faults(topology), _listen_faults(topology), _cpu_faults(topology))
    return tuple(fault for group in groups for fault in group)


def compose_warnings(topology: Topology) -> tuple[str, ...]:
    """What is likely to fail in containers, or needs something that is not rendered."""
    counted = (_count_warning(tier) for tier in topology.tiers.values() if tier.per_core)
    pools = (warning for pool in topology.pools.values() for warning in _pool_warnings(pool))
    return (*counted, *pools, *certificate_warnings(topology))


def compose_document(rendering: Rendering) -> Document:
    """The compose file as plain data. There must be no `faults`."""
    topology = rendering.topology
    all_networks = networks(topology)
    services = {CONTROLLER_SERVICE: _controller_service(rendering)}
    services |= {tier.name: _tier_services(rendering, tier) for tier in topology.tiers.values()}
    services |= {pool.name: _pool_service(rendering, pool, pool.run) for pool in topology.pools.values() if pool.run}
    for service in services.values():
        service["labels"][DEFINITION_LABEL] = _definition(service)
    source = {"source": rendering.source} if rendering.source else {}
    return {
        "x-tierlb": {"cluster": topology.cluster, "image": rendering.image, **source},
        "services": {
            name: service | {"networks": joined_networks(all_networks, name)} for name, service in services.items()
        },
        "networks": {name: _service_network(topology, name) for name in all_networks},
        "volumes": {"state": {}, **handoff_volume(topology)},
        "secrets": {name: {"file": f"./secrets/{name}"} for name in _secrets(rendering)},
    }


def text(rendering: Rendering) -> str:
    """The compose file."""
    comments = "".join(f"# {line}".rstrip() + "\n" for line in _header(rendering))
    return f"{comments}\n{dump(compose_document(rendering))}"


def _header(rendering: Rendering) -> Iterator[str]:
    topology = rendering.topology
    yield f"The cluster {topology.cluster}, rendered by `tierlb compose` from topology.yaml beside this file."
    yield "What is edited here is lost when it is rendered again: write compose.override.yaml."
    yield ""
    yield "  docker compose up -d      starts it, or makes it what this file says; docker-compose 1.29 does, too"
    yield f"  tierlb status --admin http://{topology.admin} --token-file secrets/admin-token"
    yield "  tierlb scale NAME=N --compose ."
    yield "                            changes topology, file and containers; so do tier add, apply, rollback"
    yield "  docker compose down       ends it; with --volumes its history ends too"
    for pool in topology.pools.values():
        if pool.agents:
            yield ""
            yield f"Endpoints of {pool.name} join by themselves, in containers attached to the network to-{pool.name}:"
            yield f"  tierlb agent --pool {pool.name} --join {_join_url(rendering, pool.name)} --token-file FILE ..."
            yield f"with the token in secrets/{AGENT_TOKEN}{pool.name}."


def _name_faults(topology: Topology) -> Iterator[str]:
    aliases = {network_alias(name) for name in [*topology.tiers, *topology.pools]}
    for place, names in (("tiers", topology.tiers), ("pools", topology.pools)):
        for name in names:
            if name == CONTROLLER_SERVICE or name in aliases:
                yield f"{place}.{name}: the controller has this name in the networks: choose another one"
            elif NUMBER_LIKE.fullmatch(name):
                yield f"{place}.{name}: resolvers take this for an IP address: begin the name with a letter"


def _listen_faults(topology: Topology) -> Iterator[str]:
    yield from port_problems(topology)
    if topology.admin.port == 0:
        yield "admin.listen: a port that is published has to be named: choose one"
    for tier in topology.tiers.values():
        if published(tier) and (tier.replicas > 1 or tier.per_core):
            number = "several" if tier.per_core else tier.replicas
            yield (
                f"tiers.{tier.name}.replicas: one port cannot be published by {number} containers: write 1, and "
                "where that is not enough let a new l4 tier with one replica listen and send to this one"
            )


def _cpu_faults(topology: Topology) -> Iterator[str]:
    for tier in topology.tiers.values():
        if tier.cpus == ():
            yield f"tiers.{tier.name}.cpus: {NO_NUMBERS}"


def _count_warning(tier: Tier) -> str:
    return (
        f"tiers.{tier.name}.replicas: auto is {tier.replicas} here, one container per core of this machine: render "
        "where the engine runs, or write a number"
    )


def _pool_warnings(pool: Pool) -> Iterator[str]:
    if pool.run is not None and "{host}" not in pool.run.command:
        yield (
            f"pools.{pool.name}.run.command: it has no {{host}}, and a command that listens on 127.0.0.1 cannot be "
            "reached in its container"
        )
    for endpoint in pool.endpoints:
        if endpoint.host.startswith("127.") or endpoint.host == "::1":
            yield (
                f"pools.{pool.name}.endpoints: {endpoint} would be looked for inside of each node's own container: "
                "write an address of the host's network"
            )


def _service_network(topology: Topology, name: str) -> Document:
    labels = {"labels": {COMPOSE_CLUSTER_LABEL: topology.cluster}}
    return labels if name.startswith(WAY_OUT) else {"internal": True, **labels}


def _controller_service(rendering: Rendering) -> Document:
    topology = rendering.topology
    state = STATE_DIRECTORY if topology.store is None else None
    command = controller_command(
        "{pool}", token_file=_compose_secret(JOIN_TOKEN), admin_token_file=_compose_secret(ADMIN_TOKEN), state=state
    )
    tls = dict(zip(TLS_SECRETS, _places(rendering.tls), strict=True)) if rendering.tls else {}
    files = tls | {secret: _at_address(rendering, key) for key, secret in store_secrets(rendering).items()}
    of_tiers = {file_secret(name): _escaped(file_place(name)) for name in rendering.all_files}
    files |= {secret: place for secret, place in of_tiers.items() if place not in files.values()}
    return {
        "image": rendering.image,
        "command": _command_words(command[1:]),
        "working_dir": FOLDER,
        "ports": [f"{topology.admin}:{ADMIN_PORT}"],
        "volumes": [f"state:{STATE_DIRECTORY}", f"./topology.yaml:{MOUNTED_TOPOLOGY}:ro"],
        "secrets": [JOIN_TOKEN, ADMIN_TOKEN, *({"source": name, "target": files[name]} for name in files)],
        "healthcheck": _health(f"{CONTROL_PORT}/readyz", *tls.values()),
        **_common_service(rendering, "controller", {}),
        "stop_grace_period": f"{CONTROLLER_STOP_S}s",
        **CONTAINER_SECURITY,
    }


def _tier_services(rendering: Rendering, tier: Tier) -> Document:
    topology = rendering.topology
    token = f"{NODE_TOKEN}{tier.name}"
    handoff = handoff_directory(topology, tier)
    command = node_command(
        tier.name,
        _join_url(rendering, tier.name),
        tier.name,
        _compose_secret(token),
        state=None,
        handoff=handoff,
    )
    names = rendering.files.get(tier.name, ())
    files = ({"source": file_secret(name), "target": _escaped(file_place(name))} for name in names)
    ports = {"ports": list(map(_published_port, published(tier)))} if published(tier) else {}
    return {
        "image": rendering.image,
        "command": _command_words([*command[1:], *(tls_options(SECRETS_PATH) if rendering.tls else ())]),
        **service_scale(tier.replicas),
        **ports,
        "depends_on": _conditions(topology, tier),
        **({"volumes": [f"{HANDOFF}:{handoff}"]} if handoff else {}),
        "secrets": [token, *(TLS_SECRETS if rendering.tls else ()), *files],
        "healthcheck": _health(
            f"{NODE_CONTROL_PORT}/readyz", *map(_compose_secret, TLS_SECRETS if rendering.tls else ())
        ),
        **_common_service(rendering, "tier", {"tierlb.tier": tier.name}),
        "stop_grace_period": f"{stop_whole_s(topology, tier.name)}s",
        **({"cpuset": ",".join(map(str, tier.cpus))} if tier.cpus else {}),
        **service_limits(tier.resources),
        **CONTAINER_SECURITY,
    }


def _published_port(listens: ListenAddress) -> str:
    """The port of the machine and that of the container, which are the same. Without an address engines publish it for
    IPv4 and IPv6."""
    protocol = "" if listens.transport is Transport.TCP else f"/{listens.transport.value}"
    address, port = listens.address, listens.address.port
    return f"{port if address.host == EVERY_HOST else address}:{port}{protocol}"


def _pool_service(rendering: Rendering, pool: Pool, run: Run) -> Document:
    program, *words = pool_command(run)
    own = run.image is None
    check = {"healthcheck": _health(pool_probe(rendering.topology, pool.name))} if own else {}
    return {
        "image": run.image or rendering.image,
        "entrypoint": _command_words([program]),
        "command": _command_words(words),
        **service_scale(run.replicas),
        **check,
        **_common_service(rendering, POOL_KIND, {"tierlb.pool": pool.name}),
        "stop_grace_period": f"{stop_whole_s(rendering.topology, pool.name)}s",
        **service_limits(run.resources),
        **(CONTAINER_SECURITY if own else HARDENED),
    }


def _common_service(rendering: Rendering, kind: str, labels: Mapping[str, str]) -> Document:
    return {
        "labels": {COMPOSE_CLUSTER_LABEL: rendering.topology.cluster, KIND_LABEL: kind, **labels},
        "init": True,  # process 1 ignores SIGTERM until it has installed a handler
        "restart": "unless-stopped",
    }


def _conditions(topology: Topology, tier: Tier) -> Document:
    """The services that have to be up before the tier is started. Services whose readiness depends on others are not
    waited for."""
    waits = {CONTROLLER_SERVICE: True}
    for target in tier.targets:
        if target in topology.tiers:
            waits[target] = _comes_up_by_itself(topology, target)
        elif (run := topology.pools[target].run) is not None:
            waits[target] = run.image is None
    return {name: {"condition": f"service_{'healthy' if waits[name] else 'started'}"} for name in waits}


def _comes_up_by_itself(topology: Topology, name: str) -> bool:
    """Whether the service becomes ready if all that compose starts is: a node does if one endpoint below it does."""
    if name in topology.pools:
        return topology.pools[name].run is not None
    targets = topology.tiers[name].targets
    return not targets or any(_comes_up_by_itself(topology, target) for target in targets)


def _definition(service: Document) -> str:
    fixed = {key: value for key, value in service.items() if key not in CHANGEABLE}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:12]


def _join_url(rendering: Rendering, name: str) -> str:
    return f"{'wss' if rendering.tls else 'ws'}://{network_alias(name)}:{CONTROL_PORT}"


def _secrets(rendering: Rendering) -> tuple[str, ...]:
    tokens = (JOIN_TOKEN, ADMIN_TOKEN, *role_tokens(rendering.topology))
    files = map(file_secret, rendering.all_files)
    return (*tokens, *(TLS_SECRETS if rendering.tls else ()), *store_secrets(rendering).values(), *files)


def _compose_secret(name: str) -> str:
    return f"{SECRETS_PATH}/{name}"


def _places(tls: TlsFiles) -> tuple[str, ...]:
    """The paths at which the controller, which reads the topology file, looks for them."""
    return tuple(_escaped(file_place(name)) for name in attrs.astuple(tls))


def _at_address(rendering: Rendering, key: str) -> str:
    return _escaped(file_place(rendering.store[key]))


def _health(what: str, *files: str) -> Document:
    return {"test": ["CMD", *PROBE, what, *files], **HEALTH_TIMES}


def _command_words(words: Iterable[str]) -> list[str]:
    return [_escaped(word) for word in words]


def _escaped(text: str) -> str:
    """Escape `$`: compose would substitute a variable."""
    return text.replace("$", "$$")
