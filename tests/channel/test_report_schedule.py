"""Reports in virtual time: what is due when, and what is in it."""

import random

import attrs
import pytest
import trio

from tierlb.channel.report_schedule import CONTROLLER_AS_PARENT, SIGN_OF_LIFE_S, ReportSchedule
from tierlb.channel.watching import WatchRelay
from tierlb.model.load import Echo, NodeLoad, NodeRow, SubtreeLoad
from tierlb.wire.frames import Watch


@pytest.fixture
def reports(plane):
    return ReportSchedule(plane, random.Random(1), WatchRelay())


class Kept:
    """Takes every report of an outlet and notes when it came."""

    def __init__(self):
        self.times, self.reports = [], []

    async def take(self, reports, parent):
        with reports.outlet(parent) as outlet:
            while True:
                self.reports.append(await reports.next(outlet))
                self.times.append(trio.current_time())

    def gaps(self):
        return [b - a for a, b in zip(self.times, self.times[1:], strict=False)]

    def after(self, time):
        return [at - time for at in self.times if at >= time]


@pytest.fixture
async def start(reports, nursery):
    def start(parent="edge-1"):
        kept = Kept()
        nursery.start_soon(kept.take, reports, parent)
        return kept

    nursery.start_soon(reports.run)
    return start


async def test_reports_come_four_times_a_second_out_of_step(start, plane, autojump_clock):
    plane.busy = True
    kept, other = start("edge-1"), start("edge-22")
    await trio.sleep(60)
    for gaps in (kept.gaps(), other.gaps()):
        assert 0.2 < min(gaps) < max(gaps) <= 0.35
        assert sum(gaps) / len(gaps) == pytest.approx(0.25, abs=0.03)
    assert kept.times[-20:] != other.times[-20:]


async def test_reports_become_seldom_while_nothing_changes_and_say_when_the_next_one_is_due(start, autojump_clock):
    kept = start()
    await trio.sleep(20)
    gaps = kept.gaps()
    assert gaps[1:5] == sorted(gaps[1:5])
    assert gaps[5:] == [pytest.approx(2.0, rel=0.11)] * len(gaps[5:])
    assert gaps == pytest.approx([report.next_s for report in kept.reports[:-1]])


async def test_the_first_change_at_rest_is_reported_at_once_and_reports_are_frequent_again(
    start, plane, reports, autojump_clock
):
    kept = start()
    await trio.sleep(20)
    changed = trio.current_time()
    plane.subtree_load = attrs.evolve(plane.subtree_load, arrivals=1, in_flight=1)
    reports.stir()
    await trio.sleep(3)
    assert kept.after(changed)[0] <= 0.0501
    assert kept.after(changed)[1] <= 0.35
    assert kept.reports[kept.times.index(kept.after(changed)[0] + changed)].subtree.arrivals == 1


async def test_each_parent_hears_its_own_echo_and_the_same_subtree(start, plane, autojump_clock):
    kept, other = start("edge-1"), start("edge-22")
    await trio.sleep(1)
    assert {report.subtree for report in (*kept.reports, *other.reports)} == {plane.subtree_load}
    assert kept.reports[-1].echo == Echo(1, 2, 6)
    assert other.reports[-1].echo == Echo(1, 2, 7)


async def test_a_change_of_capacity_is_told_at_once_but_never_within_50_ms(start, plane, reports, autojump_clock):
    kept = start()
    await trio.sleep(10)
    for _ in range(20):
        changed = trio.current_time()
        plane.subtree_load = attrs.evolve(plane.subtree_load, capacity=plane.subtree_load.capacity * 2)
        reports.stir()
        await trio.sleep(1)
        assert kept.after(changed)[0] <= 0.0501
    assert min(kept.gaps()) >= 0.0499


async def test_leaving_is_said_as_draining_at_once(start, reports, autojump_clock):
    kept = start()
    await trio.sleep(10)
    before, left = kept.reports[-1], trio.current_time()
    reports.leaving = True
    reports.hurry()
    await trio.sleep(0.001)
    assert (before.subtree.draining, kept.reports[-1].subtree.draining) == (False, True)
    assert kept.after(left)[0] < 0.001


async def test_a_sparse_outlet_gives_a_sign_of_life_and_no_detail(start, reports, autojump_clock):
    kept, reports.has_parents = start(CONTROLLER_AS_PARENT), True
    reports.relay.take(Watch(60.0), trio.current_time())
    await trio.sleep(60)
    assert kept.gaps() == [pytest.approx(SIGN_OF_LIFE_S, abs=0.06)] * (len(kept.times) - 1)
    assert len(kept.times) > 4
    assert all((report.echo, report.rows) == (Echo(), ()) for report in kept.reports)


def row_of(node):
    return NodeRow(node, "app", 0.0, NodeLoad(0, 0, 0, 0, 0, 0, 0, 0.0), SubtreeLoad())


def names(report):
    return [row.node for row in report.rows]


async def test_rows_are_attached_while_somebody_watches(start, reports, autojump_clock):
    kept = start()
    await trio.sleep(5)
    reports.relay.take(Watch(5.0), trio.current_time())
    reports.relay.rows.note([row_of("app-1"), row_of("app-2")], trio.current_time())
    await trio.sleep(10)
    detail = [names(report) for report in kept.reports if names(report)]
    assert detail[0] == ["web-1", "app-1", "app-2"]
    assert detail[1:] == [["web-1"]] * (len(detail) - 1), "what was sent is sent again only when it is newer"
    assert 15 <= len(detail) <= 25
    assert names(kept.reports[-1]) == []


async def test_a_row_that_nobody_has_seen_is_not_kept_waiting(start, reports, autojump_clock):
    kept, sparse = start(), start(CONTROLLER_AS_PARENT)
    reports.has_parents = True
    reports.relay.take(Watch(60.0), trio.current_time())
    await trio.sleep(10.01)
    signs = len(sparse.times)
    for number in range(20):
        reports.relay.rows.note([row_of(f"app-{number}")], trio.current_time())
        reports.soon()
        heard = trio.current_time()
        await trio.sleep(0.4)
        assert kept.after(heard)[0] <= 0.1001
    assert min(kept.gaps()) >= 0.0499
    assert len(sparse.times) <= signs + 1


async def test_one_that_is_slow_to_send_delays_no_other(start, plane, reports, nursery, autojump_clock):
    plane.busy = True

    async def stuck():
        with reports.outlet("stuck") as outlet:
            await reports.next(outlet)
            await trio.sleep_forever()

    nursery.start_soon(stuck)
    kept = start()
    await trio.sleep(10)
    assert max(kept.gaps()) <= 0.35


async def test_a_closed_outlet_is_asked_no_more(reports, nursery, autojump_clock):
    with reports.outlet("edge-1") as outlet:
        reports.hurry()
        assert outlet.due.is_set()
    outlet.due = trio.Event()
    reports.hurry()
    assert not outlet.due.is_set()
