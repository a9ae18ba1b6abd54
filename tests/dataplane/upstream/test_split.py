"""Shares of a split: drawn by weight, and where one is of no use its traffic goes to the others."""

import collections
import random

import pytest

from tests.dataplane.registries import Harness, child, destination, host_spec
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.dataplane.upstream.split import Split
from tierlb.model.topology import Admin


@pytest.fixture
def harness() -> Harness:
    return Harness()


def counted(split: Split, host_sets: list[HostSet], count: int = 4000) -> list[float]:
    """The part of so many items that each host set gets."""
    drawn = collections.Counter(id(split.pick()) for _ in range(count))
    return [drawn[id(host_set)] / count for host_set in host_sets]


def test_a_split_draws_by_weight(harness: Harness) -> None:
    host_sets = harness.host_sets(destination("a", weight=3), destination("b", weight=1))
    assert counted(Split(host_sets, random.Random(1)), host_sets) == pytest.approx([0.75, 0.25], abs=0.03)
    assert Split(host_sets[:1], random.Random(1)).pick() is host_sets[0]


def weightless(name: str) -> object:
    return host_spec(name, weight=0.0)


@pytest.mark.parametrize(
    "unusable", [(), (host_spec("x", weight=0.0),), (host_spec("x", admin=Admin.DRAIN), host_spec("y", weight=0.0))]
)
def test_traffic_of_a_share_without_a_host_goes_to_the_others_by_their_weights(
    harness: Harness, unusable: tuple[object, ...]
) -> None:
    host_sets = harness.host_sets(
        destination(*unusable, weight=6),
        destination("b", weight=3),
        destination("c", weight=1),  # type: ignore[arg-type]
    )
    assert counted(Split(host_sets, random.Random(1)), host_sets) == pytest.approx([0, 0.75, 0.25], abs=0.03)


def test_hosts_that_are_down_are_used_at_last_only(harness: Harness) -> None:
    host_sets = harness.host_sets(destination("a", weight=9), destination("b", weight=1))
    split = Split(host_sets, random.Random(1))
    (a,), (b,) = (host_set.hosts for host_set in host_sets)
    a.checked(False)
    assert counted(split, host_sets) == [0, 1]
    b.checked(False)
    assert counted(split, host_sets) == pytest.approx([0.9, 0.1], abs=0.03)
    a.checked(True)
    assert counted(split, host_sets) == [1, 0]


def test_a_share_of_weight_zero_gets_nothing_even_when_it_alone_has_hosts(harness: Harness) -> None:
    host_sets = harness.host_sets(destination(weight=90), destination("b", weight=0))
    split = Split(host_sets, random.Random(1))
    assert counted(split, host_sets, 500) == [1, 0]
    assert split.pick().choose() is None
    assert split.pick().why_none() == "app has no member"


def test_shares_that_are_all_empty_or_all_zero_raise_nothing(harness: Harness) -> None:
    empty = harness.host_sets(destination(weight=1), destination(weight=1))
    assert {Split(empty, random.Random(seed)).pick().choose() for seed in range(20)} == {None}
    zero = harness.host_sets(destination("a", weight=0), destination("b", weight=0))
    assert Split(zero, random.Random(1)).pick() in zero


def test_a_host_that_has_just_come_does_not_draw_a_share_before_it_reported(harness: Harness) -> None:
    harness.host_sets(destination(child("old")))
    harness.report("old", capacity=1.0)
    host_sets = harness.host_sets(destination(child("old"), weight=1), destination(child("new"), weight=9))
    split = Split(host_sets, random.Random(1))
    assert counted(split, host_sets, 200) == [1, 0]
    harness.report("new", capacity=1.0)
    assert counted(split, host_sets)[1] == pytest.approx(0.9, abs=0.03)


def test_an_item_that_failed_goes_to_another_share_by_weight_and_never_to_one_of_weight_zero(harness: Harness) -> None:
    host_sets = harness.host_sets(
        destination("a", weight=90),
        destination("b", weight=3),
        destination("c", weight=1),
        destination("d", weight=0),
    )
    split = Split(host_sets, random.Random(1))
    (a,), (b,), (c,), _ = (host_set.hosts for host_set in host_sets)
    drawn = collections.Counter(others(split, (a,), 400))
    assert drawn.keys() == {"b", "c"}
    assert drawn["b"] / 400 == pytest.approx(0.75, abs=0.07)
    assert others(split, (a, b), 20) == ["c"] * 20
    assert others(split, (a, b, c)) == [""]
    assert host_sets[0].of_other_share((a, b)) is host_sets[2]


def others(split: Split, tried: tuple[Host, ...], count: int = 1) -> list[str]:
    """The hosts of the host sets drawn, of one host each; "" where there is none."""
    drawn = [split.other(tried) for _ in range(count)]
    return [host_set.hosts[0].name if host_set is not None else "" for host_set in drawn]


def test_an_item_that_failed_goes_to_a_host_that_is_down_at_last_only(harness: Harness) -> None:
    host_sets = harness.host_sets(destination("a"), destination("b", weight=99), destination("c"))
    split = Split(host_sets, random.Random(1))
    (a,), (b,), (c,) = (host_set.hosts for host_set in host_sets)
    b.checked(False)
    assert others(split, (a,), 20) == ["c"] * 20
    assert others(split, (a, c)) == ["b"]


def test_a_share_with_another_host_is_another_share_too(harness: Harness) -> None:
    host_sets = harness.host_sets(destination("a", "b"))
    split = Split(host_sets, random.Random(1))
    a, b = host_sets[0].hosts
    assert split.other((a,)) is host_sets[0]
    assert split.other((a, b)) is None


def test_a_host_set_that_is_no_share_has_no_other(harness: Harness) -> None:
    (host_set,) = harness.host_sets(destination("a", "b"))
    assert host_set.of_other_share(()) is None


@pytest.mark.parametrize("down", [(), ("a",), ("b",), ("a", "b"), ("a", "b", "c")])
def test_the_parts_are_what_picks_come_to(harness: Harness, down: tuple[str, ...]) -> None:
    host_sets = harness.host_sets(destination("a", weight=3), destination("b", weight=1), destination("c", weight=0))
    split = Split(host_sets, random.Random(1))
    for host_set in host_sets:
        for host in host_set.hosts:
            host.checked(False if host.name in down else None)
    parts = dict(split.parts())
    assert [parts.get(host_set, 0.0) for host_set in host_sets] == pytest.approx(counted(split, host_sets), abs=0.03)


def test_a_split_of_which_nothing_is_of_use_has_no_parts(harness: Harness) -> None:
    host_sets = harness.host_sets(destination(weightless("a")), destination(weightless("b")))
    assert Split(host_sets, random.Random(1)).parts() == []
