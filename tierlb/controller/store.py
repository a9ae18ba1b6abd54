"""Where the controller keeps what must outlive it: the history, and the apply on its way.

`Store` is what a controller needs; `FileStore` keeps it in a directory of one machine, and etcd_store.py where several
share it. Every save names the version it was made from (compare-and-swap). One controller has a directory to itself, so
there a mismatch is a mistake or an edit of the files by hand. In a store that is shared it is ordinary.

A file is replaced whole: written beside the old one, synced, renamed over it, and the directory synced. So a process
that is killed, a machine that loses power or a disk that is full leaves the old file or the new one. A file that is
damaged later is found by its checksum, and the version before it is kept.
"""

import contextlib
import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Protocol

import attrs
import trio

from tierlb.channel.durable import StoreError, make_directory, store_error, sync_directory, write_atomically
from tierlb.channel.private import open_private, read_private
from tierlb.controller.documents import DOCUMENT_FORMAT, Damaged, digest, from_plain, parse_document, to_plain
from tierlb.controller.history import History, Rollout

STATE_FILE = "state.json"
BACKUP_FILE = "state.previous.json"
DAMAGED_FILE = "state.damaged.json"
LOCK_FILE = "lock"


class StaleError(StoreError):
    """The save was made from a version that is not the stored one; load, and decide again."""


@attrs.frozen
class Stored:
    """What is kept."""

    history: History = History()
    rollout: Rollout | None = None


@attrs.frozen
class Loaded:
    """What was found, and the version to name in the next save (0: nothing was there).

    `warning`, where there is one, is for the operator: it is not the newest version, which is damaged.
    """

    stored: Stored
    version: int
    warning: str = ""


class Store(Protocol):
    """Keeps one `Stored`."""

    async def load(self) -> Loaded:
        """What is kept now. Raises StoreError."""

    async def save(self, stored: Stored, expected_version: int) -> int:
        """Replace the version that is named; the new version's number, which is larger. Raises StaleError if another
        one is stored, and StoreError, with the old one still stored, if it could not be kept."""

    async def close(self) -> None:
        """Release it for other controllers."""


@attrs.define
class FileStore:
    """A store in `directory`. The work is done by threads, since a disk may take seconds to sync. A save that was begun
    is not cancelled."""

    directory: Path
    _files: "StateFiles" = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._files = StateFiles(self.directory)

    async def load(self) -> Loaded:
        """As StateFiles has it."""
        return await trio.to_thread.run_sync(self._files.load)

    async def save(self, stored: Stored, expected_version: int) -> int:
        """As StateFiles has it."""
        return await trio.to_thread.run_sync(self._files.save, stored, expected_version)

    async def close(self) -> None:
        """Release the directory for another controller."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._files.close)


@attrs.define
class StateFiles:
    """The files of a store in `directory`, which is made if it is not there, and locked from the first use to `close`.

    May be called from any thread. The last step of a save is to sync the directory. If that alone fails, the new
    version has its name already. The one before gets it back at once, or, if the disk does not allow that, at the next
    use.
    """

    directory: Path
    _lock: int | None = attrs.field(default=None, init=False)
    _refused: int = attrs.field(default=0, init=False)
    """A version whose save was reported as failed, and that may still have to be taken back."""
    _one_at_a_time: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def load(self) -> Loaded:
        """What is kept; from the backup, with a warning, if the current file is damaged."""
        with self._one_at_a_time:
            self._hold()
            return self._find()[0]

    def save(self, stored: Stored, expected_version: int) -> int:
        """Replace the version that is named, and keep it as the backup."""
        with self._one_at_a_time:
            self._hold()
            found, current = self._find()
            if found.version != expected_version:
                raise StaleError(
                    f"{self.directory / STATE_FILE} has version {found.version}, not {expected_version}: load it again"
                )
            self._set_aside(current)
            self._replace(found.version + 1, stored)
            return found.version + 1

    def close(self) -> None:
        """Release the directory for another controller."""
        with self._one_at_a_time:
            if self._lock is not None:
                os.close(self._lock)
                self._lock, self._refused = None, 0

    def _hold(self) -> None:
        if self._lock is None:
            make_directory(self.directory)
            self._lock = _lock(self.directory / LOCK_FILE)
        self._take_back()

    def _replace(self, version: int, stored: Stored) -> None:
        try:
            write_atomically(self.directory / STATE_FILE, _state_bytes(stored, version))
        except StoreError:
            self._refused = version
            with contextlib.suppress(StoreError):
                self._take_back()
            raise

    def _take_back(self) -> None:
        """A version whose save was reported as failed must not be there at the next start, nor in the way of the next
        save. Before it, the version before was made the backup, if there was one."""
        if not self._refused:
            return
        path = self.directory / STATE_FILE
        current = _read_state(path)
        if current is not None and current.loaded is not None and current.loaded.version == self._refused:
            try:
                if self._refused > 1:
                    os.replace(self.directory / BACKUP_FILE, path)
                else:
                    path.unlink()
            except OSError as error:
                raise store_error(path, "taken back", error) from error
            with contextlib.suppress(StoreError):
                sync_directory(self.directory)
        self._refused = 0

    def _find(self) -> tuple[Loaded, "_Reading | None"]:
        """What is stored, and how the current file reads."""
        current = _read_state(self.directory / STATE_FILE)
        if current is not None and current.loaded is not None:
            return current.loaded, current
        backup = _read_state(self.directory / BACKUP_FILE)
        if backup is not None and backup.loaded is not None:
            return attrs.evolve(backup.loaded, warning=self._warning(current, backup.loaded.version)), current
        if current is None and backup is None:
            return Loaded(Stored(), 0), None
        raise StoreError(
            f"{self.directory / STATE_FILE} {_fault(current)} and {BACKUP_FILE} beside it {_fault(backup)}: put back a "
            "copy of one, or move both away and apply the topology file again"
        )

    def _warning(self, current: "_Reading | None", version: int) -> str:
        then = f", and is copied to {DAMAGED_FILE} at the next change" if current else ""
        return (
            f"{self.directory / STATE_FILE} {_fault(current)}{then}; the version before, {version}, is used: what "
            "changed last may have to be applied again"
        )

    def _set_aside(self, current: "_Reading | None") -> None:
        """What is about to be replaced: the backup if it is whole; else, as far as there is room, evidence."""
        if current is not None and current.loaded is not None:
            write_atomically(self.directory / BACKUP_FILE, current.content)
        elif current is not None:
            with contextlib.suppress(StoreError):
                write_atomically(self.directory / DAMAGED_FILE, current.content)


def holder(directory: Path) -> int | None:
    """The process that has the store in this directory, if one has. Raises StoreError, also if it noted no pid."""
    path = directory / LOCK_FILE
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise store_error(path, "opened", error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _noted_pid(descriptor)
        if not pid.isdecimal():
            raise StoreError(f"{directory} is used by a process that could not note its pid: stop it by hand") from None
        return int(pid)
    finally:
        os.close(descriptor)
    return None


def peek(directory: Path) -> Stored | None:
    """What the store in this directory holds while another process has it; None where that cannot be read."""
    with contextlib.suppress(StoreError):
        reading = _read_state(directory / STATE_FILE)
        return reading.loaded.stored if reading is not None and reading.loaded is not None else None
    return None


@attrs.frozen
class _Reading:
    """A file's bytes, and what they hold or why they cannot be read."""

    content: bytes
    loaded: Loaded | None = None
    fault: str = ""


def _read_state(path: Path) -> _Reading | None:
    """None if there is no such file."""
    try:
        content = read_private(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise store_error(path, "read", error) from error
    try:
        return _Reading(content, _state_from_bytes(content, path))
    except Damaged as damage:
        return _Reading(content, fault=str(damage))


def _fault(reading: _Reading | None) -> str:
    return "is missing" if reading is None else f"is damaged ({reading.fault})"


def _state_bytes(stored: Stored, version: int) -> bytes:
    plain = to_plain(stored)
    document = {"format": DOCUMENT_FORMAT, "version": version, "sha256": digest([version, plain]), "stored": plain}
    return json.dumps(document).encode()


def _state_from_bytes(content: bytes, path: Path) -> Loaded:
    """Raises Damaged, and StoreError if it is whole but written by a newer tierlb."""
    document = parse_document(content, path, "choose another directory")
    version, plain = document.get("version"), document.get("stored")
    if type(version) is not int or version < 1 or document.get("sha256") != digest([version, plain]):
        raise Damaged("its checksum is wrong")
    return Loaded(from_plain(plain, Stored), version)


def _lock(path: Path) -> int:
    """The open lock file. The kernel releases the lock when the process ends, however it ends."""
    try:
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise store_error(path, "opened", error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        taken = isinstance(error, BlockingIOError)
        problem = _in_use(path, descriptor) if taken else store_error(path, "locked", error)
        os.close(descriptor)
        raise problem from error
    with contextlib.suppress(OSError):  # on a full disk there is a lock without a name
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _in_use(path: Path, descriptor: int) -> StoreError:
    pid = _noted_pid(descriptor)
    owner = f"the process with pid {pid}" if pid else "another process"
    return StoreError(f"{path.parent} is used by {owner}: stop that controller, or choose another directory")


def _noted_pid(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
