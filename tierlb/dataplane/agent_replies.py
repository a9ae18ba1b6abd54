"""A node's replies to agent checks of other balancers, at the address that the snapshot names."""

from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from tierlb.dataplane.upstream.agent_check import serve_agent_check
from tierlb.model.address import Address
from tierlb.model.load import SubtreeLoad
from tierlb.net.reactor import Reactor
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.agent_check import AGENT_NOTICE_S, NodeReplies, encode_reply

LISTEN_AGAIN_S = 5.0
"""After an address that cannot be bound."""
ASKED_LATELY_S = 10.0
"""A balancer that has not asked for this long is gone, or asks too seldom to be waited for."""


class AgentReplies:
    """`subtree` is what the node reports at a time."""

    def __init__(
        self, subtree: Callable[[float], SubtreeLoad], reactor: Reactor, log: Any, errors: InternalErrors
    ) -> None:
        self._subtree = subtree
        self._reactor = reactor
        self._log = log
        self._errors = errors
        self._replies = NodeReplies()
        self._address: Address | None = None
        self._moved = trio.Event()
        self._asked_at = -ASKED_LATELY_S

    def serve_at(self, address: Address | None) -> None:
        """Reply at this address from now on."""
        if address != self._address:
            self._address = address
            self._moved.set()

    def note(self, now: float, load: SubtreeLoad) -> None:
        """What the node reports now; replies follow it steadily."""
        self._replies.reply(now, load)

    def notice_s(self, now: float) -> float:
        """How long it takes until all balancers that ask have seen a change, 0 if none asked lately."""
        return AGENT_NOTICE_S if now - self._asked_at < ASKED_LATELY_S else 0.0

    async def run(self) -> None:
        """Until cancelled. Whatever is wrong with the address harms nothing else."""
        while True:
            self._moved = trio.Event()
            async with trio.open_nursery() as nursery:
                if self._address is not None:
                    nursery.start_soon(self._serve, self._address)
                await self._moved.wait()
                nursery.cancel_scope.cancel()

    async def _serve(self, address: Address) -> None:
        while True:
            try:
                await serve_agent_check(address, self._reply, partial(self._errors.note, "agent_check"))
            except OSError as error:
                reason = error.strerror or str(error)
                self._log.error("agent_check_listen_failed", address=str(address), reason=reason)
                await trio.sleep(LISTEN_AGAIN_S)

    def _reply(self) -> bytes:
        self._asked_at = now = self._reactor.look()
        return encode_reply(self._replies.reply(now, self._subtree(now)))
