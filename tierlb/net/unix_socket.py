"""Listening unix sockets: their files, and how a client of one is named.

A file that an ended process left is replaced; one where a process listens is not. Only a file whose socket does not
listen counts as left. So a socket listens as soon as it is bound, and both steps happen under a lock on the directory.
The permissions are narrow from the first moment on: `bind` makes the file with those of the socket's inode, less the
umask, and `chmod` widens them.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from contextlib import suppress
from typing import Final

from tierlb.model.address import Address

LOCAL_CLIENT: Final = ("127.0.0.1", 0)
"""The address of a client over a unix socket, which is on this machine and has none of its own."""


LOCK_TRIES: Final = 20
LOCK_PAUSE_S: Final = 0.001
"""Binding takes microseconds, so a lock that is held for longer is not that of another tierlb. Any process that may
read the directory can hold it, and must not be able to prevent a start."""


def listen_unix(sock: socket.socket, path: str, mode: int | None, backlog: int) -> None:
    """Bind it and listen; `mode`: its permissions, None for those that the umask leaves. Raises OSError."""
    lock = _lock_directory(path)
    try:
        if _is_left(path):
            os.unlink(path)
        if mode is not None:
            os.fchmod(sock.fileno(), mode)
        sock.bind(path)
        if mode is not None:
            os.chmod(path, mode)
        sock.listen(backlog)
    finally:
        if lock >= 0:
            os.close(lock)


def _lock_directory(path: str) -> int:
    """A descriptor that holds the lock on the directory of the file; -1 where there is none to be had."""
    try:
        lock = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # a directory that is writable and not readable, or none at all, which `bind` reports
        return -1
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)  # noqa: TID251 (20 ms in all, as a node starts to listen there)
        except OSError:  # a file system without locks
            break
    os.close(lock)
    return -1


def identity_of(path: str) -> tuple[int, int] | None:
    """Which file that is; None if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def unlink_if(path: str, identity: tuple[int, int] | None) -> None:
    """Remove the file if it is still that one."""
    if identity is not None and identity_of(path) == identity:
        with suppress(OSError):
            os.unlink(path)


def chmod_if(path: str, mode: int | None, identity: tuple[int, int] | None) -> None:
    """Give the file these permissions if it is still that one; mode None: leave them. Raises OSError."""
    if mode is not None and identity is not None and identity_of(path) == identity:
        os.chmod(path, mode)


class SocketFiles:
    """The unix sockets that this process has made, and removes at their end."""

    def __init__(self) -> None:
        self._made: dict[Address, tuple[int, int] | None] = {}

    def note(self, address: Address) -> None:
        """It was made."""
        self._made[address] = identity_of(address.host)

    def permit(self, address: Address, mode: int | None) -> None:
        """Change its permissions, if it was made here and is still there. Raises no error, because the change of
        listeners that this is part of has begun."""
        with suppress(OSError):
            chmod_if(address.host, mode, self._made.get(address))

    def remove(self, address: Address) -> None:
        """No process finds it from now on."""
        unlink_if(address.host, self._made.pop(address, None))


def _is_left(path: str) -> bool:
    """Whether a socket is there on which no process listens. Raises OSError where something else is there."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "a file that is no socket is there")
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED
