"""What a node does beside its traffic: ticks in time that the test passes; checks and agents against real sockets."""

import random
from typing import Any

import attrs
import pytest

from tests.dataplane.conftest import Log, l7
from tests.dataplane.registries import Harness
from tierlb.balance.guidance import NO_GUIDANCE
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.explanation import Explaining
from tierlb.dataplane.upkeep import GUIDANCE_FOR_S, LOAD_EVERY_S, Upkeep
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.load import Guidance, SubtreeLoad
from tierlb.model.snapshot import HostSpec
from tierlb.model.topology import Orca
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.telemetry.sketch import Sketch
from tierlb.wire.orca import ORCA_RESPONSE_FIELD, OrcaBook
from tierlb.wire.orca_report import OrcaReport

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@attrs.define
class Front:
    """Notes the guidance that it gets."""

    registry: HostRegistry
    name: str = "web-1"
    counters: Counters = attrs.field(factory=Counters)
    latencies: Sketch = attrs.field(factory=Sketch)
    draining: bool = False
    explaining: Explaining = attrs.field(factory=Explaining)
    load_field: bytes = b""
    heeded: list[tuple[SubtreeLoad, Guidance]] = attrs.field(factory=list)
    moved_at: float = 0.0

    def note_guidance(self, now: float, load: SubtreeLoad, guidance: Guidance) -> None:
        self.heeded.append((load, guidance))

    def move(self, now: float) -> None:
        self.moved_at = now


class Kept(Harness):
    """Upkeep of a front that this test plays."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.errors = InternalErrors(self.log)
        self.front = Front(self.registry)
        self.upkeep = Upkeep(self.front, self.reactor, random.Random(1), self.log, self.errors)

    def serves(self, *endpoints: str | HostSpec, **options: Any) -> None:
        self.host_set(*endpoints)
        self.upkeep.apply(l7(**options))

    def passes(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.pass_time(0.05)
            self.upkeep.tick(self.reactor.now)


@pytest.fixture
def kept() -> Kept:
    return Kept()


# What parents say.


def guided(kept: Kept) -> Guidance:
    """What the front heard last."""
    kept.passes(LOAD_EVERY_S + 0.05)
    return kept.front.heeded[-1][1]


def test_without_parents_nothing_moves(kept: Kept) -> None:
    kept.serves("a")
    assert guided(kept) == NO_GUIDANCE


def test_what_parents_say_is_heeded_together_until_they_fall_silent(kept: Kept) -> None:
    kept.serves("a")
    kept.upkeep.note_guidance(kept.reactor.now, "edge-1", Guidance(0.2, all_hot=True))
    kept.upkeep.note_guidance(kept.reactor.now, "edge-2", Guidance(0.3))
    kept.upkeep.note_guidance(kept.reactor.now, "edge-2", Guidance(0.6))
    assert guided(kept) == Guidance(pytest.approx(0.4), all_hot=False)
    kept.passes(GUIDANCE_FOR_S / 2)
    kept.upkeep.note_guidance(kept.reactor.now, "edge-1", Guidance(0.2, all_hot=True))
    kept.passes(GUIDANCE_FOR_S / 2)
    assert guided(kept) == Guidance(pytest.approx(0.2), all_hot=True)
    kept.passes(GUIDANCE_FOR_S)
    assert guided(kept) == NO_GUIDANCE


def test_the_load_is_worked_out_a_few_times_a_second(kept: Kept) -> None:
    kept.serves("a")
    for _ in range(8):
        kept.front.counters.tallies.of("edge-1").arrivals += 1
        kept.passes(LOAD_EVERY_S)
    assert 6 <= len({load.arrivals for load, _ in kept.front.heeded}) <= 9


def test_the_front_hears_at_once_that_answers_take_longer(kept: Kept) -> None:
    kept.serves("a")
    kept.passes(1.1)
    heard = len(kept.front.heeded)
    for _ in range(6):
        kept.registry.kinds.heads.count += 10
        kept.registry.kinds.heads.seconds += 5.0
        kept.registry.kinds.heads.usual_s += 1.0
        kept.registry.kinds.heads.ratios += 60.0
        kept.passes(0.05)
    load, _ = kept.front.heeded[-1]
    assert (len(kept.front.heeded) - heard, load.response_s) == (6, pytest.approx(0.6))


def test_a_draining_front_is_said_to_drain(kept: Kept) -> None:
    kept.serves("a")
    kept.front.draining = True
    assert kept.upkeep.subtree(kept.reactor.now).draining


def test_members_are_learnt_about_at_every_tick(kept: Kept) -> None:
    kept.serves("a")
    (host,) = kept.registry.hosts
    kept.serve(host, 20, 0.01)
    kept.upkeep.tick(kept.reactor.now)
    assert host.capacity == pytest.approx(800, rel=0.1)
    assert kept.upkeep.subtree(kept.reactor.now).capacity == pytest.approx(800, rel=0.1)


# Its own word to whoever reads ORCA.


def busy_for(kept: Kept, seconds: float) -> None:
    """A hundred requests a second of ten milliseconds each; every tenth is an error."""
    (host,) = kept.registry.hosts
    tally = kept.front.counters.tallies.outside
    for number in range(round(seconds * 20)):
        kept.serve(host, 5, 0.01)
        tally.done += 5
        kept.front.counters.errors += number % 2
        kept.upkeep.tick(kept.reactor.now)


@pytest.mark.parametrize("form", Orca)
def test_its_load_is_said_in_the_form_that_the_snapshot_names(kept: Kept, form: Orca) -> None:
    kept.serves("a", orca=form)
    busy_for(kept, 2.5)
    name, _, value = kept.front.load_field.partition(b": ")
    assert name == ORCA_RESPONSE_FIELD
    assert value.startswith(form.value.upper().encode())
    assert value.endswith(b"\r\n")
    report = OrcaBook().read(value.strip())
    assert report is not None
    assert report.rps == pytest.approx(100, rel=0.1)
    assert report.eps == pytest.approx(10, rel=0.2)
    assert report.rps / report.busy == pytest.approx(kept.upkeep.subtree(kept.reactor.now).capacity, rel=0.1)


def test_nothing_is_said_of_load_unless_the_snapshot_says_so(kept: Kept) -> None:
    kept.serves("a")
    busy_for(kept, 2.5)
    assert kept.front.load_field == b""
    kept.serves("a", orca=Orca.TEXT)
    kept.passes(LOAD_EVERY_S + 0.05)
    assert kept.front.load_field
    kept.serves("a")
    kept.passes(LOAD_EVERY_S + 0.05)
    assert kept.front.load_field == b""


@pytest.mark.parametrize("form", Orca)
def test_an_idle_node_says_nothing_rather_than_an_empty_report(kept: Kept, form: Orca) -> None:
    kept.serves("a", orca=form)
    kept.passes(0.5)
    read = OrcaBook().read(kept.front.load_field.partition(b": ")[2].strip()) if kept.front.load_field else OrcaReport()
    assert read is not None


# Errors of our own.


@pytest.mark.parametrize("part", ["tick", "learn", "settle_in_turn", "sample", "note_guidance"])
def test_a_tick_of_which_a_part_fails_does_the_rest(kept: Kept, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.serves("a", "b")
    first, second = kept.registry.hosts
    owner = {"tick": kept.registry, "learn": first, "settle_in_turn": kept.registry.host_sets[0]}
    owner |= {"sample": kept.upkeep.account, "note_guidance": kept.front}
    monkeypatch.setattr(type(owner[part]), part, once_failing(getattr(type(owner[part]), part)))
    learnt: list[object] = []
    monkeypatch.setattr(type(second.estimate), "advance", lambda estimate, *_, **__: learnt.append(estimate))
    kept.passes(2 * LOAD_EVERY_S)
    assert second.estimate in learnt
    assert kept.errors.counts == {"tick": 1}
    assert len(kept.front.heeded) >= 1
    (logged,) = [fields for event, fields in kept.log.events if event == "internal_error"]
    assert isinstance(logged["exc_info"], ValueError)


def once_failing(method: Any) -> Any:
    """The method, whose first call fails."""
    calls = []

    def failing(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        return method(*args, **options)

    return failing
