"""What happens in virtual time happens in order."""

from hypothesis import given
from hypothesis import strategies as st

from tierlb.simulate.agenda import Agenda


@given(st.lists(st.integers(0, 20)))
def test_actions_happen_by_time_and_then_in_the_order_they_were_put_down(times: list[int]) -> None:
    agenda, happened = Agenda(), []
    for number, when in enumerate(times):
        agenda.at(float(when), happened.append, (when, number))
    agenda.run(20.0)
    assert happened == sorted(happened)
    assert len(happened) == len(times)


def test_the_time_is_that_of_the_action_and_then_that_of_the_end() -> None:
    agenda, seen = Agenda(), []
    agenda.at(1.5, lambda _: seen.append(agenda.now))
    agenda.at(9.0, lambda _: seen.append(agenda.now))
    agenda.run(4.0)
    assert (seen, agenda.now) == ([1.5], 4.0)
    agenda.run(9.0)
    assert (seen, agenda.now) == ([1.5, 9.0], 9.0)


def test_an_action_may_put_down_the_next_and_time_never_goes_back() -> None:
    agenda, seen = Agenda(), []

    def act(step: int) -> None:
        seen.append((step, agenda.now))
        if step < 3:
            agenda.at(agenda.now + 1, act, step + 1)
        if step == 1:
            agenda.at(0.0, seen.append, "late")

    agenda.at(1.0, act, 1)
    agenda.run(10.0)
    assert seen == [(1, 1.0), "late", (2, 2.0), (3, 3.0)]
