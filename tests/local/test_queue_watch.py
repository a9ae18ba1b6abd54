"""Which queues are offered to whom: those without a process, those whose process stands still or is behind."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import attrs
import pytest

from tierlb.local.queue_watch import LOOKS_BEHIND, QueueOffer, QueueWatch, queue_length

Connect = Callable[..., None]
Sockets = dict[int, socket.socket]


@attrs.define(eq=False)
class Process:
    number: int
    runs: bool = True

    def has_run(self) -> bool:
        return self.runs


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    with contextlib.ExitStack() as stack:
        yield {number: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for number in (1, 2, 3, 4)}


@pytest.fixture
def connect(sockets: Sockets) -> Iterator[Connect]:
    """So many clients in the queue of the socket with this number."""
    with contextlib.ExitStack() as stack:

        def connect(number: int, count: int = 1) -> None:
            for _ in range(count):
                stack.enter_context(socket.create_connection(sockets[number].getsockname(), 30))

        yield connect


@pytest.fixture
def processes() -> list[Process]:
    return [Process(number) for number in (1, 2, 3, 4)]


@pytest.fixture
def watch() -> QueueWatch[Process]:
    return QueueWatch(keeps_together=False)


def shares(offers: list[QueueOffer[Process]], sockets: Sockets, number: int) -> dict[int, int]:
    """Of the queue with this number, how many are offered to the processes of each node."""
    return {offer.process.number: offer.most for offer in offers if offer.sock is sockets[number]}


def test_the_queue_of_a_node_that_is_gone_is_divided_at_once(watch, sockets, processes, connect) -> None:
    connect(2, 10)
    del processes[1]
    for offers in (watch.look(sockets, processes), watch.orphans(sockets, processes)):
        found = shares(offers, sockets, 2)
        assert found.keys() == {1, 3, 4}
        assert sorted(found.values()) == [2, 4, 4]


def test_what_is_less_than_a_share_goes_to_each_in_turn(watch, sockets, processes, connect) -> None:
    connect(2)
    del processes[1]
    helpers = [next(iter(shares(watch.orphans(sockets, processes), sockets, 2))) for _ in range(6)]
    assert sorted(helpers) == [1, 1, 3, 3, 4, 4]


def test_a_process_that_runs_is_left_alone_until_it_is_behind_for_long(watch, sockets, processes, connect) -> None:
    connect(2, 9)
    for _ in range(LOOKS_BEHIND - 1):
        assert watch.look(sockets, processes) == []
    assert shares(watch.look(sockets, processes), sockets, 2) == {1: 3, 3: 3, 4: 3}


def test_a_queue_that_was_empty_meanwhile_is_not_behind(watch, sockets, processes, connect) -> None:
    for _ in range(3):
        connect(2)
        for _ in range(LOOKS_BEHIND - 1):
            assert watch.look(sockets, processes) == []
        sockets[2].accept()[0].close()
        assert watch.look(sockets, processes) == []


def test_who_is_behind_is_relieved_only_by_those_that_are_not(watch, sockets, processes, connect) -> None:
    for number in (1, 2, 3):
        connect(number, 2)
    offers = [watch.look(sockets, processes) for _ in range(LOOKS_BEHIND)][-1]
    assert {offer.process.number for offer in offers} == {4}
    connect(4)
    assert watch.look(sockets, processes) == []


def test_the_queue_of_a_process_that_stands_still_is_divided_at_the_second_look(
    watch, sockets, processes, connect
) -> None:
    connect(2, 6)
    processes[1].runs = False
    assert watch.look(sockets, processes) == []
    assert watch.orphans(sockets, processes) == []
    assert shares(watch.look(sockets, processes), sockets, 2) == {1: 2, 3: 2, 4: 2}


def test_of_two_processes_of_a_node_one_that_runs_is_enough(watch, sockets, processes, connect) -> None:
    connect(2)
    processes[1].runs = False
    processes.append(Process(2))
    assert [watch.look(sockets, processes) for _ in range(3)] == [[], [], []]


def test_where_all_others_wait_too_they_help_one_that_stands_still(watch, sockets, processes, connect) -> None:
    for number in (1, 2, 3, 4):
        connect(number, 3)
    processes[1].runs = False
    watch.look(sockets, processes)
    offers = watch.look(sockets, processes)
    assert shares(offers, sockets, 2) == {1: 1, 3: 1, 4: 1}
    assert len(offers) == 3


def test_nobody_is_there_to_help(watch, sockets, connect) -> None:
    connect(1)
    alone = [Process(1, runs=False)]
    assert [watch.look(sockets, alone) for _ in range(3)] == [[], [], []]
    assert watch.look(sockets, []) == watch.orphans(sockets, []) == []


def test_what_keeps_together_goes_to_one_and_only_when_its_process_does_not_run(sockets, processes, connect) -> None:
    watch = QueueWatch[Process](keeps_together=True)
    connect(2, 5)
    assert [watch.look(sockets, processes) for _ in range(2 * LOOKS_BEHIND)] == [[]] * 2 * LOOKS_BEHIND
    processes[1].runs = False
    (offer,) = watch.look(sockets, processes)
    assert (offer.sock, offer.most >= 5) == (sockets[2], True)


def test_a_queue_is_as_long_as_the_connections_that_wait(sockets, connect) -> None:
    for count in range(1, 4):
        connect(1)
        assert queue_length(sockets[1]) == count
