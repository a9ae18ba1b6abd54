"""The record of a host that may be ejected for its answers."""

from tierlb.dataplane.upstream.judged_host import Standing


def test_an_endpoint_is_ejected_as_long_as_a_time_is_set() -> None:
    standing, other = Standing(), Standing()
    assert not standing.ejected
    standing.until = 5.0
    standing.runs.faults += 1
    assert (standing.ejected, other.ejected, other.runs.faults) == (True, False, 0)
