"""Placeholder until the tests of this module are merged."""

import tierlb.balance.interference


def test_it_can_be_imported() -> None:
    assert tierlb.balance.interference.__doc__
