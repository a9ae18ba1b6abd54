"""Work for nothing is charged, work for the client and time earn credit."""

from tierlb.dataplane.l7.http2_patience import CREDIT_PER_S, MOST_CREDIT, RESET, RESPONSE, Patience


def test_credit_runs_out() -> None:
    patience = Patience(0.0)
    assert all(patience.charge(0.0, RESET) for _ in range(int(MOST_CREDIT / RESET)))
    assert not patience.charge(0.0, RESET)


def test_time_brings_it_back_up_to_the_most() -> None:
    patience = Patience(0.0)
    patience.charge(0.0, MOST_CREDIT)
    assert patience.charge(1.0, CREDIT_PER_S)
    assert not patience.charge(1.0, 1.0)
    assert not patience.charge(1e6, MOST_CREDIT + 1)


def test_a_client_that_cancels_half_of_its_requests_may_do_so_for_ever() -> None:
    patience = Patience(0.0)
    for _ in range(100_000):
        patience.earn(RESPONSE)
        assert patience.charge(0.0, RESET)
