"""The directory of a controller: what was saved is there, after anything that may happen to a process or a disk."""

import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tierlb.channel.durable import write_atomically
from tierlb.controller.admin_states import AdminState
from tierlb.controller.documents import DOCUMENT_FORMAT
from tierlb.controller.history import Conflict, History, Revision, Rollout, RolloutOutcome
from tierlb.controller.store import (
    BACKUP_FILE,
    DAMAGED_FILE,
    LOCK_FILE,
    STATE_FILE,
    FileStore,
    Loaded,
    StaleError,
    StateFiles,
    Store,
    Stored,
    StoreError,
    holder,
)
from tierlb.model.topology import Admin

NOBODY = 65534
DEADLINE_S = 10.0
STATES = st.builds(AdminState, st.text(max_size=3), st.text(max_size=3), st.sampled_from(Admin))


def stored(*texts: str) -> Stored:
    history = History()
    for text in texts:
        history = history.accept(text, "ann", "why not", 1767268800.25, None)
    return Stored(history)


FULL = Stored(
    History(
        (
            Revision(3, "a: ü\n", "ann \udce4", "a\nb", 0.5, 2, (AdminState("web", "web-2", Admin.DRAIN),)),
            Revision(7, "\U0001f600\x00", "", "", 1e9, 3),
        ),
        3,
    ),
    Rollout(7, 3, 1767268800.5, 2, RolloutOutcome.ROLLING_BACK, "web-3 has not joined"),
)
"""Every field set, with all that text may hold."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "controller"


@pytest.fixture
def store(directory: Path) -> Iterator[StateFiles]:
    store = StateFiles(directory)
    yield store
    store.close()


@pytest.fixture
def two_versions(store: StateFiles, directory: Path) -> Path:
    store.save(stored("old"), 0)
    store.save(stored("old", "new"), 1)
    return directory


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("a disk that is really full takes root to mount it")
    point = tmp_path / "disk"
    point.mkdir()
    mounted = mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(point))
    if mounted.returncode:
        pytest.skip(f"a disk that is really full cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True)


def mount(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False, timeout=30)


def fill(disk: Path) -> Path:
    """A file that leaves no room on the disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        assert stream.write(bytes(64 * 1024)) < 64 * 1024
        with pytest.raises(OSError, match="No space left"):
            stream.write(b"x")
    return filler


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def in_child(work: Callable[[], object]) -> str:
    """What came of it in a process of its own, so that limits, users and kills stay there; "" if that was killed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = str(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as stream:
        said = stream.read()
    os.waitpid(pid, 0)
    return said


def test_an_empty_directory_holds_nothing_yet(store: StateFiles, directory: Path) -> None:
    assert store.load() == Loaded(Stored(), 0)
    assert names(directory) == {LOCK_FILE}


def test_what_was_saved_is_loaded_by_the_next_controller(store: StateFiles, directory: Path) -> None:
    assert store.save(FULL, 0) == 1
    store.close()
    following = StateFiles(directory)
    assert following.load() == Loaded(FULL, 1)
    assert following.save(stored("a"), 1) == 2
    assert following.load() == Loaded(stored("a"), 2)
    following.close()


async def test_a_directory_is_one_of_several_stores_that_there_may_be(directory: Path) -> None:
    store: Store = FileStore(directory)
    with trio.fail_after(DEADLINE_S):
        assert await store.load() == Loaded(Stored(), 0)
        assert await store.save(FULL, 0) == 1
        assert await store.load() == Loaded(FULL, 1)
        with pytest.raises(StaleError):
            await store.save(FULL, 0)
        with pytest.raises(StoreError, match="stop that controller"):
            StateFiles(directory).load()
        await store.close()
        await store.close()
    StateFiles(directory).close()


async def test_others_go_on_while_a_disk_syncs_and_a_save_that_was_begun_is_kept(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, real = FileStore(directory), os.fsync
    begun, synced = trio.Event(), threading.Event()

    def sync(descriptor: int) -> None:
        trio.from_thread.run_sync(begun.set)
        assert synced.wait(DEADLINE_S)
        real(descriptor)

    await store.load()
    monkeypatch.setattr(os, "fsync", sync)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.save, FULL, 0)
            await begun.wait()
            nursery.cancel_scope.cancel()
            synced.set()
    assert await store.load() == Loaded(FULL, 1)
    await store.close()


async def test_a_directory_is_let_go_by_a_controller_that_is_cancelled(directory: Path) -> None:
    store = FileStore(directory)
    with trio.fail_after(DEADLINE_S), trio.CancelScope() as scope:
        await store.load()
        scope.cancel()
        await store.close()
    assert holder(directory) is None


@pytest.mark.parametrize("expected", [0, 1, 3, -1])
def test_a_save_from_another_version_changes_nothing(two_versions: Path, store: StateFiles, expected: int) -> None:
    with pytest.raises(StaleError, match=f"has version 2, not {expected}"):
        store.save(FULL, expected)
    assert store.load() == Loaded(stored("old", "new"), 2)


def test_of_several_threads_one_saves(store: StateFiles) -> None:
    def attempt(n: int) -> str:
        try:
            store.save(stored(str(n)), 0)
        except StaleError:
            return ""
        return str(n)

    with ThreadPoolExecutor(8) as pool:
        (winner,) = filter(None, pool.map(attempt, range(24)))
    assert store.load() == Loaded(stored(winner), 1)


def test_files_are_private_whatever_the_umask(store: StateFiles, directory: Path) -> None:
    before = os.umask(0)
    try:
        store.save(stored("a"), 0)
        store.save(stored("b"), 1)
        (directory / STATE_FILE).write_text("damaged")
        store.save(stored("c"), 1)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    modes[STATE_FILE] = stat.S_IMODE((directory / STATE_FILE).stat().st_mode)
    assert modes == dict.fromkeys((LOCK_FILE, STATE_FILE, BACKUP_FILE, DAMAGED_FILE), 0o600)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_where_the_directory_should_be_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        StateFiles(tmp_path / name).load()


def test_a_second_controller_hears_which_process_has_the_directory(store: StateFiles, directory: Path) -> None:
    store.load()
    said = in_child(StateFiles(directory).load)
    assert said.startswith(f"StoreError: {directory} is used by the process with pid {os.getpid()}:")
    with pytest.raises(StoreError, match="stop that controller"):
        StateFiles(directory).save(stored("a"), 0)


def test_a_lock_whose_owner_could_not_write_its_pid_holds_as_well(store: StateFiles, directory: Path) -> None:
    store.load()
    (directory / LOCK_FILE).write_text("")
    with pytest.raises(StoreError, match="used by another process"):
        StateFiles(directory).load()


def test_whoever_asks_hears_which_process_has_the_directory_and_keeps_it_from_nobody(
    store: StateFiles, directory: Path
) -> None:
    assert holder(directory) is None
    store.load()
    assert holder(directory) == os.getpid()
    store.close()
    assert holder(directory) is None
    assert store.load() == Loaded(Stored(), 0)
    (directory / LOCK_FILE).write_text("")
    with pytest.raises(StoreError, match="could not note its pid"):
        holder(directory)


@pytest.mark.parametrize("name", [LOCK_FILE, STATE_FILE, BACKUP_FILE])
def test_a_link_that_somebody_put_there_is_neither_written_nor_read(
    store: StateFiles, directory: Path, tmp_path: Path, name: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    directory.mkdir(parents=True)
    (directory / name).symlink_to(victim)
    with pytest.raises(StoreError, match=f"{name} cannot be .*: it is a symbolic link; remove it"):
        store.load()
    assert victim.read_text() == "precious\n"


def test_a_lock_that_cannot_be_looked_at_is_an_error(directory: Path) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        holder(directory)


def test_a_closed_store_lets_others_in_and_closing_twice_is_harmless(store: StateFiles, directory: Path) -> None:
    store.load()
    store.close()
    store.close()
    assert in_child(StateFiles(directory).load) == str(Loaded(Stored(), 0))


def test_a_killed_controller_leaves_no_lock(store: StateFiles, directory: Path) -> None:
    def be_killed() -> None:
        StateFiles(directory).save(stored("a"), 0)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(be_killed) == ""
    assert (directory / LOCK_FILE).read_text() != f"{os.getpid()}\n"
    assert store.load() == Loaded(stored("a"), 1)
    assert (directory / LOCK_FILE).read_text() == f"{os.getpid()}\n"


def test_a_file_that_was_cut_off_anywhere_gives_the_version_before(two_versions: Path, store: StateFiles) -> None:
    content = (two_versions / STATE_FILE).read_bytes()
    for length in range(len(content)):
        (two_versions / STATE_FILE).write_bytes(content[:length])
        loaded = store.load()
        assert (loaded.stored, loaded.version) == (stored("old"), 1)
        assert f"{two_versions / STATE_FILE} is damaged (" in loaded.warning


def test_any_byte_that_changed_is_noticed(two_versions: Path, store: StateFiles) -> None:
    content = (two_versions / STATE_FILE).read_bytes()
    of_format = content.index(b": ") + 2
    for place in set(range(len(content))) - {of_format}:
        changed = bytes([content[place] ^ 1])
        (two_versions / STATE_FILE).write_bytes(content[:place] + changed + content[place + 1 :])
        assert store.load().version == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"7", "not a document of tierlb"),
        (b"[]", "not a document of tierlb"),
        (b"{}", "not a document of tierlb"),
        (b'{"format": "1"}', "not a document of tierlb"),
        (b'{"format": 0}', "not a document of tierlb"),
        (b'{"format": true}', "not a document of tierlb"),
        (b'{"format": 1}', "checksum"),
        (b'{"format": 1, "version": 2, "sha256": null, "stored": {}}', "checksum"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(two_versions: Path, store: StateFiles, content: bytes, reason: str) -> None:
    (two_versions / STATE_FILE).write_bytes(content)
    loaded = store.load()
    assert loaded.version == 1
    assert reason in loaded.warning


def document(plain: object, version: object = 2, number: int = DOCUMENT_FORMAT) -> bytes:
    digest = hashlib.sha256(json.dumps([version, plain], sort_keys=True).encode()).hexdigest()
    return json.dumps({"format": number, "version": version, "sha256": digest, "stored": plain}).encode()


REVISION = {"number": 1, "text": "", "who": "", "why": "", "when": 0.0, "base": 0}
HISTORY = {"revisions": [REVISION], "active": 1}
STORED = {"history": HISTORY, "rollout": None}
ASLEEP = {"group": "web", "name": "web-1", "state": "asleep"}


def test_the_documents_below_are_wrong_in_one_thing_only(two_versions: Path, store: StateFiles) -> None:
    (two_versions / STATE_FILE).write_bytes(document({**STORED, "of a later version": 1}))
    assert store.load() == Loaded(Stored(History((Revision(1, "", "", "", 0.0),), 1)), 2)


@pytest.mark.parametrize(
    "content",
    [
        document(STORED, version=0),
        document(STORED, version="2"),
        document(STORED, version=True),
        document(None),
        document({**STORED, "history": 5}),
        document({**STORED, "history": {**HISTORY, "active": 2}}),
        document({**STORED, "history": {**HISTORY, "active": "1"}}),
        document({**STORED, "history": {**HISTORY, "revisions": 5}}),
        document({**STORED, "history": {**HISTORY, "revisions": [REVISION, REVISION]}}),
        document({**STORED, "history": {**HISTORY, "revisions": [{**REVISION, "text": 5}]}}),
        document({**STORED, "history": {**HISTORY, "revisions": [{**REVISION, "when": float("inf")}]}}),
        document({**STORED, "history": {**HISTORY, "revisions": [{"number": 1}]}}),
        document({**STORED, "history": {**HISTORY, "revisions": [{**REVISION, "admin_states": [ASLEEP]}]}}),
        document({**STORED, "history": {**HISTORY, "revisions": [{**REVISION, "admin_states": {"web-1": "drain"}}]}}),
        document({**STORED, "rollout": {"target": 1, "previous": 0, "deadline_s": 0}}),
        document({**STORED, "rollout": 5}),
    ],
)
def test_a_whole_file_that_cannot_have_been_written_here_is_damaged_too(
    two_versions: Path, store: StateFiles, content: bytes
) -> None:
    (two_versions / STATE_FILE).write_bytes(content)
    assert store.load().version == 1


def test_after_damage_the_next_save_keeps_the_good_backup_and_the_evidence(
    two_versions: Path, store: StateFiles
) -> None:
    (two_versions / STATE_FILE).write_text("my own edit")
    store.save(stored("newer"), store.load().version)
    assert store.load() == Loaded(stored("newer"), 2)
    assert (two_versions / DAMAGED_FILE).read_text() == "my own edit"
    (two_versions / STATE_FILE).unlink()
    assert store.load().stored == stored("old")


def test_a_missing_file_gives_the_version_before(two_versions: Path, store: StateFiles) -> None:
    (two_versions / STATE_FILE).unlink()
    loaded = store.load()
    assert loaded.stored == stored("old")
    assert "is missing; the version before, 1, is used" in loaded.warning
    assert store.save(stored("newer"), 1) == 2
    assert store.load() == Loaded(stored("newer"), 2)


@pytest.mark.parametrize("backup", ["damaged", None])
@pytest.mark.parametrize("current", ["damaged", None])
def test_with_neither_file_whole_nothing_is_made_up(
    two_versions: Path, store: StateFiles, current: str | None, backup: str | None
) -> None:
    for name, content in ((STATE_FILE, current), (BACKUP_FILE, backup)):
        (two_versions / name).unlink()
        if content:
            (two_versions / name).write_text(content)
    if current is backup is None:
        assert store.load() == Loaded(Stored(), 0)
        return
    for use in (store.load, lambda: store.save(stored("a"), 0)):
        with pytest.raises(StoreError, match=f"{STATE_FILE} is .* and {BACKUP_FILE} beside it is .*: put back a copy"):
            use()
    assert names(two_versions) == {LOCK_FILE, *([STATE_FILE] if current else []), *([BACKUP_FILE] if backup else [])}


@pytest.mark.parametrize("name", [STATE_FILE, BACKUP_FILE])
def test_a_file_of_a_newer_version_is_left_alone(two_versions: Path, store: StateFiles, name: str) -> None:
    (two_versions / STATE_FILE).write_text("damaged")
    newer = json.dumps({"format": DOCUMENT_FORMAT + 1, "anything": "else"})
    (two_versions / name).write_text(newer)
    for use in (store.load, lambda: store.save(stored("a"), 2)):
        with pytest.raises(StoreError, match=f"{name} has format {DOCUMENT_FORMAT + 1} .* newer tierlb"):
            use()
    assert (two_versions / name).read_text() == newer


def test_a_file_that_cannot_be_read_is_no_damaged_file(two_versions: Path, store: StateFiles) -> None:
    (two_versions / STATE_FILE).unlink()
    (two_versions / STATE_FILE).mkdir()
    with pytest.raises(StoreError, match="cannot be read: Is a directory"):
        store.load()


def test_on_a_disk_that_is_full_the_old_state_stays_and_can_be_loaded(disk: Path) -> None:
    store = StateFiles(disk / "controller")
    store.save(stored("a"), 0)
    filler = fill(disk)
    with pytest.raises(StoreError, match=r"cannot be written: No space left on device; free some space"):
        store.save(stored("b"), 1)
    assert names(store.directory) == {LOCK_FILE, STATE_FILE}
    store.close()
    assert store.load() == Loaded(stored("a"), 1)
    filler.unlink()
    assert store.save(stored("b"), 1) == 2
    store.close()


def test_on_a_full_disk_a_directory_is_locked_without_a_pid(disk: Path) -> None:
    store = StateFiles(disk / "controller")
    store.save(stored("a"), 0)
    store.close()
    (store.directory / LOCK_FILE).write_text("")
    fill(disk)
    assert store.load() == Loaded(stored("a"), 1)
    with pytest.raises(StoreError, match="used by another process"):
        StateFiles(store.directory).load()
    store.close()


def test_a_history_that_outgrows_its_disk_stops_growing(disk: Path) -> None:
    store = StateFiles(disk / "controller")
    state, version = Stored(), 0
    for _ in range(100):
        grown = attrs.evolve(state, history=state.history.accept("x" * 1000, "ann", "", 0, None))
        try:
            version = store.save(grown, version)
        except StoreError as error:
            assert "No space left" in str(error)  # noqa: PT017 (it must come some time, not every time)
            break
        state = grown
    assert version > 5
    assert store.load() == Loaded(state, version)
    assert names(store.directory) == {LOCK_FILE, STATE_FILE, BACKUP_FILE}
    store.close()


def test_a_disk_that_was_mounted_read_only_is_an_error(disk: Path) -> None:
    store = StateFiles(disk / "controller")
    store.save(stored("a"), 0)
    store.close()
    assert mount("-o", "remount,ro", str(disk)).returncode == 0
    with pytest.raises(StoreError, match=f"{LOCK_FILE} cannot be opened: Read-only file system; have it mounted for"):
        store.load()
    assert mount("-o", "remount,rw", str(disk)).returncode == 0
    assert store.load() == Loaded(stored("a"), 1)
    store.close()


def test_a_file_that_may_not_grow_leaves_the_old_one(store: StateFiles, directory: Path) -> None:
    def save_within_limit() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        return StateFiles(directory).save(stored("x" * 4000), 1)

    store.save(stored("a"), 0)
    store.close()
    said = in_child(save_within_limit)
    assert f"StoreError: {directory / STATE_FILE} cannot be written: File too large; have the limit" in said
    assert names(directory) == {LOCK_FILE, STATE_FILE, BACKUP_FILE}
    assert store.load() == Loaded(stored("a"), 1)


def test_without_permission_nothing_is_changed() -> None:
    place = Path(tempfile.mkdtemp(prefix="tierlb-"))
    try:
        store = StateFiles(place)
        store.save(stored("a"), 0)
        store.close()
        place.chmod(0o555)
        (place / STATE_FILE).chmod(0o444)
        (place / LOCK_FILE).chmod(0o666)

        def save() -> int:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            return StateFiles(place).save(stored("b"), 1)

        said = in_child(save)
        assert said.startswith(f"StoreError: {place / BACKUP_FILE} cannot be written: Permission denied; allow it to")
        assert store.load() == Loaded(stored("a"), 1)
        store.close()
    finally:
        place.chmod(0o700)
        shutil.rmtree(place)


STEPS = ("open", "fsync", "replace", "unlink")
"""The calls by which a save changes what is on the disk, and at each of which it may end."""


class Steps:
    """Counts the steps taken, and before the one asked for does something worse."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def run(self, work: Callable[[], object], at: int, then: Callable[[str, object], None]) -> int:
        """Do the work; the number of steps taken."""
        taken = 0

        def watched(name: str, real: Callable[..., object]) -> Callable[..., object]:
            def step(*args: object, **more: object) -> object:
                nonlocal taken
                taken += 1
                if taken == at:
                    then(name, args[0])
                return real(*args, **more)

            return step

        with self.patch.context() as patch:
            for name in STEPS:
                patch.setattr(os, name, watched(name, getattr(os, name)))
            work()
        return taken


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def test_a_file_is_on_the_disk_before_it_gets_its_name_and_then_the_name_is(tmp_path: Path, steps: Steps) -> None:
    """Without this order a loss of power may leave a name without content; nothing else can show it."""
    seen = []

    def note(name: str, subject: object) -> None:
        is_directory = isinstance(subject, int) and stat.S_ISDIR(os.fstat(subject).st_mode)
        seen.append((name, is_directory))

    def write() -> None:
        write_atomically(tmp_path / "file", b"content")

    for at in range(1, 1 + steps.run(write, 0, note)):
        steps.run(write, at, note)
    order = [step for step in seen if step[0] in ("fsync", "replace")]
    assert order == [("fsync", False), ("replace", False), ("fsync", True)]


def no_space(name: str, subject: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def kill(name: str, subject: object) -> None:
    """As if power went: of a file that was not synced, half is there."""
    if name == "fsync" and isinstance(subject, int) and stat.S_ISREG(os.fstat(subject).st_mode):
        os.ftruncate(subject, os.fstat(subject).st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)


OLD, NEW = stored("a", "b"), stored("a", "b", "c")


def prepare(directory: Path, damaged: bool) -> int:
    """A directory that holds OLD, or holds it as the backup of a file that is damaged; its version."""
    shutil.rmtree(directory, ignore_errors=True)
    store = StateFiles(directory)
    store.save(stored("a"), 0)
    store.save(OLD, 1)
    if damaged:
        store.save(OLD, 2)
        (directory / STATE_FILE).write_text("damaged")
    store.close()
    return 2


def save_new(directory: Path, version: int) -> None:
    store = StateFiles(directory)
    try:
        store.save(NEW, version)
    finally:
        store.close()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_controller_killed_at_any_step_of_a_save_leaves_the_old_state_or_the_new(
    directory: Path, steps: Steps, damaged: bool
) -> None:
    found = []
    version = prepare(directory, damaged)
    count = steps.run(lambda: save_new(directory, version), 0, kill)
    for at in range(1, count + 2):
        version = prepare(directory, damaged)
        said = in_child(partial(steps.run, partial(save_new, directory, version), at, kill))
        assert (said == "") == (at <= count), "the steps of a save are always the same"
        store = StateFiles(directory)
        loaded = store.load()
        found.append((loaded.stored, loaded.version))
        store.save(FULL, loaded.version)
        assert store.load() == Loaded(FULL, loaded.version + 1)
        store.close()
        assert names(directory) <= {LOCK_FILE, STATE_FILE, BACKUP_FILE, DAMAGED_FILE, f".{DAMAGED_FILE}.new"}
    turn = found.index((NEW, version + 1))
    assert found == [(OLD, version)] * turn + [(NEW, version + 1)] * (len(found) - turn)
    assert 3 < turn < len(found)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_disk_that_fails_at_any_step_of_a_save_leaves_the_old_state_or_the_new_and_nothing_else(
    directory: Path, steps: Steps, damaged: bool
) -> None:
    failures = 0
    prepare(directory, damaged)
    store = StateFiles(directory)
    count = steps.run(lambda: store.save(NEW, 2), 0, no_space)
    store.close()
    for at in range(1, count + 1):
        version = prepare(directory, damaged)
        store.load()
        expected = Loaded(NEW, version + 1)
        try:
            steps.run(partial(store.save, NEW, version), at, no_space)
        except StoreError as error:
            failures += 1
            assert "No space left on device; free some space" in str(error)  # noqa: PT017 (some steps may fail)
            expected = Loaded(OLD, version)
        assert attrs.evolve(store.load(), warning="") == expected
        assert names(directory) <= {LOCK_FILE, STATE_FILE, BACKUP_FILE, DAMAGED_FILE}
        store.close()
    assert failures >= 5


def refuse_to_sync_directories(number: int) -> Callable[[int], None]:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    return fsync


def test_a_file_system_that_cannot_sync_directories_will_do(store: StateFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refuse_to_sync_directories(errno.EINVAL))
    assert store.save(stored("a"), 0) == 1


def refuse_the_last_step(state: Path, version: int) -> Callable[[int], None]:
    """Directories cannot be synced once the file has this version."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        is_last = state.exists() and json.loads(state.read_bytes())["version"] == version
        if is_last and stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    return fsync


def no_names(*_: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def save_all(store: StateFiles, *texts: str) -> Loaded:
    for version in range(len(texts)):
        store.save(stored(*texts[: version + 1]), version)
    return store.load()


@pytest.mark.parametrize("texts", [(), ("a",), ("a", "b")])
def test_a_save_that_failed_at_its_last_step_is_taken_back(
    store: StateFiles, directory: Path, monkeypatch: pytest.MonkeyPatch, texts: tuple[str, ...]
) -> None:
    kept = save_all(store, *texts)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse_the_last_step(directory / STATE_FILE, kept.version + 1))
        for _ in range(2):
            with pytest.raises(StoreError, match="cannot be synced: Input/output error; check the directory and the"):
                store.save(stored("x"), kept.version)
            store.close()
            assert store.load() == kept, "whoever comes next does not meet what was refused"
    assert store.save(stored("y"), kept.version) == kept.version + 1
    assert store.load() == Loaded(stored("y"), kept.version + 1)


@pytest.mark.parametrize("texts", [(), ("a", "b")])
def test_what_cannot_be_taken_back_at_once_is_when_the_disk_lets_it(
    store: StateFiles, directory: Path, monkeypatch: pytest.MonkeyPatch, texts: tuple[str, ...]
) -> None:
    kept, real = save_all(store, *texts), refuse_the_last_step(directory / STATE_FILE, len(texts) + 1)

    def fsync(descriptor: int) -> None:
        try:
            real(descriptor)
        except OSError:
            monkeypatch.setattr(os, "replace", no_names)
            monkeypatch.setattr(os, "unlink", no_names)
            raise

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError, match="cannot be synced"):
        store.save(stored("x"), kept.version)
    for use in (store.load, lambda: store.save(stored("x"), kept.version)):
        with pytest.raises(StoreError, match=f"{STATE_FILE} cannot be taken back: Read-only file system"):
            use()
    monkeypatch.undo()
    assert store.save(stored("y"), kept.version) == kept.version + 1
    assert store.load() == Loaded(stored("y"), kept.version + 1)


class Crash(BaseException):
    """The end of the process, as far as the code under test can tell."""


@settings(max_examples=40, stateful_step_count=25, deadline=None)
class Controllers(RuleBasedStateMachine):
    """Controllers that come and go over one directory, in which is what was saved last, whatever happens."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.directory = Path(self.folder.name) / "controller"
        self.store = StateFiles(self.directory)
        self.version = 0
        self.state = Stored()
        self.before: tuple[Stored, int] | None = None
        self.texts: dict[int, str] = {}

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def saved(self, state: Stored) -> None:
        if self.version:
            self.before = (self.state, self.version)
        self.state, self.version = state, self.version + 1

    def save(self, state: Stored) -> None:
        assert self.store.save(state, self.version) == self.version + 1
        self.saved(state)

    @rule(text=st.text(max_size=20), who=st.text(max_size=5), named=st.booleans(), states=st.lists(STATES, max_size=3))
    def accept(self, text: str, who: str, named: bool, states: list[AdminState]) -> None:
        expected = self.state.history.active if named else None
        history = self.state.history.accept(text, who, "", 0.0, expected, tuple(states))
        assert history.active not in self.texts
        self.texts[history.active] = text
        self.save(attrs.evolve(self.state, history=history))

    @rule(off_by=st.sampled_from([-1, 1, 100]))
    def accept_from_the_wrong_revision(self, off_by: int) -> None:
        with pytest.raises(Conflict):
            self.state.history.accept("", "", "", 0.0, self.state.history.active + off_by)

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.texts)))
        history = self.state.history.activate(number)
        assert history.current is not None
        assert history.current.text == self.texts[number]
        self.save(attrs.evolve(self.state, history=history))

    @rule(rollout=st.none() | st.builds(Rollout, st.just(2), st.just(1), st.floats(0, 1e9), st.integers(0, 9)))
    def roll_out(self, rollout: Rollout | None) -> None:
        self.save(attrs.evolve(self.state, rollout=rollout))

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = StateFiles(self.directory)

    @rule(off_by=st.sampled_from([-1, 1]))
    def save_from_the_wrong_version(self, off_by: int) -> None:
        with pytest.raises(StaleError):
            self.store.save(FULL, self.version + off_by)

    @rule(at=st.integers(1, 12))
    def crash_in_a_save(self, at: int) -> None:
        def crash(name: str, subject: object) -> None:
            raise Crash

        try:
            with pytest.MonkeyPatch.context() as patch:
                Steps(patch).run(lambda: self.store.save(self.state, self.version), at, crash)
        except Crash:
            self.reopen()
        found = self.store.load().version
        assert found in (self.version, self.version + 1)
        if found == self.version + 1:
            self.saved(self.state)
        elif self.version:
            self.before = None  # it may have been replaced by the current one already

    @precondition(lambda self: self.before is not None)
    @rule(length=st.integers(0, 60))
    def damage(self, length: int) -> None:
        os.truncate(self.directory / STATE_FILE, length)
        loaded = self.store.load()
        assert loaded.warning
        assert (loaded.stored, loaded.version) == self.before
        self.state, self.version = loaded.stored, loaded.version
        self.texts = {number: text for number, text in self.texts.items() if self.has(number)}
        self.store.save(self.state, self.version)
        self.version += 1
        self.before = (loaded.stored, loaded.version)

    def has(self, number: int) -> bool:
        return any(revision.number == number for revision in self.state.history.revisions)

    @invariant()
    def what_was_saved_last_is_there_and_nothing_else(self) -> None:
        assert self.store.load() == Loaded(self.state, self.version)
        assert names(self.directory) <= {LOCK_FILE, STATE_FILE, BACKUP_FILE, DAMAGED_FILE}


TestControllers = Controllers.TestCase
