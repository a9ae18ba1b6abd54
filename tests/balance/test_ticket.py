"""One item at one host: what its ticket counts, from its beginning to its end, whatever happens in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.balance.begun import begun
from tierlb.balance.cost import ParentShare
from tierlb.balance.counted_host import CountedHost
from tierlb.balance.kinds import Kinds
from tierlb.balance.load_estimate import HostTraits, LoadEstimate
from tierlb.balance.outlier import HostFault
from tierlb.balance.parking import PARKED_AFTER_S
from tierlb.balance.received_reports import ReceivedReports
from tierlb.balance.ticket import ItemCounts, Ticket
from tierlb.telemetry.tally import Tally

START = 1000.0
KIND = 2


class Upstream(ItemCounts):
    """Notes what else it learns of a ticket, with what was in flight then."""

    __slots__ = ("events", "fails")

    def __init__(self) -> None:
        super().__init__(Kinds())
        self.events: list[tuple[object, int]] = []
        self.fails = False

    def settle_at_once(self, now: float) -> None:
        self.events.append(("settle", self.in_flight))
        if self.fails:
            raise RuntimeError("injected")

    def blame(self, now: float, fault: HostFault) -> None:
        self.events.append((fault, self.in_flight))
        if self.fails:
            raise RuntimeError("injected")


def counts(host: ItemCounts) -> tuple[int, int, int]:
    return host.in_flight, host.parked, host.done


def test_an_item_is_counted_from_its_begin_to_its_end() -> None:
    host = Upstream()
    item = begun(host, START, KIND)
    assert (counts(host), list(host.under_way)) == ((1, 0, 0), [item])
    assert item.is_queued
    assert item.done(START + 3) is False
    assert (counts(host), host.under_way, host.moments) == ((0, 0, 1), {}, 3.0)
    assert item.is_over
    assert host.events == []


ENDS = [
    # how it ends -> counts as done, and whether the host is blamed
    ("done", (), 1, []),
    ("failed", (HostFault.GATEWAY,), 1, [(HostFault.GATEWAY, 0)]),
    ("failed", (HostFault.REPEATED,), 1, [(HostFault.REPEATED, 0)]),
    ("give_back", (), 0, []),
]
BEFORE = ["queued", "parked early", "parked", "tunnel", "connection", "parked connection", "light connection"]


def at_stage(host: Upstream, stage: str, tally: Tally) -> Ticket[Upstream]:
    if stage.endswith("connection"):
        connection = host.begin_connection(START, tally)
        if stage != "connection":
            connection.weigh(*((1, 0.75) if stage == "parked connection" else (0, 0.25)))
        return connection
    ticket = begun(host, START, KIND, tally=tally, long=stage == "parked early")
    if stage == "parked":
        ticket.park()
    elif stage == "tunnel":
        ticket.stay_parked()
    return ticket


@pytest.mark.parametrize("fails", [False, True], ids=["", "an error of ours"])
@pytest.mark.parametrize("stage", BEFORE)
@pytest.mark.parametrize(("end", "given", "done", "blamed"), ENDS)
def test_however_it_ends_it_ends_once(
    end: str, given: tuple[HostFault, ...], done: int, blamed: list[tuple[HostFault, int]], stage: str, fails: bool
) -> None:
    host, tally = Upstream(), Tally()
    ticket = at_stage(host, stage, tally)
    assert host.in_flight == 1
    parked = "parked" in stage or stage == "tunnel"
    assert host.parked == tally.parked == parked
    host.fails = fails
    settles = parked or stage == "light connection"
    if fails and (settles or blamed):
        with pytest.raises(RuntimeError):
            getattr(ticket, end)(START + 1, *given)
    else:
        assert getattr(ticket, end)(START + 1, *given) is parked
        assert [event for event in host.events if event[0] != "settle"] == blamed
        assert [event for event in host.events if event[0] == "settle"] == [("settle", 0)] * settles
    host.events.clear()
    for again, more in (("done", ()), ("failed", (HostFault.ANSWER,)), ("give_back", ())):
        assert getattr(ticket, again)(START + 2, *more) is False
    assert (counts(host), tally.parked, host.lightness, host.moments) == ((0, 0, done), 0, 0.0, 1.0)
    assert (host.under_way, host.parked_items, host.events) == ({}, set(), [])
    assert ticket.is_over


def test_it_knows_how_many_were_over_or_in_flight_when_it_began() -> None:
    host = Upstream()
    first, *items = [begun(host, START, KIND) for _ in range(3)]
    first.done(START)
    items.append(begun(host, START, KIND))
    assert [item.turn for item in items] == [2, 3, 4]


def test_a_parked_item_is_in_flight_still_but_not_looked_at() -> None:
    host = Upstream()
    item = begun(host, START, KIND)
    item.park()
    assert (counts(host), host.under_way, item.sent) == ((1, 1, 0), {}, 0.0)
    assert not item.is_queued
    assert host.kinds.long[KIND]
    item.park()
    assert counts(host) == (1, 1, 0), "it is parked once"


@pytest.mark.parametrize(("seconds", "noted"), [(PARKED_AFTER_S, True), (PARKED_AFTER_S - 0.01, False)])
def test_one_that_began_as_parked_confirms_that_its_kind_is_long_only_if_it_was(seconds: float, noted: bool) -> None:
    host = Upstream()
    item = begun(host, START, KIND, long=True)
    assert (counts(host), host.under_way) == ((1, 1, 0), {})
    assert not host.kinds.long[KIND]
    assert item.done(START + seconds) is True
    assert (counts(host), host.kinds.long[KIND]) == ((0, 0, 1), noted)


@pytest.mark.parametrize("long", [False, True])
def test_a_tunnel_that_came_of_an_item_stays_parked_and_its_length_tells_nothing(long: bool) -> None:
    host, tally = Upstream(), Tally()
    item = begun(host, START, KIND, tally=tally, long=long)
    item.stay_parked()
    assert (counts(host), host.under_way, [each.began for each in host.parked_items]) == ((1, 1, 0), {}, [START])
    assert host.kinds.long[KIND] is not long
    assert item.done(START + 100) is True
    assert (counts(host), tally.parked, host.kinds.long[KIND]) == ((0, 0, 1), 0, not long)


ANSWERS = [
    # owed since, parked early, stream -> the time that counts, what the ticket keeps
    (START, False, 0, {KIND: [0.25]}, -0.25),
    (START, False, 1, {KIND + 1: [0.25]}, -0.25),
    (START, True, 1, {}, -0.25),
    (0.0, False, 0, {}, 0.0),
    (-0.1, False, 0, {}, -0.1),
]


@pytest.mark.parametrize(("sent", "long", "stream", "times", "kept"), ANSWERS)
def test_the_head_of_an_answer_tells_its_time_once(
    sent: float, long: bool, stream: int, times: dict[int, list[float]], kept: float
) -> None:
    host = Upstream()
    item = begun(host, START, KIND, long=long)
    item.sent = sent
    item.answered(START + 0.25, stream)
    assert (host.times, item.sent) == (times, kept)


def test_a_connection_counts_as_its_use_says() -> None:
    host, tally = Upstream(), Tally()
    connection = host.begin_connection(START, tally)
    for parked, lightness in ((0, 0.5), (1, 0.75), (1, 0.75), (0, -2.0)):
        connection.weigh(parked, lightness)
        assert (host.parked, tally.parked, host.lightness) == (parked, parked, lightness)
    connection.done(START)
    connection.weigh(1, 0.5)
    assert (host.parked, tally.parked, host.lightness) == (0, 0, 0.0)


@given(st.lists(st.tuples(st.sampled_from(["begin", "long", "park", "end", "tick"]), st.integers(0, 50)), max_size=80))
def test_counts_agree_whatever_happens(steps: list[tuple[str, int]]) -> None:
    host = CountedHost(LoadEstimate(HostTraits(reports=False), ReceivedReports(ParentShare(1)), START - 600), Kinds())
    now, items = START, list[Ticket[CountedHost]]()
    for step, which in steps:
        now += which / 64
        item = items[which % len(items)] if items else None
        match step:
            case "begin" | "long":
                items.append(begun(host, now, KIND, long=step == "long"))
            case "park" if item is not None:
                item.park()
            case "end" if item is not None:
                items.remove(item)
                item.done(now)
            case "tick":
                host.learn_from_items(now)
        assert host.in_flight == len(items) == host.parked + len(host.under_way)
        assert host.moments + host.in_flight * now == pytest.approx(area(host, items, now), abs=1e-6)
        assert host.parked == len(host.parked_items)


def area(host: CountedHost, items: list[Ticket[CountedHost]], now: float) -> float:
    """What is in flight has been there since it began; of what is over `moments` has kept the sum."""
    return host.moments + sum(item.began for item in items) + sum(now - item.began for item in items)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("head_came_before", [False, True])
def test_a_whole_answer_counts_as_its_head_and_its_end(long: bool, head_came_before: bool) -> None:
    at_once, in_parts = Upstream(), Upstream()
    items = [begun(host, START, KIND, long=long) for host in (at_once, in_parts)]
    for item in items:
        item.sent = START + 1
        if head_came_before:
            item.answered(START + 2, 1)
    items[1].answered(START + 3, 1)
    assert items[0].answered_whole(START + 3, 1) is items[1].done(START + 3) is long
    assert counts(at_once) == counts(in_parts) == (0, 0, 1)
    assert (at_once.moments, at_once.times) == (in_parts.moments, in_parts.times)
    assert not at_once.under_way
    assert not at_once.parked_items
    assert not items[0].answered_whole(START + 4, 1), "the second end counts nothing"
    assert counts(at_once) == (0, 0, 1)
