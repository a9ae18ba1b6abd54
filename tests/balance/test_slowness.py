"""Placeholder until the tests of this module are merged."""

import tierlb.balance.slowness


def test_it_can_be_imported() -> None:
    assert tierlb.balance.slowness.__doc__
