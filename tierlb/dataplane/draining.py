"""How a drain ends: when nothing is left, or at its deadline, which cuts what is left.

`balance.drain` computes the deadline. Until then, responses, tunnels and relayed connections go on. At the deadline,
requests without a response are answered 503 and the rest is closed; those last answers have a moment to be written.

Left out: what begins a drain (`plane`), and that public listeners are closed first (`listening`).
"""

import trio

from tierlb.balance.drain import LAST_ANSWERS_S
from tierlb.dataplane.runtime import Serving
from tierlb.net.reactor import Reactor

DRAIN_CHECK_S = 0.05
"""Between two looks whether anything is left. The hot path does not announce it."""


async def finish_drain(serving: Serving, reactor: Reactor) -> None:
    """Wait until nothing is under way, or cut what is at the deadline."""
    while not serving.drained and not serving.drain_time.is_over(reactor.look()):  # noqa: ASYNC110
        await trio.sleep(DRAIN_CHECK_S)
    if not serving.drained:
        serving.cut()
        with trio.move_on_after(LAST_ANSWERS_S):
            while not serving.drained:  # noqa: ASYNC110
                await trio.sleep(DRAIN_CHECK_S)
