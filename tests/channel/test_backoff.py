import pytest

from tierlb.channel.backoff import Backoff


def test_waits_double_up_to_the_longest():
    backoff = Backoff()
    assert [backoff.wait_s(0) for _ in range(9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


@pytest.mark.parametrize(("lasted_s", "wait_s"), [(9.9, 0.4), (10.0, 0.1), (3600.0, 0.1)])
def test_a_good_while_is_forgiven(lasted_s, wait_s):
    backoff = Backoff(failures=2)
    assert backoff.wait_s(lasted_s) == pytest.approx(wait_s)


def test_ten_thousand_failures_do_not_overflow():
    assert Backoff(failures=10_000).wait_s(0) == 10.0
