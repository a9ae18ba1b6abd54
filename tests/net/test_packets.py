"""Messages with descriptors beside them."""

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from tierlb.net.packets import close_all, has_room_for, receive_packet, send_packet


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
    near, far = socket.socketpair(socket.AF_UNIX, kind)
    with near, far:
        yield near, far


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """All numbers up to the limit are taken."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        yield
    finally:
        close_all(held)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_descriptors_arrive_with_their_message(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    reading, writing = os.pipe()
    send_packet(near, b"one", (writing, reading))
    send_packet(near, b"two")
    close_all((reading, writing))
    packet = receive_packet(far, 16)
    assert (packet.data, len(packet.descriptors), packet.is_short) == (b"one", 2, False)
    assert not any(os.get_inheritable(descriptor) for descriptor in packet.descriptors)
    os.write(packet.descriptors[0], b"hello")
    assert os.read(packet.descriptors[1], 9) == b"hello"
    close_all(packet.descriptors)
    packet = receive_packet(far, 16)
    assert (packet.data, packet.descriptors) == (b"two", [])


def test_an_empty_queue_and_the_end_are_different(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    with pytest.raises(BlockingIOError):
        receive_packet(far, 16)
    near.close()
    assert receive_packet(far, 16).data == b""


def test_what_there_is_no_number_for_is_lost_and_that_is_known(
    pair: tuple[socket.socket, socket.socket], few_descriptors: None
) -> None:
    near, far = pair
    send_packet(near, b"one", (near.fileno(),))
    assert not has_room_for(1, near.fileno())
    packet = receive_packet(far, 16)
    assert (packet.data, packet.descriptors, packet.is_short) == (b"one", [], True)


def test_room_is_found_and_not_kept(pair: tuple[socket.socket, socket.socket]) -> None:
    near, _ = pair
    lowest = os.dup(near.fileno())
    os.close(lowest)
    assert has_room_for(16, near.fileno())
    after = os.dup(near.fileno())
    os.close(after)
    assert after == lowest
