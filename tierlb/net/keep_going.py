"""Tasks beside others: an error of one is noted and ends no other. Loops that run for as long as the process begin
anew."""

from collections.abc import Awaitable, Callable

import trio

from tierlb.telemetry.internal_errors import InternalErrors

RESTART_PAUSE_S = 1.0
"""So that a loop that fails at once costs next to nothing."""


async def alone(errors: InternalErrors, where: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run it; an error ends it and nothing beside it."""
    with errors.barrier(where):
        await run()


async def keep_going(errors: InternalErrors, where: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run it until it returns; again a moment after each error."""
    done = False
    while not done:
        with errors.barrier(where):
            await run()
            done = True
        if not done:
            await trio.sleep(RESTART_PAUSE_S)
