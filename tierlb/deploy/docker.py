"""A running compose project: its state, and the execution of what containers.py decides.

Both command lines are used, docker's and compose's (the plugin, or docker-compose 1.29): they are configured to find
the engine and may use it. Compose starts containers from its file, and never recreates any; docker connects networks
and ends containers, because compose would also do what must not happen.

All calls block, for seconds at most; no traffic waits for them.
"""

import json
import os
import select
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from tierlb.deploy.compose import COMPOSE_CLUSTER_LABEL, DEFINITION_LABEL, KIND_LABEL, POOL_KIND, Document
from tierlb.deploy.compose_network import CONTROLLER_SERVICE
from tierlb.deploy.container import PYTHON
from tierlb.deploy.containers import (
    Container,
    ContainerLink,
    Decline,
    Growth,
    Scene,
    awaited,
    decline,
    growth,
    in_use,
    stop_rounds,
)
from tierlb.topology.units import LONGEST_DURATION_S

COMMAND_S = 120.0
"""Starting a few dozen containers takes a busy machine some seconds."""
STOP_MOST_S = LONGEST_DURATION_S + COMMAND_S
"""The engine kills containers after the stop time of their service, which is a drain time at most."""
ENGINE_READY_S = 60.0
FINISH_S = 10.0
"""The time that a node which is asked to end waits for work in progress."""
ENGINE_POLL_S = 0.5
PROJECT_LABEL, SERVICE_LABEL = "com.docker.compose.project", "com.docker.compose.service"
NUMBER_LABEL, NETWORK_LABEL = "com.docker.compose.container-number", "com.docker.compose.network"
ONCE_LABEL = "com.docker.compose.oneoff"
PLUGIN, STANDALONE = ("docker", "compose"), ("docker-compose",)
CONNECTION_TABLES = (*PYTHON, "-c", "print(open('/proc/net/tcp').read() + open('/proc/net/udp').read())")
MOST_ERROR_CHARS = 600


class EngineError(Exception):
    """The engine failed; the text says what, why and what to do."""


@attrs.frozen
class ComposeEngine:
    """One project. `compose`: its command. `tell`: called with a line for each step."""

    directory: Path
    compose: tuple[str, ...]
    project: str
    tell: Callable[[str], None]
    ready_s: float = ENGINE_READY_S
    finish_s: float = FINISH_S

    def scene(self) -> Scene:
        """The current state. Raises EngineError, as do all other methods."""
        networks = self._networks()
        ids = self._listed("ps", "-a", "--no-trunc", "--filter", f"label={ONCE_LABEL}=False", label=DEFINITION_LABEL)
        found = _inspected("container", ids)
        return Scene(
            self.project, tuple(_container_state(each, networks) for each in found), frozenset(networks.values())
        )

    def grow(self, document: Document) -> None:
        """Start and connect what the document has and does not exist yet."""
        self._grow(growth(document, self.scene()), document)

    def shrink(self, document: Document) -> None:
        """End and disconnect what the document does not have, when its successors are ready."""
        for waiting in _stop_rounds(self.ready_s):
            if not (late := awaited(document, self.scene())):
                break
            if not waiting:
                raise EngineError(
                    f"{', '.join(late)} cannot be made anew: not ready after {self.ready_s:g} s, so the old containers "
                    f"were left: see `{' '.join(self.compose)} logs {late[0]}` in {self.directory}"
                )
        self._decline(decline(document, self.scene()))

    def _grow(self, plan: Growth, document: Document) -> None:
        for network, internal in plan.networks.items():
            labels = {**document["networks"][network]["labels"], PROJECT_LABEL: self.project, NETWORK_LABEL: network}
            options = [f"--label={name}={value}" for name, value in labels.items()]
            _run_compose(
                "docker", "network", "create", *options, *(["--internal"] if internal else []), self._real(network)
            )
        for link in plan.links:
            aliases = [f"--alias={alias}" for alias in link.aliases]
            _run_compose("docker", "network", "connect", *aliases, self._real(link.network), link.container)
        if plan.numbers:
            self.tell(f"starting {', '.join(f'{name}: {number}' for name, number in plan.numbers.items())} in all")
            scales = [f"--scale={name}={number}" for name, number in plan.numbers.items()]
            up = ("up", "--detach", "--no-deps", "--no-recreate", *scales, *plan.numbers)
            _run_compose(*self.compose, *up, cwd=self.directory)

    def _decline(self, plan: Decline) -> None:
        for ending in stop_rounds(plan.containers):
            ids = [each.id for each in ending]
            self.tell(f"ending {', '.join(_called(each) for each in ending)}")
            _run_compose("docker", "stop", *ids, within_s=STOP_MOST_S)  # each has the stop time of its service
            _run_compose("docker", "rm", "--force", "--volumes", *ids)
        kept = list(plan.links)
        for waiting in _stop_rounds(self.finish_s):
            kept = [link for link in kept if not self._disconnected(link)]
            if not (kept and waiting):
                break
        for link in kept:
            self.tell(f"{link.container[:12]} stays in {link.network}, where it has connections")
        for network in set(plan.networks) - {link.network for link in kept}:
            self._remove(network)

    def _disconnected(self, link: ContainerLink) -> bool:
        """Whether the container is disconnected now, which happens once no data passes there any more."""
        scene = self.scene()
        container = next((each for each in scene.containers if each.id == link.container), None)
        if container is None:
            return True
        if container.running and container.service != CONTROLLER_SERVICE and not _is_idle(container, link.network):
            return False
        _run_compose("docker", "network", "disconnect", self._real(link.network), link.container)
        return True

    def _remove(self, network: str) -> None:
        try:
            _run_compose("docker", "network", "rm", self._real(network))
        except EngineError as error:
            self.tell(f"the network {self._real(network)} is left: {error}")

    def _networks(self) -> dict[str, str]:
        """The networks' names in the compose file, by those in the engine."""
        found = _inspected("network", self._listed("network", "ls", label=COMPOSE_CLUSTER_LABEL))
        return {each["Name"]: each["Labels"].get(NETWORK_LABEL, "") for each in found}

    def _listed(self, *command: str, label: str) -> list[str]:
        mine = (f"--filter=label={PROJECT_LABEL}={self.project}", f"--filter=label={label}")
        return _run_compose("docker", *command, "--quiet", *mine).split()

    def _real(self, network: str) -> str:
        return f"{self.project}_{network}"


def find_engine(directory: Path, tell: Callable[[str], None]) -> ComposeEngine:
    """The project that was started from there. Raises EngineError."""
    compose = _compose()
    controllers = _run_compose(*compose, "ps", "--quiet", CONTROLLER_SERVICE, cwd=directory).split()
    if not controllers:
        raise EngineError(f"nothing runs from {directory}: start it there with `{' '.join(compose)} up -d`")
    labels = _inspected("container", controllers)[0]["Config"]["Labels"]
    return ComposeEngine(directory, compose, labels[PROJECT_LABEL], tell)


def _compose() -> tuple[str, ...]:
    for command in (PLUGIN, STANDALONE):
        try:
            _run_compose(*command, "version")
        except EngineError:
            continue
        return command
    raise EngineError("neither `docker compose` nor docker-compose can be run: install one of them")


def _container_state(found: Any, networks: dict[str, str]) -> Container:
    labels, state = found["Config"]["Labels"], found["State"]
    joined = found["NetworkSettings"]["Networks"]
    bindings = found["HostConfig"]["PortBindings"] or {}
    places = [(binding, port) for port, each in bindings.items() for binding in each or ()]
    return Container(
        found["Id"],
        labels[SERVICE_LABEL],
        int(labels[NUMBER_LABEL]),
        labels[DEFINITION_LABEL],
        state["Running"],
        state["Running"] and state.get("Health", {"Status": "healthy"})["Status"] == "healthy",
        {networks[name]: joined[name]["IPAddress"] for name in joined if name in networks},
        frozenset(_service_place(each["HostIp"], each["HostPort"], port) for each, port in places),
        labels.get(KIND_LABEL) == POOL_KIND,
    )


def _service_place(host: str, port: str, inside: str) -> str:
    """`inside`: the port in the container, with its protocol."""
    protocol = "/udp" if inside.endswith("/udp") else ""
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}") + protocol


def _is_idle(container: Container, network: str) -> bool:
    return not in_use(_run_compose("docker", "exec", container.id, *CONNECTION_TABLES), container.networks[network])


def _called(container: Container) -> str:
    return f"{container.service} {container.number} ({container.id[:12]})"


def _stop_rounds(seconds: float) -> Iterator[bool]:
    """True again and again, with a pause after each, and False at the end."""
    for _ in range(int(seconds / ENGINE_POLL_S)):
        yield True
        select.select((), (), (), ENGINE_POLL_S)
    yield False


def _inspected(kind: str, names: Sequence[str]) -> list[Any]:
    if not names:
        return []
    found: list[Any] = json.loads(_run_compose("docker", kind, "inspect", *names))
    return found


def _run_compose(*command: str, cwd: Path | None = None, within_s: float = COMMAND_S) -> str:
    """The output of the command. Raises EngineError."""
    env = {**os.environ, "COMPOSE_IGNORE_ORPHANS": "true"}
    try:
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=within_s, check=True)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip()[-MOST_ERROR_CHARS:]
        raise EngineError(f"`{' '.join(command[:4])} ...` failed: {said}") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"`{' '.join(command[:4])} ...` is not done after {within_s:g} s: see the engine") from error
    except OSError as error:
        raise EngineError(f"{command[0]} cannot be run: {error.strerror}. Install it") from error
    return done.stdout
