"""Placeholder until the tests of this module are merged."""

import tierlb.balance.parking


def test_it_can_be_imported() -> None:
    assert tierlb.balance.parking.__doc__
