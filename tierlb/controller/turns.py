"""When a controller's process is the active one: always, or whenever it is elected among several; else on standby."""

import socket
from collections.abc import Callable
from pathlib import Path

import attrs
import trio

from tierlb.channel.durable import StoreError
from tierlb.controller.active import ActiveController, ControllerParts
from tierlb.controller.store import FileStore, Store
from tierlb.model.topology import SharedStore
from tierlb.topology.problems import TopologyError

LEADER = "leader"
CANNOT_ASK = "etcd cannot be reached: see this controller's log"
STEP_BACK_S = 1.0
"""After a turn that failed: another controller may be able to do what this one could not."""


@attrs.frozen
class Turns:
    """`run` for as long as the process does."""

    parts: ControllerParts
    active: ActiveController

    async def lead_alone(self, state: Path) -> None:
        """Be the only controller; for ever. Raises StoreError and TopologyError."""
        store = FileStore(state)
        try:
            await self.active.lead(store, trio.Event())
        finally:
            await store.close()

    async def compete(self, shared: SharedStore, name: str, url: str) -> None:
        """Be active whenever elected, and on standby meanwhile; for ever. `name` and `url`: of this controller, for
        others. Raises StoreError where etcd never lets this controller in."""
        from tierlb.controller.election import Election
        from tierlb.controller.etcd import open_etcd
        from tierlb.controller.etcd_access import Denied, parse_store_url
        from tierlb.controller.etcd_store import EtcdStore

        directory = parse_store_url(shared.url).directory(self.parts.topology.cluster)
        etcd = open_etcd(shared)
        election = Election(etcd, f"{directory}/{LEADER}", name or socket.gethostname(), url, self.parts.log)

        def standby() -> str:
            # without the problem, which names users, files and addresses: anyone may read this
            why = f" ({CANNOT_ASK})" if election.problem() else ""
            return f"this controller is on standby: {election.current() or 'none'} is the active one{why}"

        denied = None
        try:
            while denied is None:
                self.parts.reception.close(standby)
                failed = True
                with self.parts.errors.barrier("election"):
                    async with trio.open_nursery() as nursery:
                        waiting = await nursery.start(self._stand_by, standby)
                        try:
                            async with election.lead() as leadership:
                                waiting.cancel()
                                store = EtcdStore(etcd, directory, leadership.fence())
                                await self.try_to_lead(store, leadership.lost)
                        except Denied as problem:
                            denied = problem  # raised below, where no group is made of it
                            waiting.cancel()
                    failed = False
                if failed:
                    await trio.sleep(STEP_BACK_S)
            raise denied
        finally:
            await etcd.close()

    async def try_to_lead(self, store: Store, lost: trio.Event) -> None:
        """One turn, whose failure does not end the process."""
        try:
            await self.active.lead(store, lost)
        except (StoreError, TopologyError) as problem:
            self.parts.log.error("activation_failed", reason=str(problem))
            await trio.sleep(STEP_BACK_S)
        except Exception as error:
            self.parts.errors.note("active controller", error)
            await trio.sleep(STEP_BACK_S)

    async def _stand_by(self, reason: Callable[[], str], *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.parts.admin.stand_by, reason)
                self.parts.log.info("standby_started")
                task_status.started(scope)
