"""What the controller knows of one node or agent, and its end of the connection to it.

Left out: what follows from it (controller.py), and how the connection is driven (reception.py).
"""

from collections import deque

import attrs
import trio

from tierlb.controller.status import State
from tierlb.model.address import Address
from tierlb.model.snapshot import Snapshot
from tierlb.net.websocket_upgrade import Caller
from tierlb.wire.frames import Hello, Parent, Watch

MAX_WATCHES = 16


@attrs.define(eq=False)
class Link:
    """One accepted control connection: `wake` is set when there is something to send, or it is replaced.
    `caller` is who opened it.

    `watches` wait to be sent; a node that does not read misses the earliest.
    """

    wake: trio.Event = attrs.field(factory=trio.Event)
    replaced: bool = False
    caller: Caller | None = None
    watches: deque[Watch] = attrs.field(factory=lambda: deque(maxlen=MAX_WATCHES))

    @property
    def host(self) -> str:
        """The IP address that it comes from, as far as it came over a network."""
        return self.caller.host if self.caller is not None else ""

    def watch(self, *watches: Watch) -> None:
        """Have them sent."""
        self.watches.extend(watches)
        self.wake.set()

    def replace(self) -> None:
        """Let the connection close: what it stood for is gone or has another one."""
        self.replaced = True
        self.wake.set()


@attrs.define
class NodeRecord:
    """What is known of one node or agent.

    `wanted` is the snapshot it should serve, `served` the number of the one it acked and `accepted` the revision of the
    history that this one carried out, `inner` where its parents reach it,
    `parents` to whom it should report (None: it is not known yet), `lost_s` when its socket was lost. `back`: a
    node that served before it came here. `leaving`: it is in the topology no more; it goes on as it was, without new
    traffic, until its process ends. `former`: that of another process of the node, from which this one takes over, and
    which is back if this one ends first. `refusal`: why it did not serve `wanted`, said at `refused_s`; with
    `ask_again` it is sent once more.
    """

    name: str
    tier: str
    hello: Hello | None = None
    link: Link | None = None
    wanted: Snapshot | None = None
    served: int = 0
    accepted: int = 0
    addresses: tuple[Address, ...] = ()
    inner: Address | None = None
    draining: bool = False
    refusal: str = ""
    refused_s: float = 0.0
    ask_again: bool = False
    agent: bool = False
    parents: tuple[Parent, ...] | None = None
    lost_s: float = 0.0
    back: bool = False
    leaving: bool = False
    former: "NodeRecord | None" = None

    @property
    def state(self) -> State:
        """Serving means: it acked the snapshot wanted now, or at least an earlier one; an agent does from its hello."""
        if self.hello is None:
            return State.GONE
        if self.draining or self.leaving:
            return State.DRAINING
        return State.SERVING if self.served or self.agent else State.STARTING
