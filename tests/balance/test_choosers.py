"""What all choosers promise."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.balance.members import Member, loaded, members
from tierlb.balance.choosers import Chooser, make_chooser
from tierlb.model.topology import Policy

LOADS = st.lists(st.integers(0, 5), min_size=1, max_size=12)


def built(policy: Policy, candidates: list[Member], seed: int = 7) -> Chooser[Member]:
    chooser: Chooser[Member] = make_chooser(policy, random.Random(seed))
    chooser.rebuild(candidates)
    return chooser


@pytest.mark.parametrize("policy", Policy)
def test_the_same_seed_gives_the_same_choices(policy: Policy) -> None:
    def choices() -> list[str]:
        chooser = built(policy, members(5))
        return [chooser.pick(key).name for key in range(50)]

    assert choices() == choices()


@pytest.mark.parametrize("policy", [policy for policy in Policy if policy is not Policy.MAGLEV])
@given(loads=LOADS, seed=st.integers(), share=st.sampled_from([0.02, 1.0]))
def test_the_choice_is_a_candidate(policy: Policy, loads: list[int], seed: int, share: float) -> None:
    candidates = loaded(loads)
    for candidate in candidates:
        candidate.share = share
    chooser = built(policy, candidates, seed)
    assert all(chooser.pick(key) in candidates for key in range(5))
    part = candidates[: 1 + seed % len(candidates)]
    assert all(chooser.among(part, key) in part for key in range(5))


@pytest.mark.parametrize("policy", Policy)
def test_members_that_left_are_not_chosen(policy: Policy) -> None:
    candidates = members(6)
    chooser = built(policy, candidates)
    chooser.rebuild(candidates[2:4])
    assert {chooser.pick(key * 7919).name for key in range(200)} == {"m2", "m3"}


@pytest.mark.parametrize("policy", Policy)
def test_nobody_is_a_state_that_passes(policy: Policy) -> None:
    chooser = built(policy, members(2))
    chooser.rebuild([])
    chooser.rebuild(members(1))
    assert chooser.pick(0).name == "m0"
