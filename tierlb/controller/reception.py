"""Where nodes join a controller: its control port, which is open also while another controller is the active one.

On standby whoever comes is told so and tries the next address. When this controller is active no more, all its
connections end: what it says counts no longer.

Left out: who is active (election.py), and what is said (link.py).
"""

from collections.abc import Callable

import attrs
import trio

from tierlb.controller.controller import Controller
from tierlb.controller.link import serve_child
from tierlb.net.websocket import Channel

STARTING = "this controller is starting"


@attrs.define
class Reception:
    """`reason` says why nobody is taken in now, while there is no controller."""

    reason: Callable[[], str] = lambda: STARTING
    controller: Controller | None = None
    _scopes: set[trio.CancelScope] = attrs.field(factory=set, init=False)

    def open(self, controller: Controller) -> None:
        """Nodes join this one from now on."""
        self.controller = controller

    def close(self, reason: Callable[[], str]) -> None:
        """Nobody may join, and who has joined is let go."""
        self.controller, self.reason = None, reason
        for scope in self._scopes:
            scope.cancel()

    def unready(self) -> str:
        """Why nodes cannot join now; "" if they can."""
        return "" if self.controller is not None else self.reason()

    async def attend(self, channel: Channel) -> None:
        """One connection, until it ends."""
        if self.controller is None:
            await channel.close(self.reason())
            return
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await serve_child(self.controller, channel)
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            await channel.close(self.reason())
