"""Kept connections in virtual time, over the real registry and the real watch: only sockets are missing."""

import heapq
import random
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import attrs

from tests.dataplane.registries import Harness
from tierlb.balance.load_estimate import LEARN_TICK_S
from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.l4.watch import UseWatch
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.model.topology import Kind, Policy
from tierlb.telemetry.tally import Tally


class End:
    moved = 0.0


class Connection:
    """What the watch sees of a pipe, and what its client does: it asks, waits for the answer, thinks for `think_s` in
    the mean (none: it is quiet) and asks again. What is asked takes `costs` times what the host takes."""

    def __init__(self, began: float, ticket: ConnectionTicket[Host], think_s: float | None, costs: float) -> None:
        self.began = began
        self.client, self.upstream = End(), End()
        self.ticket = ticket
        self.think_s = think_s
        self.costs = costs
        self.over = False

    def moves(self) -> tuple[float, float]:
        return self.client.moved, self.upstream.moved

    @property
    def host(self) -> Host:
        return self.ticket.host

    @property
    def moved(self) -> float:
        return max(self.began, self.client.moved, self.upstream.moved)


@attrs.define
class Pool:
    """`service_s`: how long each host takes for an answer; 0 for one that answers nothing."""

    hosts: int = 4
    balance: Policy = Policy.LOAD_AWARE
    seed: int = 1
    answer_s: float = 0.005
    service_s: dict[str, float] = attrs.field(factory=dict)
    connections: list[Connection] = attrs.field(factory=list)
    tally: Tally = attrs.field(factory=Tally)
    harness: Harness = attrs.field(init=False)
    watch: UseWatch = attrs.field(init=False)
    rng: random.Random = attrs.field(init=False)
    host_set: HostSet = attrs.field(init=False)
    _agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = attrs.field(factory=list, init=False)
    _number: Any = attrs.field(factory=count, init=False)

    def __attrs_post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.watch = UseWatch(random.Random(self.seed))
        self.harness = Harness(before_tick=self.watch.tick)
        self.harness.registry.rng = random.Random(self.seed)
        names = [f"h{number}" for number in range(self.hosts)]
        self.host_set = self.harness.host_set(*names, kind=Kind.L4, balance=self.balance)
        self.service_s = dict.fromkeys(names, self.answer_s) | self.service_s
        self.run(15.0)

    @property
    def now(self) -> float:
        return self.harness.reactor.now

    def run(self, seconds: float, each_tick: Callable[[], None] = lambda: None) -> None:
        """Time passes, with a tick every twentieth of a second."""
        end = self.now + seconds
        while self.now < end:
            tick_at = self.now + LEARN_TICK_S
            while self._agenda and self._agenda[0][0] <= tick_at:
                at, _, call, arguments = heapq.heappop(self._agenda)
                self.harness.reactor.now = at
                call(*arguments)
            self.harness.reactor.now = tick_at
            self.harness.registry.tick(tick_at)
            each_tick()

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._agenda, (self.now + seconds, next(self._number), call, arguments))

    def connect(self, think_s: float | None = None, *, to: Host | None = None, costs: float = 1.0) -> Connection:
        """A client connects, and goes where the host set says."""
        host = to or self.host_set.choose()
        assert host is not None
        ticket = host.begin_connection(self.now, self.tally)
        connection = Connection(self.now, ticket, think_s, costs)
        self.connections.append(connection)
        self.watch.begin(connection, ticket)  # type: ignore[arg-type]
        if think_s is not None:
            self._ask(connection)
        return connection

    def disconnect(self, connection: Connection) -> None:
        connection.over = True
        self.connections.remove(connection)
        connection.ticket.give_back(self.now)
        self.watch.end(connection)  # type: ignore[arg-type]

    def _ask(self, connection: Connection) -> None:
        if connection.over:
            return
        connection.client.moved = self.now
        service_s = self.service_s[connection.host.name] * connection.costs
        if service_s:
            self.after(self.rng.expovariate(1 / service_s), self._answer, connection)

    def _answer(self, connection: Connection) -> None:
        if not connection.over:
            assert connection.think_s is not None
            connection.upstream.moved = self.now
            self.after(self.rng.expovariate(1 / connection.think_s), self._ask, connection)

    def at_each(self, counts: Callable[[Connection], bool]) -> list[int]:
        """How many of them are at each host."""
        return [
            sum(counts(connection) for connection in self.connections if connection.host is host)
            for host in self.host_set.hosts
        ]


def is_busy(connection: Connection) -> bool:
    return connection.think_s is not None


def is_quiet(connection: Connection) -> bool:
    return connection.think_s is None


def by_fair(counts: Sequence[float]) -> list[float]:
    """As parts of what each would have if all had the same."""
    fair = sum(counts) / len(counts)
    return [each / fair for each in counts]
