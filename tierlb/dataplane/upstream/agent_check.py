"""HAProxy's agent-check in both roles: ask the agents of hosts, and answer for this node.

Plain trio beside the reactor: a question every two seconds is not worth a state machine. Each host is asked by a
task of its own that waits for the answer before it asks again, so checks never pile up. As at HAProxy, an agent that
cannot be reached changes nothing: its last answer holds, because whether the host works is found out elsewhere.

Left out: the effects of a reply (balance/), and TLS.
"""

import random
from collections.abc import Callable, Hashable, Mapping

import attrs
import trio

from tierlb.model.address import Address
from tierlb.net.door import raise_it
from tierlb.net.self_connect import open_stream
from tierlb.telemetry.internal_errors import barrier
from tierlb.wire.agent_check import MAX_REPLY_BYTES, AgentReply, parse_reply

INTERVAL_S = 2.0
"""HAProxy's default for agent-inter."""
AGENT_CHECKS_AT_ONCE = 64
ANSWERS_AT_ONCE = 64
AGENT_LINGER_S = 1.0
"""How long the server waits for the asker to close: closing first, with agent-send unread, would reset the connection
and could take the answer with it."""


@attrs.define
class AgentChecks:
    """Asks agents and passes each answer on to `on_word`. `failed` counts questions that got no whole line."""

    on_word: Callable[[Hashable, AgentReply], None]
    rng: random.Random
    interval_s: float = INTERVAL_S
    timeout_s: float = INTERVAL_S
    agent_send: bytes = b""
    on_crash: Callable[[Exception], object] = raise_it
    answered: int = attrs.field(default=0, init=False)
    failed: int = attrs.field(default=0, init=False)
    _wanted: dict[Hashable, Address] = attrs.field(factory=dict, init=False)
    _asked: dict[Hashable, tuple[Address, trio.CancelScope]] = attrs.field(factory=dict, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _at_once: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(AGENT_CHECKS_AT_ONCE), init=False)

    def replace(self, agents: Mapping[Hashable, Address]) -> None:
        """Ask these agents from now on; no answer of others is passed on after this."""
        self._wanted = dict(agents)
        for key, (address, scope) in list(self._asked.items()):
            if self._wanted.get(key) != address:
                scope.cancel()
                del self._asked[key]
        self._changed.set()

    async def run(self) -> None:
        """Ask for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                for key, address in self._wanted.items():
                    if key not in self._asked:
                        scope = trio.CancelScope()
                        self._asked[key] = (address, scope)
                        nursery.start_soon(self._ask_again_and_again, key, address, scope)
                await self._changed.wait()
                self._changed = trio.Event()

    async def _ask_again_and_again(self, key: Hashable, address: Address, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(self.interval_s * self.rng.uniform(0.0, 0.5))  # so that many nodes do not ask in step
            while True:
                started_s = trio.current_time()
                with barrier(self.on_crash):  # or an error over one agent's answer would end the questions to all
                    reply = await self._ask(address)
                    if reply is None:
                        self.failed += 1
                    else:
                        self.answered += 1
                        self.on_word(key, reply)
                await trio.sleep_until(started_s + self.interval_s * self.rng.uniform(0.9, 1.1))

    async def _ask(self, address: Address) -> AgentReply | None:
        """The answer of one agent; None if no whole line came in time, which HAProxy ignores too."""
        line = b""
        async with self._at_once:
            with trio.move_on_after(self.timeout_s):
                try:
                    line = await _read_line(address, self.agent_send)
                except (OSError, trio.BrokenResourceError):
                    return None
        return parse_reply(line) if line.endswith((b"\n", b"\r")) else None


async def _read_line(address: Address, agent_send: bytes) -> bytes:
    """The agent's reply up to its first line end, that included; without one if the agent closed first or sent too
    much."""
    async with await open_stream(address.host, address.port) as stream:
        if agent_send:
            await stream.send_all(agent_send)
        received = b""
        while len(received) <= MAX_REPLY_BYTES:
            chunk = await stream.receive_some(MAX_REPLY_BYTES)
            received += chunk
            ends = [at for at in (received.find(b"\n"), received.find(b"\r")) if at >= 0]
            if ends or not chunk:
                return received[: min(ends) + 1] if ends else received
        return received


async def serve_agent_check(
    address: Address,
    say: Callable[[], bytes],
    on_crash: Callable[[Exception], object] = raise_it,
    *,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer each connection with one line, for ever. Gives the address bound; raises OSError if that fails."""
    asking = 0

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal asking
        if asking >= ANSWERS_AT_ONCE:
            await trio.aclose_forcefully(stream)
            return
        asking += 1
        try:
            with barrier(on_crash), trio.move_on_after(AGENT_LINGER_S):
                await _tell(stream, say())
        finally:
            asking -= 1
            await trio.aclose_forcefully(stream)

    listeners = await trio.open_tcp_listeners(address.port, host=address.host)
    task_status.started(Address(address.host, listeners[0].socket.getsockname()[1]))
    await trio.serve_listeners(answer, listeners)


async def _tell(stream: trio.SocketStream, line: bytes) -> None:
    try:
        await stream.send_all(line)
        await stream.send_eof()
        while await stream.receive_some(MAX_REPLY_BYTES):
            await trio.lowlevel.checkpoint()
    except trio.BrokenResourceError:
        return
