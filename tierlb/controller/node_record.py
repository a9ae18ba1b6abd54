"""The controller's state of one node or agent, and its end of the connection to it.

Left out: which nodes exist (registry.py), what is wanted of them (desired.py), and how the connection is driven
(reception.py).
"""

from collections import deque

import attrs
import trio

from tierlb.controller.node_reports import NodeReports
from tierlb.controller.status import State
from tierlb.model.address import Address
from tierlb.model.snapshot import Snapshot
from tierlb.net.websocket_upgrade import ProvenPeer
from tierlb.wire.frames import Hello, ParentAddress, Watch

MAX_WATCHES = 16


@attrs.define(eq=False)
class Link:
    """One accepted control connection: `wake` is set when there is something to send, or it is replaced. `caller`: the
    client that opened it.

    `watches` wait to be sent; a node that does not read misses the earliest.
    """

    wake: trio.Event = attrs.field(factory=trio.Event)
    replaced: bool = False
    caller: ProvenPeer | None = None
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
class Assignment:
    """What the controller assigned to one node, and how the node answered."""

    wanted: Snapshot | None = None
    """The snapshot that it should serve."""
    served: int = 0
    """The number of the snapshot that it acknowledged last."""
    accepted: int = 0
    """The revision of the history that the acknowledged snapshot carried out."""
    parents: tuple[ParentAddress, ...] | None = None
    """Where it should report; None while that is not known yet."""
    refusal: str = ""
    """Why it did not serve `wanted`; "" if it did not refuse."""
    refused_s: float = 0.0
    ask_again: bool = False
    """Whether the snapshot that it refused is to be sent once more."""

    @property
    def is_served(self) -> bool:
        """Whether it serves what is wanted of it."""
        return self.wanted is not None and self.served == self.wanted.revision

    def is_same(self, content: Snapshot) -> bool:
        """Whether `wanted` and `content` are equal but for their numbers."""
        return self.wanted is not None and attrs.evolve(self.wanted, revision=0, accepted=0) == content

    def serves(self, content: Snapshot) -> bool:
        """Whether it serves this content."""
        return self.is_served and self.is_same(content)

    def is_outdated(self, content: Snapshot) -> bool:
        """Whether a snapshot with this content is to be sent."""
        return self.ask_again or not self.is_same(content)

    def assign(self, content: Snapshot, number: int, revision: int) -> None:
        """Want this content under a new number. A reason for refusing it stays until the node serves."""
        if not (self.ask_again and self.is_same(content)):
            self.refusal = ""
        self.wanted, self.ask_again = attrs.evolve(content, revision=number, accepted=revision), False

    def note_refusal(self, number: int, reason: str, now: float) -> None:
        """The node refused a snapshot; only the wanted one counts."""
        if self.wanted is not None and self.wanted.revision == number:
            self.refusal, self.refused_s = reason, now


@attrs.define
class NodeRecord:
    """What is known of one node or agent: the newest process of its name, where it is, and what is wanted of it."""

    name: str
    tier: str
    """The name of its tier, or of an agent's pool."""
    agent: bool = False
    leaving: bool = False
    """Whether the topology names it no more. It serves on, without new traffic, until its process ends."""
    hello: Hello | None = None
    """How its process introduced itself; None while there is no process."""
    link: Link | None = None
    lost_s: float = 0.0
    """When its connection ended."""
    draining: bool = False
    """Whether it announced that it drains."""
    addresses: tuple[Address, ...] = ()
    inner: Address | None = None
    """Where its parents reach it."""
    assignment: Assignment = attrs.field(factory=Assignment)
    reports: NodeReports = attrs.field(factory=NodeReports)

    @property
    def state(self) -> State:
        """A node serves from its first acknowledgement on, an agent from its hello on."""
        if self.hello is None:
            return State.GONE
        if self.draining or self.leaving:
            return State.DRAINING
        return State.SERVING if self.assignment.served or self.agent else State.STARTING

    @property
    def served_before(self) -> bool:
        """Whether it is a node that an earlier controller has configured."""
        return self.hello is not None and bool(self.hello.data) and not self.agent

    @property
    def is_top(self) -> bool:
        """Whether it reports to the controller and to no other parent."""
        return not self.assignment.parents

    def lack(self, content: Snapshot) -> str:
        """Why it does not serve this content yet, as a phrase for a person; "" if it does."""
        if self.hello is None:
            return f"{self.name} has not joined"
        if self.assignment.refusal:
            return f"{self.name} refused its configuration: {self.assignment.refusal}"
        return "" if self.assignment.serves(content) else f"{self.name} does not serve its latest configuration yet"
