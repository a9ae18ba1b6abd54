"""The process of `tierlb controller`: its control port, its signals, the files with credentials, and its turns.

Both ports are open from the start to the end. On standby they answer which controller is the active one, so nodes and
clients go on to that.

Left out: options and tokens (cli/controller.py), and the admin API (`AdminApi`), which the layer above serves.
"""

import signal
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import attrs
import trio

from tierlb.channel.durable import StoreError
from tierlb.channel.join_credentials import JoinCredentials, admin_token_posted, posted
from tierlb.channel.pages import ControllerPages
from tierlb.controller.active import ActiveController, ControllerParts
from tierlb.controller.turns import Turns
from tierlb.model.address import Address
from tierlb.net.cluster_tls import ClusterTls
from tierlb.net.keep_going import keep_going
from tierlb.net.tls import ContextNow
from tierlb.telemetry.log_quota import LogLosses
from tierlb.topology.problems import TopologyError
from tierlb.wire.credentials import Principal, Role

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@attrs.frozen
class ControllerSettings:
    """The values of the options. `listen`: of the control port. `state`: the directory for history and credentials.
    `name`: among several controllers; "": the name of the host."""

    listen: Address
    state: Path
    name: str = ""
    posts_join_credentials: bool = False
    """For nodes and agents of the same user, where no operator gave out the cluster's secret."""
    admin_token: str = ""
    """The one to post for commands of the same user; "" for none."""


@attrs.define
class ControllerProcess:
    """`run` it once."""

    settings: ControllerSettings
    parts: ControllerParts
    losses: LogLosses
    _active: ActiveController = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._active = ActiveController(self.parts)

    async def run(self) -> str:
        """Until a signal ends it: ""; else why it cannot go on. Raises TlsProblem."""
        problem, parts = "", self.parts
        files = parts.topology.tls
        tls = None if files is None else ClusterTls(files, parts.log)
        with trio.open_signal_receiver(*SIGNALS) as signals, ExitStack() as stack:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, signals, nursery.cancel_scope)
                if tls is not None:
                    parts.shown.append(tls.expiries)
                    nursery.start_soon(keep_going, parts.errors, "certificates", tls.watch)
                url = await self._open_control_port(nursery, None if tls is None else tls.control_server)
                self._post_credentials(stack, url)
                parts.log.info("control_port_opened", url=url, admin=str(parts.admin.address))
                try:
                    await self.take_turns(url)
                except (StoreError, TopologyError) as error:
                    problem = str(error)
                nursery.cancel_scope.cancel()
        return problem

    async def take_turns(self, url: str) -> None:
        """Be active when it is this process's turn. Raises StoreError and TopologyError."""
        turns, shared = Turns(self.parts, self._active), self.parts.topology.store
        if shared is None:
            await turns.lead_alone(self.settings.state)
        else:
            await turns.compete(shared, self.settings.name, url)

    async def _open_control_port(self, nursery: trio.Nursery, tls: ContextNow | None) -> str:
        """The URL for others."""
        parts = self.parts
        pages = ControllerPages(parts.errors, self.losses, parts.reception.unready)
        admit = parts.admission.admit
        bound = await nursery.start(parts.reception.serve, self.settings.listen, admit, tls, pages.find)
        return f"{'ws' if tls is None else 'wss'}://{reachable(bound)}"

    def _post_credentials(self, stack: ExitStack, url: str) -> None:
        state, admission = self.settings.state, self.parts.admission
        if self.settings.posts_join_credentials:
            agent, node = (admission.credential(Principal(role)) for role in (Role.AGENT, Role.NODE))
            stack.enter_context(posted(state, JoinCredentials(url, agent), node))
        if self.settings.admin_token:
            stack.enter_context(admin_token_posted(state, self.settings.admin_token))

    async def _obey(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        """SIGHUP has the file read again, any other signal ends the process."""
        async for number in signals:
            if number != signal.SIGHUP:
                everything.cancel()
                return
            self._active.read_file_again()


def reachable(bound: Address) -> str:
    """The address for others."""
    return f"{socket.gethostname()}:{bound.port}" if ip_address(bound.host).is_unspecified else str(bound)
