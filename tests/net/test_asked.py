"""What is asked of a socket by its descriptor, beside what the socket object says."""

import errno
import socket
from collections.abc import Iterator

import pytest

from tierlb.net.asked import asked, error_of, local_name, recv_peek, reset_at_close, tcp_info, wake_at


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        listening = socket.create_server((request.param, 0), family=family)
    except OSError as error:
        pytest.skip(f"no {request.param} here: {error}")
    with listening, socket.create_connection(listening.getsockname()[:2], timeout=30) as far:
        near, _ = listening.accept()
        with near:
            near.setblocking(False)
            yield near, far


def test_the_descriptor_stays_open_and_as_it_was(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    assert asked(near.fileno(), lambda sock: sock.getpeername()) == far.getsockname()
    with pytest.raises(ZeroDivisionError):
        asked(near.fileno(), lambda sock: 1 / 0)
    assert near.gettimeout() == 0.0
    far.sendall(b"x")


def test_what_is_peeked_at_stays(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    with pytest.raises(BlockingIOError):
        recv_peek(near.fileno(), 10)
    near.settimeout(30)
    far.sendall(b"word")
    assert near.recv(1, socket.MSG_PEEK) == b"w"
    near.setblocking(False)
    assert recv_peek(near.fileno(), 2) == b"wo"
    assert near.recv(10) == b"word"


def test_names_and_figures_are_the_kernel_s(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    assert local_name(near.fileno()) == far.getpeername()[:2]
    assert len(tcp_info(near.fileno(), 60)) == 60
    wake_at(near.fileno(), 7)
    assert near.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 7


def test_a_reset_is_seen_by_the_peer_and_its_error_is_used_up(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    assert error_of(far.fileno()) == 0
    reset_at_close(near.fileno())
    near.close()
    with pytest.raises(ConnectionResetError):
        far.recv(1)
    assert error_of(far.fileno()) == 0


def test_a_descriptor_that_is_none_raises() -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as raised:
        error_of(2**20)
    assert raised.value.errno == errno.EBADF
