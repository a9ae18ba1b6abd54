"""What all choosers promise."""

import collections
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.balance.fake_hosts import FakeHost, fake_hosts, loaded
from tierlb.balance.choosers import Chooser, make_chooser
from tierlb.balance.peak import PeakEwma
from tierlb.model.topology import Policy

LOADS = st.lists(st.integers(0, 5), min_size=1, max_size=12)


def built(policy: Policy, hosts: list[FakeHost], seed: int = 7) -> Chooser[FakeHost]:
    chooser: Chooser[FakeHost] = make_chooser(policy, random.Random(seed))
    chooser.rebuild(hosts)
    return chooser


@pytest.mark.parametrize("policy", Policy)
def test_the_same_seed_gives_the_same_choices(policy: Policy) -> None:
    def choices() -> list[str]:
        chooser = built(policy, fake_hosts(5))
        return [chooser.pick(key).name for key in range(50)]

    assert choices() == choices()


@pytest.mark.parametrize("policy", [policy for policy in Policy if policy is not Policy.MAGLEV])
@given(loads=LOADS, seed=st.integers(), share=st.sampled_from([0.02, 1.0]))
def test_the_choice_is_one_of_the_hosts(policy: Policy, loads: list[int], seed: int, share: float) -> None:
    hosts = loaded(loads)
    for host in hosts:
        host.share = share
    chooser = built(policy, hosts, seed)
    assert all(chooser.pick(key) in hosts for key in range(5))
    part = hosts[: 1 + seed % len(hosts)]
    assert all(chooser.among(part, key) in part for key in range(5))


@pytest.mark.parametrize("policy", Policy)
def test_members_that_left_are_not_chosen(policy: Policy) -> None:
    hosts = fake_hosts(6)
    chooser = built(policy, hosts)
    chooser.rebuild(hosts[2:4])
    assert {chooser.pick(key * 7919).name for key in range(200)} == {"m2", "m3"}


@pytest.mark.parametrize("policy", Policy)
def test_nobody_is_a_state_that_passes(policy: Policy) -> None:
    chooser = built(policy, fake_hosts(2))
    chooser.rebuild([])
    chooser.rebuild(fake_hosts(1))
    assert chooser.pick(0).name == "m0"


ODD = st.one_of(st.floats(), st.sampled_from([0.0, 1.0, 5e-324, 1e308, math.inf, math.nan]))
ODD_MEMBERS = st.builds(
    FakeHost,
    in_flight=st.integers(0, 1 << 40),
    slope=ODD,
    offset=ODD,
    capacity=ODD,
    share=st.sampled_from([0.02, 1.0]),
    weight=ODD,
    peak=st.builds(PeakEwma, ODD),
)


@pytest.mark.parametrize("policy", [policy for policy in Policy if policy is not Policy.MAGLEV])
@given(odd=st.lists(ODD_MEMBERS, min_size=1, max_size=6), seed=st.integers(), rounds=st.integers(1, 3))
def test_no_figures_make_a_choice_fail(policy: Policy, odd: list[FakeHost], seed: int, rounds: int) -> None:
    """Whatever weights, capacities and lines are: there is a choice, and it is one of the hosts."""
    for index, host in enumerate(odd):
        host.name = f"m{index}"
    chooser = built(policy, odd, seed)
    for _ in range(rounds):
        assert all(chooser.pick(key) in odd for key in range(5))
        part = odd[: 1 + seed % len(odd)]
        assert chooser.among(part, seed) in part
        random.Random(seed).shuffle(odd)
        chooser.rebuild(odd[: 1 + seed % len(odd)])
        chooser.rebuild(odd)


SETS = [
    (5e-324, 1.0),
    (0.0,),
    (0.0, 0.0),
    (1.0, 0.0),
    (5e-324, 1e308),
    (math.nan, 1.0),
    (math.inf, -1.0),
    (1e-9, 1.0, 0.0, 1e6),
]


@pytest.mark.parametrize("weights", SETS)
def test_no_weights_make_a_table_fail(weights: tuple[float, ...]) -> None:
    hosts = [FakeHost(f"m{index}", weight=weight) for index, weight in enumerate(weights)]
    chooser = built(Policy.MAGLEV, hosts)
    for part in (hosts, hosts[:1], hosts[::-1], []):
        chooser.rebuild(part)
        assert all(chooser.pick(key * 7919) in part for key in range(50) if part)
        assert chooser.among(hosts[-1:], 5) is hosts[-1]


@pytest.mark.parametrize("policy", Policy)
def test_hosts_that_weigh_nothing_beside_others_are_not_picked(policy: Policy) -> None:
    hosts = fake_hosts(4)
    for host in hosts:
        host.peak.observe(0.0, 0.1)
    for index in (0, 3):
        hosts[index].weight = 0.0
        hosts[index].slope = hosts[index].offset = 1e9
    chooser = built(policy, hosts)
    assert {chooser.pick(key * 7919).name for key in range(300)} == {"m1", "m2"}


SHARES = [
    ((3.0, 1.0, 6.0), 1),
    ((9.0, 1.0), 1),
    ((9.0, 1.0), 4),
    ((3.0, 1.0), 2),
    ((3.0, 1.0, 3.0), 16),
    ((99.0, 1.0), 3),
]


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("share", [0.02, 1.0])
@pytest.mark.parametrize(("weights", "in_flight"), SHARES)
def test_equals_get_items_by_weight_under_every_policy(
    policy: Policy, share: float, weights: tuple[float, ...], in_flight: int
) -> None:
    """So many are in flight at all times; each host takes as long over one as any other."""
    hosts = [
        FakeHost(f"m{number}", weight=weight, share=share, slope=max(weights) / weight, offset=8.0)
        for number, weight in enumerate(weights)
    ]
    for host in hosts:
        host.peak.observe(0.0, 0.1)
    chooser = built(policy, hosts)
    rng = random.Random(2)
    counts: collections.Counter[str] = collections.Counter()
    busy: list[FakeHost] = []
    for turn in range(6000):
        if len(busy) == in_flight:
            busy.pop(rng.randrange(in_flight)).in_flight -= 1
        busy.append(chooser.pick(rng.getrandbits(64)))
        busy[-1].in_flight += 1
        counts[busy[-1].name] += 1
        if turn % 7 == 0:
            chooser.rebuild(hosts)
    parts = [counts[host.name] / 6000 for host in hosts]
    assert parts == pytest.approx([weight / sum(weights) for weight in weights], abs=0.06)
    assert all(parts)


LOADED = [policy for policy in Policy if policy not in (Policy.ROUND_ROBIN, Policy.RANDOM, Policy.WEIGHTED)]


@pytest.mark.parametrize("policy", LOADED)
@pytest.mark.parametrize("share", [0.02, 1.0])
def test_weights_do_not_fill_one_that_is_stuck(policy: Policy, share: float) -> None:
    hosts = [FakeHost(f"m{number}", weight=weight, share=share) for number, weight in enumerate((2.0, 2.0, 1.0))]
    for host in hosts:
        host.slope, host.offset = 2 / host.weight, 8.0
        host.peak.observe(0.0, 0.1)
    chooser = built(policy, hosts)
    rng = random.Random(3)
    for _ in range(300):
        picked = chooser.pick(rng.getrandbits(64))
        picked.in_flight += 1
    assert [host.in_flight for host in hosts] == pytest.approx([120, 120, 60], abs=25)
