import fcntl
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tierlb.model.address import Address
from tierlb.model.snapshot import Listener
from tierlb.net import io_twin
from tierlb.net.asked import local_name
from tierlb.net.dial import dial
from tierlb.net.io import accept4
from tierlb.net.listeners import open_socket
from tierlb.net.unix_socket import LOCAL_CLIENT, SocketFiles, identity_of, listen_unix, unlink_if


def bound(path: Path, mode: int | None = None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        listen_unix(sock, str(path), mode, 8)
    except OSError:
        sock.close()
        raise
    return sock


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_permissions_are_those_that_are_wanted_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        bound(tmp_path / "a.sock", mode).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == mode


def test_what_an_ended_process_left_is_replaced_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    bound(path).close()
    with bound(path), pytest.raises(OSError, match="in use"):
        bound(path)
    other = tmp_path / "notes.txt"
    other.write_text("kept")
    with pytest.raises(OSError, match="no socket"):
        bound(other)
    assert other.read_text() == "kept"


def test_two_that_find_the_same_left_file_do_not_both_replace_it(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    for _ in range(100):
        bound(path).close()
        with ThreadPoolExecutor(2) as pool:
            tries = [pool.submit(bound, path) for _ in range(2)]
        assert [type(each.exception()) for each in tries].count(OSError) == 1
        next(each.result() for each in tries if each.exception() is None).close()


def test_a_lock_that_another_program_holds_prevents_no_start(tmp_path: Path) -> None:
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    bound(tmp_path / "a.sock").close()
    os.close(held)
    with pytest.raises(FileNotFoundError):
        bound(tmp_path / "none" / "a.sock")


def test_a_second_node_without_a_supervisor_is_told_that_a_unix_socket_serves_one(tmp_path: Path) -> None:
    listener = Listener(Address(str(tmp_path / "a.sock"), 0), shared=True)
    with (
        open_socket(listener),
        pytest.raises(OSError, match=r"in use\. Without `tierlb up`"),
    ):
        open_socket(listener)


def test_a_file_is_removed_by_its_maker_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    bound(path).close()
    before = identity_of(str(path))
    path.unlink()
    with bound(path):
        unlink_if(str(path), before if before != identity_of(str(path)) else None)
        assert path.exists()
        unlink_if(str(path), identity_of(str(path)))
        assert not path.exists()


def test_files_that_were_made_here_follow_their_settings_and_end(tmp_path: Path) -> None:
    address, files = Address(str(tmp_path / "a.sock"), 0), SocketFiles()
    with bound(tmp_path / "a.sock", 0o600):
        files.permit(address, 0o666)
        assert stat.S_IMODE(os.stat(address.host).st_mode) == 0o600
        files.note(address)
        files.permit(address, 0o666)
        assert stat.S_IMODE(os.stat(address.host).st_mode) == 0o666
        files.remove(address)
        assert not os.path.exists(address.host)


def test_a_file_that_is_gone_or_that_of_another_process_keeps_its_permissions(tmp_path: Path) -> None:
    address, files = Address(str(tmp_path / "a.sock"), 0), SocketFiles()
    with bound(tmp_path / "a.sock", 0o600):
        files.note(address)
        os.unlink(address.host)
        files.permit(address, 0o666)
        with bound(tmp_path / "a.sock", 0o600):
            files.permit(address, 0o666)
            assert stat.S_IMODE(os.stat(address.host).st_mode) == 0o600


@pytest.mark.parametrize("accept", [accept4, io_twin.accept4])
def test_a_client_of_a_unix_socket_is_one_of_this_machine(tmp_path: Path, accept: object) -> None:
    address = Address(str(tmp_path / "a.sock"), 0)
    with open_socket(Listener(address, mode=0o600)) as listening:
        assert dial(Address(str(tmp_path / "none.sock"), 0))[0] < 0
        fd, code = dial(address)
        assert (fd >= 0, code) == (True, 0)
        accepted, host, port = accept(listening)  # type: ignore[operator]
        assert (host, port) == LOCAL_CLIENT == local_name(accepted)
        os.close(accepted)
        os.close(fd)
