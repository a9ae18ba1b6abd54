"""Files and directories that other users of the machine cannot have prepared.

A user that can write to the directory from which tierlb is started may put a symbolic link where a file is about to be
written. The same user may put another file where one is about to be read. So the last component of a path is never
followed if it is a link. An opened file has to be a regular one of this user (or of root, which can do anything
anyway). A directory for state that another user owns is refused. So is one of root's that all users may write to.

Left out: ancestors of a state directory. The owner of one can rename what is below it, but cannot make a directory that
passes for one of this user.
"""

import errno
import os
import shutil
import stat
from pathlib import Path

STATES = ".tierlb"
"""The directory that holds one state directory for each cluster; it is checked along with them."""


class NotPrivate(OSError):  # noqa: N818 (the text is the whole message)
    """There is a file or directory that another user may control; `strerror` says which."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(errno.EPERM, problem, str(path))


def open_private(path: Path, flags: int) -> int:
    """A descriptor of this user's own file; one that is made is for this user alone. Raises OSError."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotPrivate(path, "it is a symbolic link") from error
        raise
    found = os.fstat(descriptor)
    if stat.S_ISDIR(found.st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if problem := _file_problem(found, writes=bool(flags & (os.O_WRONLY | os.O_RDWR))):
        os.close(descriptor)
        raise NotPrivate(path, problem)
    return descriptor


def read_private(path: Path, most_bytes: int = -1) -> bytes:
    """The content of this user's own file. Raises OSError."""
    with open(open_private(path, os.O_RDONLY), "rb") as stream:
        return stream.read(most_bytes)


def make_private_directory(directory: Path) -> list[Path]:
    """Make it, and those above that are missing, for this user alone; returns those that were made. One that exists
    keeps its mode, because its owner may want others to read it. Raises OSError, also if another user controls it."""
    made: list[Path] = []
    _make_missing(directory, made)
    check_directory(directory)
    return made


def remove_tree(directory: Path) -> None:
    """Remove the directory with all in it, or the link that is in its place, as far as that is possible."""
    if directory.is_symlink():
        directory.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def check_directory(directory: Path) -> None:
    """Raises OSError if another user controls the directory."""
    whole = directory.absolute()
    for each in (whole.parent, whole) if whole.parent.name == STATES else (whole,):
        if problem := _directory_problem(each):
            raise NotPrivate(each, problem)


def _make_missing(directory: Path, made: list[Path]) -> None:
    if directory.exists():
        return
    _make_missing(directory.parent, made)
    directory.mkdir(mode=0o700, exist_ok=True)
    made.append(directory)


def _directory_problem(directory: Path) -> str:
    link, found = directory.lstat(), directory.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    if stat.S_ISLNK(link.st_mode) and not _is_trusted(link):
        return f"it is a symbolic link that belongs to uid {link.st_uid}"
    if not _is_trusted(found):
        return f"it belongs to uid {found.st_uid}, and tierlb runs as uid {os.geteuid()}"
    if found.st_mode & stat.S_IWOTH and found.st_uid != os.geteuid():
        return f"every user may write to it, and it belongs to uid {found.st_uid}"
    return ""


def _file_problem(found: os.stat_result, *, writes: bool) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "it is no regular file"
    if not _is_trusted(found):
        return f"it belongs to uid {found.st_uid}, and tierlb runs as uid {os.geteuid()}"
    if writes and found.st_nlink > 1:
        return "it has another name as well (a hard link)"
    return ""


def _is_trusted(found: os.stat_result) -> bool:
    return found.st_uid in (os.geteuid(), 0)
