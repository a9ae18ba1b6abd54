"""Files that are old or new, never neither: written beside the old one, synced, renamed over it, the directory synced.

A process that is killed, a machine that loses power or a disk that is full leaves one or the other. The state of the
controller (store.py) and the snapshot that a node served last (snapshot_cache.py) are written like this.
"""

import contextlib
import errno
import os
from pathlib import Path

from tierlb.channel.private import NotPrivate, make_private_directory

ADVICE = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or have the quota raised",
    errno.EFBIG: "have the limit on file sizes raised (ulimit -f)",
    errno.EROFS: "have it mounted for writing, or choose another directory",
    errno.EACCES: "allow it to the user that tierlb runs as, or choose another directory",
    errno.EPERM: "allow it to the user that tierlb runs as, or choose another directory",
}
NOT_PRIVATE_ADVICE = "remove it if it is not yours, or choose another directory"
OTHER_ADVICE = "check the directory and the disk it is on"


class StoreError(Exception):
    """A file could not be read or written; the text says which, why and what to do."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file, or make it, readable by its owner alone. After a crash at any moment it is the old one or the
    new one. Raises StoreError, and then leaves nothing beside it; one writer at a time."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        _write_synced(temporary, content)
        os.replace(temporary, path)
    except OSError as error:
        raise store_error(path, "written", error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def make_directory(directory: Path) -> None:
    """Make it and those above that are missing, for this user alone. One that exists is left as it is: its owner may
    mean others to read it, and the files in it are private anyway. Raises StoreError, also if another user controls
    it."""
    try:
        made = make_private_directory(directory)
    except NotPrivate as error:
        raise store_error(directory, "used", error) from error
    except OSError as error:
        raise store_error(directory, "made", error) from error
    for each in made:
        with contextlib.suppress(StoreError):  # a user that may make a directory there may not be allowed to open it
            sync_directory(each.parent)


def _write_synced(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # of a process that was killed
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def sync_directory(directory: Path) -> None:
    """Make a new name last. Some network file systems cannot (EINVAL), and need not."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise store_error(directory, "synced", error) from error


def store_error(path: Path, done: str, error: OSError) -> StoreError:
    advice = NOT_PRIVATE_ADVICE if isinstance(error, NotPrivate) else ADVICE.get(error.errno or 0, OTHER_ADVICE)
    return StoreError(f"{path} cannot be {done}: {error.strerror or error}; {advice}")
