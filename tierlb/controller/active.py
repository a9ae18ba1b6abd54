"""What a controller's process does while it is the active one: it leads the cluster that its store describes."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import attrs
import trio

from tierlb.channel.admission import Admission
from tierlb.channel.durable import StoreError
from tierlb.channel.log import Log
from tierlb.controller.change_runner import ChangeUnderWay
from tierlb.controller.changes import Changes, Request
from tierlb.controller.controller import Controller
from tierlb.controller.elsewhere import Elsewhere
from tierlb.controller.engine import ProcessEngine
from tierlb.controller.file_text import FileText
from tierlb.controller.following import Following
from tierlb.controller.history import Conflict
from tierlb.controller.observer import Observer
from tierlb.controller.overview import ShownNow
from tierlb.controller.proposals import NotPossible
from tierlb.controller.reception import Reception
from tierlb.controller.returning import RETURN_S
from tierlb.controller.startup import AT_START, take_over
from tierlb.controller.store import Store
from tierlb.controller.waiting import log_slow_start
from tierlb.model.address import Address
from tierlb.model.topology import Topology
from tierlb.net.keep_going import alone
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.topology.problems import TopologyError

APPLY_AGAIN_S = 1.0
"""Between two attempts to apply the file, while another change is under way."""


class AdminApi(Protocol):
    """The port of the admin API (admin/port.py), which is open for as long as the process runs."""

    @property
    def address(self) -> Address:
        """Where it listens."""

    async def serve(self, observer: Observer, changes: Changes, *, task_status: trio.TaskStatus[None]) -> None:
        """Show the cluster and take changes, until cancelled."""

    async def stand_by(self, reason: Callable[[], str], *, task_status: trio.TaskStatus[None]) -> None:
        """Answer every request with the reason, until cancelled."""


@attrs.frozen
class ControllerParts:
    """What lasts for as long as the process, whether it is active or on standby."""

    topology: Topology
    """Of the file at the start."""
    file: Path
    text: str
    engine: ProcessEngine
    who: str
    """The user in whose name the file is applied."""
    log: Log
    errors: InternalErrors
    admission: Admission
    admin: AdminApi
    shown: list[ShownNow] = attrs.field(factory=list, init=False)
    """The certificates that the process shows."""
    reception: Reception = attrs.field(
        default=attrs.Factory(lambda self: Reception(self.log, self.errors), takes_self=True), init=False
    )


@attrs.define
class ActiveController:
    """`lead` once for each turn."""

    _parts: ControllerParts
    _file: FileText = attrs.field(init=False)
    _following: Following | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._file = FileText(self._parts.file, self._parts.text, self._parts.log)

    async def lead(self, store: Store, lost: trio.Event) -> None:
        """Be the active controller until the turn is over. Raises StoreError and TopologyError."""
        parts = self._parts
        log, errors, reception = parts.log, parts.errors, parts.reception
        controller = Controller(parts.topology, log, engine=parts.engine, admission=parts.admission, errors=errors)
        controller.overview.shown = parts.shown
        changes = Changes(controller, store, log, name=str(parts.file), machines=Elsewhere(controller))
        text = await self._file.read()
        controller.registry.adopt(await take_over(changes, text, parts.who))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(controller.run)
            await nursery.start(changes.run)
            reception.open(controller)
            await nursery.start(parts.admin.serve, controller.observer, changes)
            log.info("controller_activated", revision=changes.history.active)
            slow_start = partial(log_slow_start, controller.readiness, log)
            nursery.start_soon(alone, errors, "slow start", slow_start)
            if not changes.history.has_text(text):
                nursery.start_soon(alone, errors, "topology file", partial(self.apply_edit, changes, text))
            self._following = Following(parts.file, changes, log, parts.who, errors)
            nursery.start_soon(self._following.run_on_request)
            try:
                await lost.wait()
            finally:
                self._following = None
            log.warning("controller_deactivated")
            reception.close(lambda: "this controller was active until now")
            nursery.cancel_scope.cancel()

    def read_file_again(self) -> None:
        """Apply the file as it is now, where this controller is active."""
        if self._following is not None:
            self._following.ask()
        else:
            reason = "this controller is not active: send SIGHUP to the active one"
            self._parts.log.warning("hangup_ignored", reason=reason)

    async def apply_edit(self, changes: Changes, text: str) -> None:
        """The file was edited while no controller ran. The nodes serve what is stored, so apply the file as a change.
        What another controller began, and what operators do meanwhile, comes first."""
        await trio.sleep(RETURN_S)
        try:
            while True:
                with contextlib.suppress(ChangeUnderWay):
                    await changes.apply(text, Request(self._parts.who, AT_START), AT_START)
                    return
                await trio.sleep(APPLY_AGAIN_S)
        except (Conflict, NotPossible, StoreError, TopologyError) as problem:
            file = str(self._parts.file)
            self._parts.log.error("topology_file_apply_failed", file=file, reason=str(problem))
