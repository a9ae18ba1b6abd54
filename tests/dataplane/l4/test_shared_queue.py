"""A queue that two processes can read: each message goes to one of them."""

import socket
from collections.abc import Iterator

import pytest

from tierlb.dataplane.l4 import shared_queue
from tierlb.dataplane.l4.shared_queue import NOTED_EVERY_S, SharedQueue
from tierlb.net.packets import close_all, receive_packet
from tierlb.net.wheel import NEVER
from tierlb.wire.handoff import encode_entry


@pytest.fixture
def queue() -> Iterator[SharedQueue]:
    queue = SharedQueue()
    yield queue
    queue.close()


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


def test_nothing_is_read_that_there_is_no_descriptor_for(queue: SharedQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.send(0.0, 7, message(7), (queue.copy.fileno(),))
    monkeypatch.setattr(shared_queue, "has_room_for", lambda count, like: False)
    assert queue.take_back() is None
    assert queue.copy.recv(100, socket.MSG_PEEK) == message(7)
