"""Hosts as the tests of choosers write them down."""

from collections.abc import Sequence

import attrs

from tierlb.balance.peak import PeakEwma


@attrs.define(eq=False)
class FakeHost:
    name: str = "m"
    in_flight: int = 0
    slope: float = 1.0
    offset: float = 1.0
    capacity: float = 1.0
    share: float = 1.0
    left_out: float = 0.0
    parked: int = 0
    weight: float = 1.0
    peak: PeakEwma = attrs.field(factory=PeakEwma)


def fake_hosts(count: int) -> list[FakeHost]:
    return [FakeHost(f"m{index}") for index in range(count)]


def loaded(loads: Sequence[int]) -> list[FakeHost]:
    """Hosts with these items in flight."""
    return [FakeHost(f"m{index}", load) for index, load in enumerate(loads)]
