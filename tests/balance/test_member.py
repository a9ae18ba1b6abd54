"""Placeholder until the tests of this module are merged."""

import tierlb.balance.member


def test_it_can_be_imported() -> None:
    assert tierlb.balance.member.__doc__
