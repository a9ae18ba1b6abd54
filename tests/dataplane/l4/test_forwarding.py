"""The way to each host is chosen for it."""

import os
from typing import Any

from tests.dataplane.conftest import Lab, l4
from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.forwarding import Forwarder
from tierlb.dataplane.upstream.host import Host


class Choosy(Forwarder):
    """Reaches one host, and leaves what it is given open."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.given: list[int] = []

    def reaches(self, host: Host) -> bool:
        return host is self.host

    def begin(self, client: int, caller: Caller, host: Host, tried: tuple[Host, ...]) -> int:
        self.given.append(client)
        return 0


async def test_the_best_way_that_reaches_a_host_is_taken(lab: Lab) -> None:
    near, far = await lab.endpoint(), await lab.endpoint()
    await lab.serves(l4(near, far))
    front: Any = lab.front
    choosy, relay = Choosy(lab.host(near)), front.forwarders[-1]
    front.forwarders = (choosy, relay)
    assert front.forwarder_to(lab.host(near)) is choosy
    assert front.forwarder_to(lab.host(far)) is relay
    for _ in range(2):
        await (await lab.connects()).says(b"hello")
    await (await far.accepts()).hears(b"hello")
    await lab.until(lambda: choosy.given)
    os.close(choosy.given[0])
