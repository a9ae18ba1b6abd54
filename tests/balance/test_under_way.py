"""Placeholder until the tests of this module are merged."""

import tierlb.balance.under_way


def test_it_can_be_imported() -> None:
    assert tierlb.balance.under_way.__doc__
