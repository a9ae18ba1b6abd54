"""Which kept connections a simulated node closes: by its budget, as answers end, and each once."""

import attrs
import pytest

from tierlb.model.load import Guidance, SubtreeLoad
from tierlb.simulate.client_moves import ClientMoves

NOW = 100.0


@attrs.define(eq=False)
class Waiter:
    activity: float = 1.0
    moves: bool = False


class Chooses:
    """A budget that chooses the first of those that wait, once, and notes among how many others."""

    def __init__(self) -> None:
        self.others: list[int] = []

    def set_rate(self, now: float, rate_per_s: float, why: object) -> None:
        self.rate_per_s = rate_per_s

    def choose(self, now: float, waiting: list[Waiter], others: int, response_s: float) -> list[Waiter]:
        self.others.append(others)
        return waiting[:1]

    def take(self, now: float) -> bool:
        return False


def made() -> tuple[ClientMoves, Chooses]:
    moves, budget = ClientMoves(), Chooses()
    moves.budget = budget  # type: ignore[assignment]
    return moves, budget


def test_one_that_is_chosen_closes_with_its_answer_and_is_not_chosen_again() -> None:
    moves, budget = made()
    first, second = Waiter(), Waiter()
    for client in (first, second):
        moves.begin(client)
    load = SubtreeLoad(connections=5)
    moves.follow(NOW, load, 0.1)
    assert (first.moves, second.moves) == (True, False)
    moves.answered(first)
    assert moves.is_to_close(first, NOW)
    moves.follow(NOW, load, 0.1)
    assert second.moves
    moves.leave(first, 2.5)
    moves.follow(NOW, load, 0.1)
    assert budget.others == [3, 3, 4]
    assert (moves.closed, moves.connected_s) == (1, 2.5)


def test_one_that_has_its_answer_waits_no_more() -> None:
    moves, _ = made()
    client = Waiter()
    moves.begin(client)
    moves.answered(client)
    moves.follow(NOW, SubtreeLoad(connections=1), 0.1)
    assert not client.moves
    assert not moves.is_to_close(client, NOW)


@pytest.mark.parametrize("guided", [False, True])
def test_without_guidance_no_connection_is_closed(guided: bool) -> None:
    moves, budget = made()
    if guided:
        moves.note_guidance("edge-1", Guidance(0.2))
    moves.follow(NOW, SubtreeLoad(connections=100, utilisation=0.9, capacity=100.0), 0.1)
    assert (budget.rate_per_s > 0) is guided
