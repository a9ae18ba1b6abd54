"""What a node does beside its traffic: learn all the time, check its endpoints, heed its parents, say how it is.

Plain trio next to the reactor. The tick is the same for all: hosts learn from their counts, costs are worked out anew,
the account is sampled, and what parents said of the siblings becomes a rate of connections to close.

Left out: reports to parents, which are the control plane's (channel/report_schedule.py).
"""

import random
from collections.abc import Iterable
from functools import partial
from typing import Any, Protocol

import attrs
import trio

from tierlb.balance.guidance import combine
from tierlb.balance.load_estimate import TICK_S
from tierlb.dataplane.account import Account
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.explanation import Explaining
from tierlb.dataplane.upstream.agent_check import AgentChecks, serve_agent_check
from tierlb.dataplane.upstream.health import HealthChecks
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.address import Address
from tierlb.model.load import Guidance, HostLoad, SubtreeLoad
from tierlb.model.snapshot import PoolSettings, Snapshot
from tierlb.model.topology import Admin, Orca
from tierlb.net.reactor import Reactor
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.telemetry.sketch import Sketch
from tierlb.wire import orca
from tierlb.wire.agent_check import AGENT_NOTICE_S, AgentReply, NodeReplies, encode_reply

GUIDANCE_FOR_S = 12.0
"""A parent says it again every four seconds; one that has fallen silent for this long guides no more."""
SAY_EVERY_S = 0.25
LISTEN_AGAIN_S = 5.0
ASKED_LATELY_S = 10.0
"""Who has not asked for this long is not there, or asks too seldom to be waited for."""
NOTHING_TO_SAY = orca.OrcaReport()
"""Of an idle node. An empty report would be one that cannot be read: fields end before the blanks at their end."""


class Served(Protocol):
    """What upkeep needs of a front."""

    name: str
    counters: Counters
    registry: HostRegistry
    latencies: Sketch
    explaining: Explaining
    load_field: bytes

    @property
    def draining(self) -> bool: ...
    def heed(self, now: float, load: SubtreeLoad, guidance: Guidance) -> None: ...
    def move(self, now: float) -> None: ...


@attrs.define
class Said:
    """A parent's last word."""

    at: float
    guidance: Guidance


class Upkeep:
    """`apply` with each snapshot; `run` for as long as the node serves."""

    def __init__(
        self, front: Served, reactor: Reactor, rng: random.Random, log: Any, errors: InternalErrors | None = None
    ) -> None:
        self._errors = errors or InternalErrors(log)
        front.registry.context.on_error = partial(self._errors.note, "tick")
        self._front = front
        self._reactor = reactor
        self._log = log
        self.account = Account(front.counters, front.registry, front.latencies, reactor.now)
        self._health: HealthChecks[Host] = HealthChecks(self._checked, rng, log)
        self._agents = AgentChecks(
            self.agent_says,
            rng,
            agent_send=front.name.encode() + b"\n",
            on_crash=partial(self._errors.note, "agent_check"),
        )
        self._voice = NodeReplies()
        self._guidance: dict[str, Said] = {}
        self._orca: Orca | None = None
        self._load = SubtreeLoad()
        self._said_at = 0.0
        self._odd_words: dict[str, str] = {}
        self._agent_check: Address | None = None
        self._agent_check_moved = trio.Event()
        self._asked_at = -ASKED_LATELY_S
        self._unfound = 0
        self._leaving = False

    def apply(self, snapshot: Snapshot) -> None:
        """Check the endpoints that this snapshot names, and speak as it says."""
        pools = {pool.name: pool for pool in snapshot.pools}
        known = {each.spec.target for each in self._front.registry.hosts}
        self._unfound = sum(pool.dns is not None and pool.name not in known for pool in snapshot.pools)
        asked = [(each, pool) for each in self._front.registry.hosts if (pool := _asked(each, pools)) is not None]
        checks = [(each, each.spec.address, pool.health) for each, pool in asked if pool.health is not None]
        self._health.replace(checks)
        checked = {each for each, _, _ in checks}
        for host in self._front.registry.hosts:
            if host not in checked:
                host.checked(None)
            pool = pools.get(host.spec.target)
            if pool is None or pool.agent_check_port is None:
                host.agent_gone()
        self._odd_words = {}
        self._agents.replace(
            {
                each: Address(each.spec.address.host, pool.agent_check_port)
                for each, pool in asked
                if pool.agent_check_port is not None
            }
        )
        self._orca = snapshot.orca
        if snapshot.agent_check != self._agent_check:
            self._agent_check = snapshot.agent_check
            self._agent_check_moved.set()

    def told(self, hosts: Iterable[HostLoad]) -> tuple[HostLoad, ...]:
        """The same with what the last check found wrong."""
        problems = {each.name: reason for each, reason in self._health.unhealthy().items()}
        if not problems:
            return tuple(hosts)
        return tuple(attrs.evolve(each, problem=problems.get(each.name, "")) for each in hosts)

    def subtree(self, now: float) -> SubtreeLoad:
        """What parents are told."""
        draining = self._front.draining or self._leaving
        return self.account.subtree(now, draining=draining, unfound=self._unfound)

    def announce_drain(self, now: float) -> float:
        """Say to whoever asks that this node drains; how many seconds it takes until all have asked."""
        self._leaving = True
        return self.notice_s(now)

    def notice_s(self, now: float) -> float:
        """How long agent checks need to hear of a change, 0 if none came lately."""
        return AGENT_NOTICE_S if now - self._asked_at < ASKED_LATELY_S else 0.0

    def heed(self, now: float, parent: str, guidance: Guidance) -> None:
        """A parent's word on this node's siblings."""
        self._guidance[parent] = Said(now, guidance)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._health.run)
            nursery.start_soon(self._front.registry.context.recovery.run)
            nursery.start_soon(self._agents.run)
            nursery.start_soon(self._answer_agent_checks)
            while True:
                self.tick(self._reactor.look())
                await trio.sleep(TICK_S)

    def tick(self, now: float) -> None:
        """Everything that is due. A part that fails is tried again with the next tick; the others go on."""
        with self._errors.barrier("tick"):
            self._front.registry.tick(now)
        with self._errors.barrier("tick"):
            self.account.sample(now, self._reactor.waited_s())
        if now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            with self._errors.barrier("tick"):
                self._say(now)
        with self._errors.barrier("tick"):
            self._heed(now)
        with self._errors.barrier("tick"):
            self._front.move(now)

    def _heed(self, now: float) -> None:
        """Work out anew how many connections to close, from the parents' guidance and the times of the last quarter
        second."""
        load = attrs.evolve(self._load, response_s=self.account.recent.rising_s)
        self._front.heed(now, load, combine(said.guidance for said in self._guidance.values()))

    def _say(self, now: float) -> None:
        load = self._load = self.subtree(now)
        self._guidance = {name: said for name, said in self._guidance.items() if now - said.at < GUIDANCE_FOR_S}
        self._voice.reply(now, load)
        self._front.load_field = b"" if self._orca is None else self._orca_field(load, self._orca)

    def _orca_field(self, load: SubtreeLoad, form: Orca) -> bytes:
        recent = self.account.recent
        report = orca.node_report(load, recent.done_per_s, recent.errors_per_s)
        if report == NOTHING_TO_SAY:
            return b""
        value = orca.encode_orca(report, form)
        return b"%b: %b\r\n" % (orca.ORCA_RESPONSE_FIELD, value)

    async def _answer_agent_checks(self) -> None:
        """Serve at the address named now; whatever is wrong with it harms nothing else."""
        while True:
            self._agent_check_moved = trio.Event()
            async with trio.open_nursery() as nursery:
                if self._agent_check is not None:
                    nursery.start_soon(self._serve_agent_check, self._agent_check)
                await self._agent_check_moved.wait()
                nursery.cancel_scope.cancel()

    async def _serve_agent_check(self, address: Address) -> None:
        def say() -> bytes:
            self._asked_at = now = self._reactor.look()
            return encode_reply(self._voice.reply(now, self.subtree(now)))

        while True:
            try:
                await serve_agent_check(address, say, partial(self._errors.note, "agent_check"))
            except OSError as error:
                reason = error.strerror or str(error)
                self._log.error("agent_check_listen_failed", address=str(address), reason=reason)
                await trio.sleep(LISTEN_AGAIN_S)

    def _checked(self, host: Host, healthy: bool, reason: str) -> None:
        note = self._log.info if healthy else self._log.warning
        note("health_checks_passed" if healthy else "health_checks_failed", host=host.name, reason=reason)
        host.checked(healthy)

    def agent_says(self, host: Any, says: AgentReply) -> None:
        if says.problem and says.problem != self._odd_words.get(host.name):
            self._log.warning("agent_check_word_unknown", host=host.name, word=says.problem)
        self._odd_words[host.name] = says.problem
        host.agent_says(says)


def _asked(host: Host, pools: dict[str, PoolSettings]) -> PoolSettings | None:
    """How to check a host, if it is checked: nobody asks what is in maintenance."""
    return None if host.spec.admin is Admin.MAINTENANCE else pools.get(host.spec.target)
