"""The `nftables` forwarder: the kernel forwards new connections, by rules that this node sets and keeps in step.

The node does not accept the connections that the kernel forwards. What the rules have no host for comes to the node's
listening socket as ever and is relayed: while a host is awaited, where only this node can reach a host
(`wire.nft_ruleset.View`), and before the rules are set or after others removed them.

Hosts that come, go, drain or fail change the rules at once. Every REFRESH_S the counters are read and shares worked out
anew; these change the rules beyond a deadband. Beside that the tracked connections are walked over, which takes longer
the more there are (`net.netfilter`).

At the end of the node, or when its tier is to forward in another way, the rules take no new connections, and those
under way go on. The table stays for these: the kernel stops translating addresses when the last rule for that is gone.
"""

from collections.abc import Iterable

import trio

from tierlb.dataplane.l4.kernel.context import KernelContext
from tierlb.dataplane.l4.kernel.hosts import KernelHosts
from tierlb.dataplane.l4.kernel.plan import KernelPlan, chosen_from, kernel_plan
from tierlb.dataplane.l4.kernel.surroundings import Surroundings
from tierlb.dataplane.l4.kernel.table import KernelTable
from tierlb.dataplane.l4.kernel.walks import Walks
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.model.address import Address, Transport
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Policy
from tierlb.net.wheel import NEVER
from tierlb.wire.conntrack import Flow
from tierlb.wire.nft_ruleset import Ruleset

REFRESH_S = 1.0
HORIZON_S = 5.0
"""Shares are worked out for the connections of so long. Counts are about a second old then, so this is well above the
delay that would make shares oscillate (BALANCING.md §5)."""
PAUSES, LONGEST_PAUSE_S = 200.0, 15.0
"""A walk is followed by so many times what it took of the processor, at most."""
RATE_KEPT = 0.7
"""Of the mean rate of new connections, each second."""
REMOVE_S = 5.0
"""The table is removed even if the process is cancelled, unless that takes longer."""


class KernelForwarding:
    """`_until`: when connections under way are ended after the tier began to forward in another way. `_began`: how many
    connections did since `_rate` was worked out, in connections per second. `_counted`: all connections have been
    counted since the rules took new ones. `_last_walk` ends the pause before the one that shows that."""

    def __init__(self, context: KernelContext) -> None:
        self._context = context
        self._hosts = KernelHosts(context.counters.tallies.outside)
        self._around = Surroundings()
        self._plan = KernelPlan(Policy.RANDOM)
        self._until = 0.0
        self._rate = 0.0
        self._began = 0
        self._cut: set[Host] = set()
        self._lost: set[Host] = set()
        self._counted = True
        self._wake = trio.Event()
        self._last_walk = trio.Event()

    # What the node does.

    def follow(self, snapshot: Snapshot, hosts: Iterable[Host]) -> None:
        """A new snapshot, and the hosts of all its destinations."""
        known = tuple(hosts)
        self._hosts.follow(known)
        self._around.follow(snapshot, (host.spec.address.host for host in known))
        self._until = NEVER
        self._wake.set()

    def leave(self) -> None:
        """The tier forwards in another way from now on."""
        if self._until == NEVER:
            self._until = self._context.reactor.now + self._around.drain_s
            self._wake.set()

    def listen(self, addresses: tuple[Address, ...]) -> None:
        """New connections come to these."""
        self._around.listens = addresses
        self._wake.set()

    def look(self) -> None:
        """With every tick: hosts that came or went change the rules at once, and nodes whose control connection is lost
        are asked whether they still accept connections."""
        if chosen_from(self._parts()) != self._plan.hosts:
            self._wake.set()
        lost = {host for host in self._plan.hosts if host.spec.child and not host.estimate.received.connected}
        self._ask(lost - self._lost)
        self._lost = lost

    @property
    def open(self) -> int:
        """How many connections the kernel forwards."""
        return self._hosts.open

    @property
    def is_idle(self) -> bool:
        """Whether there are none, and there will be none."""
        return self._counted and not self.open

    @property
    def lacks(self) -> tuple[str, ...]:
        """What keeps the kernel from forwarding, in sentences for an operator."""
        return self._around.lacks()

    def cut_from(self, host: Host) -> int:
        """End what goes to one host; how many connections that were."""
        self._cut.add(host)
        self._wake.set()
        return self._hosts.open_at(host)

    def cut(self) -> None:
        """End all that are under way."""
        self._cut.update(each.host for each in self._hosts)
        self._wake.set()

    # What is done beside the reactor.

    async def run(self) -> None:
        """For as long as the node: have rules in the kernel while the tier wants that."""
        while True:
            await self._until_wanted()
            table = KernelTable(self._around.cluster, self._context.name, self._context.log)
            try:
                await table.open()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._walk_for_ever, table)
                    await self._keep_in_step(table)
                    nursery.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + REMOVE_S):
                    await table.close()
                self._plan = KernelPlan(Policy.RANDOM)
                self._hosts.forget_counters()

    async def _until_wanted(self) -> None:
        while self._until != NEVER:
            self._wake = trio.Event()
            await self._wake.wait()

    async def _keep_in_step(self, table: KernelTable) -> None:
        """Until the tier forwards in another way and nothing is under way."""
        refreshed_at = -NEVER
        while self._until == NEVER or not self.is_idle:
            self._wake = trio.Event()
            now = self._context.reactor.look()
            due = now - refreshed_at >= REFRESH_S
            if due:
                await self._count_new(table)
                self._rate += (self._began / max(REFRESH_S, now - refreshed_at) - self._rate) * (1 - RATE_KEPT)
                self._began, refreshed_at = 0, now
                self._ask(self._hosts.suspects())
            await self._set_rules(table, again=due)
            if now >= self._until:
                self.cut()
            if self._cut:
                await self._end_cut(table)
            with trio.move_on_after(REFRESH_S):
                await self._wake.wait()

    async def _count_new(self, table: KernelTable) -> None:
        packets = await table.packets()
        if table.ruleset is None:
            self._hosts.forget_counters()
        elif packets is not None:
            began = self._hosts.took(self._context.reactor.look(), packets)
            self._began += began
            if began:
                self._context.reactor.beat.stir()
        self._context.counters.forwarded = self.open

    def _ask(self, hosts: Iterable[Host]) -> None:
        """Try to connect to those that are not checked anyway. Over UDP that would say nothing."""
        recovery = self._context.registry.context.recovery
        for host in hosts if self._around.protocol == Transport.TCP.value else ():
            if not recovery.checks(host.spec.target):
                host.reach.ask()

    def _parts(self) -> list[tuple[HostSet, float]]:
        context = self._context
        takes = self._until == NEVER and self._around.listens and not context.draining
        only = context.config.routes.only
        return only.parts() if takes and only is not None else []

    async def _set_rules(self, table: KernelTable, *, again: bool) -> None:
        """`again`: shares are worked out anew even if the hosts are the same."""
        parts, before = self._parts(), self._plan
        if again or chosen_from(parts) != before.hosts:
            wanted = kernel_plan(self._context.config.balance, parts, self._rate * HORIZON_S)
            if wanted.replaces(before):
                self._plan = wanted
        around = self._around
        around.look()
        hosts = tuple(self._hosts[host].at for host in self._plan.hosts)
        families, own = around.forwarded, around.own
        if hosts:
            self._counted = False
        slots = self._plan.slots
        rules = Ruleset(table.name, around.listens, hosts, slots, around.protocol, table.label, families, own)
        await table.set(rules)
        if not self._counted and _take_nothing(table.ruleset):
            self._last_walk.set()
        around.problem = table.problem
        if around.protocol == Transport.UDP.value:  # a client that goes on would keep its session for ever
            self._cut.update(host for host in before.hosts if host not in self._plan.hosts)

    async def _end_cut(self, table: KernelTable) -> None:
        cut, self._cut = self._cut, set()
        chosen = {each for each in self._hosts if each.host in cut}

        def is_cut(flow: Flow) -> bool:
            return self._hosts.of(flow) in chosen

        await self._walks(table).end(is_cut)
        now = self._context.reactor.look()
        for each in chosen:
            each.counted.walked(now, 0)
        self._context.counters.forwarded = self.open

    async def _walk_for_ever(self, table: KernelTable) -> None:
        """Nothing is walked over while there is nothing to find. A long walk is followed by a long pause."""
        to_inherit, pause_s = True, REFRESH_S
        while True:
            self._last_walk = trio.Event()
            is_last = _take_nothing(table.ruleset) and not self._counted  # it has to show that nothing is open
            if to_inherit or self.open or self._hosts.fed or is_last:
                rules, walks = table.ruleset, self._walks(table)
                found = await walks.count()
                if found is not None:
                    await self._count_new(table)  # or connections would be found that have not begun yet
                    before = self.open
                    self._hosts.walked(self._context.reactor.look(), *found)
                    self._counted = _take_nothing(rules)
                    if self.open != before:
                        self._context.reactor.beat.stir()
                    self._context.counters.forwarded = self.open
                    to_inherit = rules is None
                pause_s = min(LONGEST_PAUSE_S, max(REFRESH_S, PAUSES * walks.cpu_s))
            with trio.move_on_after(pause_s):
                await self._last_walk.wait()

    def _walks(self, table: KernelTable) -> Walks:
        return Walks(table.label, self._around.protocol, self._around.listened)


def _take_nothing(rules: Ruleset | None) -> bool:
    """Whether these are rules without a host."""
    return rules is not None and not rules.hosts
