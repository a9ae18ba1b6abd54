"""What a node serves: the snapshot applied last, at which addresses, and whether new traffic is welcome.

The data plane reads that snapshot and never waits for a newer one. A snapshot that it serves already is acknowledged
without touching it, as after a reconnect.
"""

from collections.abc import Callable
from typing import Protocol

import attrs

from tierlb.channel.log import Log
from tierlb.model.address import Address, parse_address
from tierlb.model.load import SubtreeLoad
from tierlb.model.snapshot import Send, Snapshot
from tierlb.model.topology import Admin
from tierlb.node.placement import Placement
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.frames import Ack, Hello, Refuse


class Configurable(Protocol):
    """What is configured: a data plane."""

    def apply(self, snapshot: Snapshot, had: tuple[Address, ...] = ()) -> tuple[Address, ...]:
        """Serve the snapshot; the addresses bound, parallel to its listeners, as are those that it `had` before.
        Raises, keeping the old one."""

    def subtree(self) -> SubtreeLoad:
        """This node and everything below it."""


@attrs.define
class Configuration:
    """A `channel.controller_link.SnapshotServer`. `refused` is the exception by which the plane declines a snapshot;
    `on_changed` is called after each that it serves."""

    plane: Configurable
    refused: type[Exception]
    log: Log
    errors: InternalErrors
    placement: Placement = Placement()
    on_changed: Callable[[], None] = lambda: None
    pin: Callable[[tuple[int, ...] | None], None] = lambda cpus: None
    """Runs the process on the CPUs of its tier."""
    draining: bool = False
    snapshot: Snapshot | None = attrs.field(default=None, init=False)
    bound: tuple[Address, ...] = attrs.field(default=(), init=False)
    """The addresses of the snapshot's listeners on this machine."""
    _here: str = attrs.field(default="", init=False)

    def hello_of(self, hello: Hello, local_host: str) -> Hello:
        """The hello with the addresses for others, which may depend on `local_host`."""
        self._here = local_host
        control = self.placement.control_name or str(self.placement.announced(parse_address(hello.control), self._here))
        return attrs.evolve(hello, data=self._data_address(), control=control)

    def serve(self, snapshot: Snapshot) -> Ack | Refuse:
        """Apply it unless it is served already."""
        with self.errors.barrier("snapshot", revision=snapshot.revision):
            if snapshot == self.snapshot:
                return Ack(snapshot.revision, self._announced())
            return self.apply(snapshot)
        return Refuse(snapshot.revision, "an internal error of the node: see internal_error in its log")

    def apply(self, snapshot: Snapshot, had: tuple[Address, ...] = ()) -> Ack | Refuse:
        """Serve it, at the addresses that it `had` if they are free."""
        try:
            self.bound = self.plane.apply(self.placement.localised(snapshot), had)
        except self.refused as problem:
            self.log.error("snapshot_refused", revision=snapshot.accepted, reason=str(problem))
            return Refuse(snapshot.revision, str(problem))
        self.snapshot = snapshot
        self.pin(snapshot.cpus)
        self.on_changed()
        return Ack(snapshot.revision, self._announced())

    def unready(self) -> str:
        """Why new traffic would find nothing here; "" if it is welcome."""
        if self.draining:
            return "it drains"
        if self.snapshot is None:
            return "it has no configuration yet"
        if self.snapshot.admin is not Admin.READY:
            return f"it is wanted in {self.snapshot.admin.value}"
        load = self.plane.subtree()
        sends = [rule.action for rule in self.snapshot.rules if isinstance(rule.action, Send)]
        if sends and not load.leaves and not any(each.hosts for send in sends for each in send.destinations):
            return "no host is below it yet"
        return "no endpoint below it is ready" if load.leaves and not load.ready_leaves else ""

    def has_parents(self) -> bool:
        """Whether other nodes send to this one."""
        return self.snapshot is not None and any(listener.inner for listener in self.snapshot.listeners)

    def _announced(self) -> tuple[Address, ...]:
        return tuple(self.placement.announced(address, self._here) for address in self.bound)

    def _data_address(self) -> str:
        """Where its parents reach it, or its clients where there are none; "" while it serves nothing."""
        listeners = self.snapshot.listeners if self.snapshot is not None else ()
        pairs = sorted(zip(listeners, self._announced(), strict=True), key=lambda pair: not pair[0].inner)
        return str(pairs[0][1]) if pairs else ""
