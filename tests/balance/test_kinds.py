"""Placeholder until the tests of this module are merged."""

import tierlb.balance.kinds


def test_it_can_be_imported() -> None:
    assert tierlb.balance.kinds.__doc__
