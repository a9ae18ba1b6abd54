"""Which CPUs a node runs on, and that it stays where it is if it cannot run there."""

import errno
import os
import threading

import pytest

from tierlb.node.pinning import Pinning, chosen_cpus

OWN = frozenset({2, 3, 5})


@pytest.mark.parametrize(
    ("cpus", "number", "chosen"),
    [
        (None, 1, OWN),
        (None, None, OWN),
        ((), 1, {2}),
        ((), 3, {5}),
        ((), 4, {2}),
        ((7, 6), 1, {7}),
        ((7, 6), 2, {6}),
        ((7, 6), 5, {7}),
        ((0, 0, 1), 2, {0}),
        ((7, 6), None, {6, 7}),
        ((), None, OWN),
    ],
)
def test_each_node_of_a_row_has_one_and_others_share_all(
    cpus: tuple[int, ...] | None, number: int | None, chosen: set[int]
) -> None:
    assert chosen_cpus(cpus, OWN, number) == chosen


class Kernel:
    """Where each thread may run; refuses a CPU that it does not have."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, frozenset[int]]] = []

    def set_affinity(self, thread, cpus) -> None:
        if not set(cpus) <= {*OWN, 7}:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.calls.append((thread, frozenset(cpus)))


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def pinning(kernel, log) -> Pinning:
    return Pinning(1, log, OWN, kernel.set_affinity)


def test_it_moves_with_each_change_and_back_with_all_its_threads(pinning, kernel):
    for cpus, where in (((7,), {7}), ((7, 2), {7}), ((2,), {2}), (None, OWN)):
        kernel.calls.clear()
        pinning.apply(cpus)
        moves = cpus != (7, 2)
        assert {cpus for _, cpus in kernel.calls} == ({frozenset(where)} if moves else set())
        assert {thread for thread, _ in kernel.calls} >= ({os.getpid()} if moves else set())


def test_nothing_is_asked_for_where_nothing_is_said(pinning, kernel):
    pinning.apply(None)
    assert kernel.calls == []


def test_cpus_that_are_not_there_leave_it_where_it_is_and_are_logged(pinning, kernel, log):
    pinning.apply((7,))
    pinning.apply((9,))
    assert log.events == [("cpus_unavailable", {"cpus": [9], "reason": "Invalid argument"})]
    kernel.calls.clear()
    pinning.apply(None)
    assert kernel.calls[0][1] == OWN


def test_a_thread_that_ends_meanwhile_is_no_problem(kernel, log):
    def gone(thread, cpus):
        raise ProcessLookupError

    Pinning(1, log, OWN, gone).apply((7,))
    assert log.events == []


def test_real_threads_are_pinned(log):
    before = os.sched_getaffinity(0)
    started, end, found = threading.Event(), threading.Event(), []

    def run():
        started.set()
        end.wait(30)
        found.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(30)
    pinning = Pinning(1, log)
    try:
        pinning.apply((max(before),))
        assert os.sched_getaffinity(0) == {max(before)}
    finally:
        end.set()
        thread.join()
        pinning.apply(None)
    assert found == [{max(before)}]
    assert os.sched_getaffinity(0) == before
