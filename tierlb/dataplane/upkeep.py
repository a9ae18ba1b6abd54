"""What a node does beside its traffic: learn all the time, check its hosts, follow its parents' guidance, report.

Checks are plain trio next to the reactor. The tick is the reactor's regular work (net/beat.py), the same for all: hosts
learn from their counts, costs are worked out anew, the account is sampled, and what parents report of the siblings
becomes a rate of connections to close.

Left out: reports to parents, which are the control plane's (channel/report_schedule.py).
"""

import random
from functools import partial
from typing import Any, Protocol

import attrs
import trio

from tierlb.balance.guidance import combine, differs
from tierlb.dataplane.account import Account
from tierlb.dataplane.agent_replies import AgentReplies
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.explanation import Explaining
from tierlb.dataplane.host_checks import HostChecks
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.load import Guidance, SubtreeLoad
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Orca
from tierlb.net.keep_going import keep_going
from tierlb.net.reactor import Reactor
from tierlb.net.wheel import NEVER
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.telemetry.sketch import Sketch
from tierlb.wire.orca import ORCA_RESPONSE_FIELD, encode_orca
from tierlb.wire.orca_report import OrcaReport, node_report

GUIDANCE_FOR_S = 12.0
"""A parent repeats its guidance every four seconds. It holds for this long after the last time."""
LOAD_EVERY_S = 0.25
"""How often the node's load is worked out for headers and agent checks."""
NOTHING_TO_SAY = OrcaReport()
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
    def note_guidance(self, now: float, load: SubtreeLoad, guidance: Guidance) -> None: ...
    def move(self, now: float) -> bool: ...
    async def run(self) -> None: ...


class Upkeep:
    """`apply` with each snapshot; `run` for as long as the node serves."""

    def __init__(
        self, front: Served, reactor: Reactor, rng: random.Random, log: Any, errors: InternalErrors | None = None
    ) -> None:
        self._errors = errors or InternalErrors(log)
        front.registry.context.on_error = partial(self._errors.note, "tick")
        self._front = front
        self._reactor = reactor
        self.account = Account(front.counters, front.registry, front.latencies, reactor.now)
        self.checks = HostChecks(front.name, rng, log, partial(self._errors.note, "agent_check"))
        self.replies = AgentReplies(self.subtree, reactor, log, self._errors)
        self._guidance: dict[str, tuple[float, Guidance]] = {}
        """The latest of each parent, with the time at which it came."""
        self._orca: Orca | None = None
        self._load = SubtreeLoad()
        self._load_at = 0.0
        self._unfound = 0
        self._leaving = False

    def apply(self, snapshot: Snapshot) -> None:
        """Check the hosts that this snapshot names, and report as it has it."""
        hosts = tuple(self._front.registry.hosts)
        known = {host.spec.target for host in hosts}
        self._unfound = sum(pool.dns is not None and pool.name not in known for pool in snapshot.pools)
        self.checks.apply(hosts, snapshot)
        self.replies.serve_at(snapshot.agent_check)
        self._orca = snapshot.orca

    def subtree(self, now: float) -> SubtreeLoad:
        """What is reported to parents."""
        draining = self._front.draining or self._leaving
        return self.account.subtree(now, draining=draining, unfound=self._unfound)

    def announce_drain(self, now: float) -> float:
        """Report that this node drains; how many seconds it takes until all agent checks have asked."""
        self._leaving = True
        return self.replies.notice_s(now)

    def note_guidance(self, now: float, parent: str, guidance: Guidance) -> bool:
        """A parent's guidance on this node's siblings. Whether this node might do something else for it."""
        before = self._guidance.get(parent)
        self._guidance[parent] = (now, guidance)
        return before is None or differs(before[1], guidance)

    @property
    def guidance(self) -> Guidance:
        """The guidance of all parents together, which this node follows."""
        return combine(guidance for _, guidance in self._guidance.values())

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.checks.run)
            nursery.start_soon(self._front.registry.context.recovery.run)
            nursery.start_soon(self.replies.run)
            nursery.start_soon(keep_going, self._errors, "forwarding", self._front.run)

    def tick(self, now: float) -> float:
        """Everything that is due. A part that fails is tried again with the next tick; the others go on. Returns when
        to call it again at the latest if nothing happens until then."""
        latest = moves_at = now
        with self._errors.barrier("tick"):
            latest = self._front.registry.tick(now)
        with self._errors.barrier("tick"):
            self.account.sample(now, self._reactor.waited_s())
        if now - self._load_at >= LOAD_EVERY_S:
            self._load_at = now
            with self._errors.barrier("tick"):
                self._work_out_load(now)
        with self._errors.barrier("tick"):
            self._follow_guidance(now)
        with self._errors.barrier("tick"):
            moves_at = now if self._front.move(now) else NEVER
        return min(latest, moves_at)

    def _follow_guidance(self, now: float) -> None:
        """Work out anew how many connections to close, from the parents' guidance and the times of the last quarter
        second."""
        load = attrs.evolve(self._load, response_s=self.account.recent.rising_s)
        self._front.note_guidance(now, load, self.guidance)

    def _work_out_load(self, now: float) -> None:
        load = self._load = self.subtree(now)
        self._guidance = {name: each for name, each in self._guidance.items() if now - each[0] < GUIDANCE_FOR_S}
        self.replies.note(now, load)
        self._front.load_field = b"" if self._orca is None else self._orca_field(load, self._orca)

    def _orca_field(self, load: SubtreeLoad, form: Orca) -> bytes:
        recent = self.account.recent
        report = node_report(load, recent.done_per_s, recent.errors_per_s)
        if report == NOTHING_TO_SAY:
            return b""
        value = encode_orca(report, form)
        return b"%b: %b\r\n" % (ORCA_RESPONSE_FIELD, value)
