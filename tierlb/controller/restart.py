"""A rolling restart: a new process in the place of each node of a tier, one after the other."""

import trio

from tierlb.controller.controller import Controller
from tierlb.controller.machines import Machines
from tierlb.controller.progress import Progress
from tierlb.topology.units import duration_text

REPLACE_S = 20.0
"""For one new process to serve."""
ENDED_SOON_S = 3.0
"""Old processes that end within it need no words."""


async def restart_tier(controller: Controller, machines: Machines, tier: str, progress: Progress) -> str:
    """The outcome. A new process that does not serve ends the restart, and the old one stays."""
    topology = controller.topology
    names = controller.registry.expected(topology.tiers[tier])
    progress.stages = len(names)
    for number, name in enumerate(names, start=1):
        progress.stage = number
        try:
            with trio.fail_after(REPLACE_S):
                await machines.replace(topology, name)
        except trio.TooSlowError:
            progress.reason = f"the new process of {name} does not serve after {REPLACE_S:g} s: the old one stays"
            progress.add(progress.reason)
            return "failed"
        progress.add(f"{name} is a new process")
    with trio.move_on_after(ENDED_SOON_S) as ended_soon:
        await machines.wait_replaced()
    if ended_soon.cancelled_caught:
        drain = duration_text(topology.tiers[tier].drain_s)
        progress.add(f"waiting for what is under way at the old processes, which have up to {drain}")
        await machines.wait_replaced()
    return "done"
