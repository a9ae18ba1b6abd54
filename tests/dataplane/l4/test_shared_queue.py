"""A queue that two processes can read: each message goes to one of them."""

import socket
from collections.abc import Iterator

import pytest

from tests.descriptors import descriptors_left
from tierlb.dataplane.l4.shared_queue import ALL_READ, NOTED_EVERY_S, SharedQueue
from tierlb.net.packets import close_all, receive_packet
from tierlb.net.reactor import READ, WRITE, Reactor
from tierlb.net.wheel import NEVER
from tierlb.wire.handoff import MAX_ENTRIES, encode_entry


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    crashes: list[BaseException] = []
    reactor = Reactor(crashes.append)
    yield reactor
    reactor.dispose()
    assert crashes == []


@pytest.fixture
def queue(reactor: Reactor) -> Iterator[SharedQueue]:
    queue = SharedQueue()
    yield queue
    queue.close(reactor)


def message(number: int) -> bytes:
    return encode_entry(number, ("192.0.2.7", 1), 0.0, b"")


def test_what_one_has_read_the_other_cannot_take(queue: SharedQueue) -> None:
    child = queue.copy.dup()
    for number in range(3):
        queue.send(float(number), number, message(number), (child.fileno(),))
    first = receive_packet(child, 16)
    second = queue.take_back()
    third = receive_packet(child, 16)
    assert second is not None
    assert [first.data, second.data, third.data] == [message(number) for number in range(3)]
    assert queue.take_back() is None
    close_all([*first.descriptors, *second.descriptors, *third.descriptors])
    child.close()


def test_it_is_known_since_when_something_waits(queue: SharedQueue) -> None:
    assert queue.unread_since() == NEVER
    for number, at in enumerate((10.0, 10.0 + NOTED_EVERY_S / 2, 11.0, 12.0)):
        queue.send(at, number, message(number), ())
    found = []
    while queue.may_hold_unread:
        found.append(queue.unread_since())
        if found[-1] != NEVER:
            queue.copy.recv(1)
    assert found == [10.0, 10.0, 11.0, 12.0, NEVER]


def test_numbers_of_messages_need_not_follow_each_other(queue: SharedQueue) -> None:
    for number, at in ((0, 1.0), (16, 2.0), (20, 3.0)):
        queue.send(at, number, message(number), ())
    queue.copy.recv(1)
    queue.copy.recv(1)
    assert queue.unread_since() == 3.0


def test_it_is_full_at_last(queue: SharedQueue) -> None:
    for sent in range(20):
        queue.send(0.0, sent, message(sent), ())

    def fill() -> None:
        for number in range(20, 1000):
            queue.send(0.0, number, message(number), ())

    with pytest.raises(BlockingIOError):
        fill()


def test_the_oldest_connection_that_nobody_has_read_is_known_also_after_the_end(
    queue: SharedQueue, reactor: Reactor
) -> None:
    found = [queue.oldest()]
    for number in (7, 9):
        queue.send(0.0, number, message(number), ())
    found.append(queue.oldest())
    queue.end(reactor)
    assert queue.take_back() is not None
    found.append(queue.oldest())
    assert queue.take_back() is not None
    assert [*found, queue.oldest(), queue.take_back()] == [ALL_READ, 7, 9, ALL_READ, None]
    queue.close(reactor)
    assert queue.oldest() == ALL_READ


def test_it_has_room_where_a_message_and_what_becomes_of_it_have_descriptors(queue: SharedQueue) -> None:
    assert queue.has_room()
    with descriptors_left(2 * MAX_ENTRIES - 1):
        assert not queue.has_room()
    with descriptors_left(2 * MAX_ENTRIES):
        assert queue.has_room()


def test_the_number_of_the_end_that_is_watched_is_free_after_the_batch(queue: SharedQueue, reactor: Reactor) -> None:
    """An event of it may be in the same batch."""
    near, far = socket.socketpair()
    heard: list[int] = []
    number = queue.out.fileno()

    def closes(mask: int) -> None:
        near.recv(1)
        queue.close(reactor)
        with near.dup() as other:
            assert other.fileno() != number

    reactor.add(near.fileno(), READ, closes)
    reactor.add(number, WRITE, heard.append)
    far.send(b"x")
    reactor.stint()
    with socket.socket() as other:
        assert other.fileno() <= number
    assert heard in ([], [WRITE])
    near.close()
    far.close()
