"""What all processes of a cluster on this machine have in common: how they are started and how long their end takes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import trio

from tierlb.balance.stop_times import drain_times, stop_s
from tierlb.channel.log import Log
from tierlb.local.guard import Guard
from tierlb.local.managed_process import ManagedProcess
from tierlb.local.program import Lending, Program
from tierlb.model.topology import DRAIN_S, Topology
from tierlb.node.process import TOKEN_VARIABLE
from tierlb.telemetry.internal_errors import InternalErrors


@attrs.define
class Launcher:
    """Starts processes in `nursery`; when that is cancelled they are killed."""

    nursery: trio.Nursery
    guard: Guard
    log: Log
    errors: InternalErrors
    make: Callable[..., ManagedProcess] = ManagedProcess
    _drains: dict[str, float] = attrs.field(factory=dict, init=False)
    """The drain times of tiers and pools, also of those that were removed while their processes end."""

    def note_drains(self, topology: Topology) -> None:
        """The drain times of this topology apply from now on."""
        self._drains |= drain_times(topology)

    def start(self, name: str, argv: tuple[str, ...], lending: Lending | None = None, **options: Any) -> ManagedProcess:
        """A process that is kept running until it is stopped; `options` are those of ManagedProcess."""
        program = Program(argv, environment(), self.guard, lending)
        process = self.make(name, program, self.log, errors=self.errors, **options)
        self.nursery.start_soon(process.run)
        return process

    def drain_s(self, group: str) -> float:
        """The drain time of a tier or pool."""
        return self._drains.get(group, DRAIN_S)

    def stop_s(self, group: str) -> float:
        """From SIGTERM to SIGKILL, of a tier's nodes or a pool's endpoints."""
        return stop_s(self.drain_s(group))

    def stop_soon(self, process: ManagedProcess, group: str) -> None:
        """Stop a process of this tier or pool. It ends even if no task waits for that any more."""
        self.nursery.start_soon(process.stop, self.stop_s(group))


def environment() -> dict[str, str]:
    """The environment of processes that are started here: without this process's own token."""
    env = {**os.environ, "PATH": search_path()}
    env.pop(TOKEN_VARIABLE, None)
    return env


def search_path() -> str:
    """PATH with this interpreter's directory first, so that `tierlb` in a command is the running version."""
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
