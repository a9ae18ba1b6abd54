"""A directory in which processes of one machine find each other: unix sockets of kind SOCK_SEQPACKET, by name.

Who may take part is a matter of the directory's permissions and of the user at the other end (SO_PEERCRED); both are
checked. Containers meet in a volume that they share: unix sockets belong to the file system, not to a network.

A path to a socket has at most 107 bytes. A longer one is written by way of the directory's descriptor.
"""

import contextlib
import errno
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

MAX_PATH_BYTES = 107
"""`sun_path` of Linux without the NUL at its end."""
ENTRANCE_BACKLOG = 128
_CREDENTIALS = struct.Struct("3i")


NOT_GIVEN: Final = "this node was started without --handoff DIR"
"""Why there is no meeting place, as a rule."""


class MeetingPlace:
    """One `directory`. Raises OSError with a reason if other users may write to it. `network`: that of this process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.network = network_here()
        self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _check_private(directory, os.fstat(self._fd))
        except OSError:
            os.close(self._fd)
            raise

    def listen(self, name: str) -> socket.socket:
        """A socket that listens there, for this user only; what a process that ended left there is replaced. Raises
        OSError."""
        sock = _packet_socket()
        path = self._path(name)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            sock.bind(path)
            os.chmod(path, 0o600)
            sock.listen(ENTRANCE_BACKLOG)
        except OSError:
            sock.close()
            raise
        return sock

    def identity(self, name: str) -> tuple[int, int] | None:
        """The file that is there now, as a value that differs for another one."""
        try:
            found = os.stat(self._path(name))
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def remove(self, name: str, identity: tuple[int, int] | None) -> None:
        """Remove the socket's file, unless another process has put its own there meanwhile."""
        if identity is not None and self.identity(name) == identity:
            with contextlib.suppress(OSError):
                os.unlink(self._path(name))

    def connect(self, name: str) -> socket.socket:
        """A connection to the process that listens there. Never waits. Raises OSError: ENOENT and ECONNREFUSED if there
        is none, EPERM if it is another user's."""
        sock = _packet_socket()
        try:
            sock.connect(self._path(name))
            check_peer(sock)
        except OSError:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        os.close(self._fd)

    def _path(self, name: str) -> str:
        path = os.path.join(self.directory, name)
        if len(os.fsencode(path)) <= MAX_PATH_BYTES:
            return path
        return f"/proc/self/fd/{self._fd}/{name}"


def check_peer(sock: socket.socket) -> None:
    """Raise PermissionError unless the process at the other end is this user's, or root's."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user = _CREDENTIALS.unpack(credentials)[1]
    if user not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, f"the process at the other end is that of user {user}")


def network_here() -> bytes:
    """Which network namespace the sockets of this process belong to; empty where it is not known."""
    try:
        found = os.stat("/proc/self/ns/net")
    except OSError:
        return b""
    return f"{found.st_dev}:{found.st_ino}".encode()


def _packet_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def _check_private(directory: Path, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, f"{directory} belongs to another user: give it to user {os.geteuid()}")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise PermissionError(errno.EPERM, f"other users may write to {directory}: run chmod 700 on it")
