"""Listening unix sockets: their files, and how a client of one is named.

A file that an ended process left is replaced; one where a process listens is not. The permissions are narrow from the
first moment on: `bind` makes the file with those of the socket's inode, less the umask, and `chmod` widens them.
"""

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import Final

from tierlb.model.address import Address

LOCAL_CLIENT: Final = ("127.0.0.1", 0)
"""The address of a client over a unix socket, which is on this machine and has none of its own."""


def bind_unix(sock: socket.socket, path: str, mode: int | None) -> None:
    """Bind it; `mode`: its permissions, None for those that the umask leaves. Raises OSError."""
    if _is_left(path):
        os.unlink(path)
    if mode is not None:
        os.fchmod(sock.fileno(), mode)
    sock.bind(path)
    if mode is not None:
        os.chmod(path, mode)


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


class SocketFiles:
    """The unix sockets that this process has made, and removes at their end."""

    def __init__(self) -> None:
        self._made: dict[Address, tuple[int, int] | None] = {}

    def note(self, address: Address) -> None:
        """It was made."""
        self._made[address] = identity_of(address.host)

    def permit(self, address: Address, mode: int | None) -> None:
        """Change its permissions, if it was made here. Raises OSError."""
        if mode is not None and address in self._made:
            os.chmod(address.host, mode)

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
