"""The store in a real etcd: what was saved is there, what was not is not, and of several that save one does."""

import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.etcd import Relay, Server, running_etcd
from tests.processes import running
from tierlb.channel.durable import StoreError
from tierlb.controller.admin_states import AdminState
from tierlb.controller.documents import DOCUMENT_FORMAT, digest
from tierlb.controller.election import Election
from tierlb.controller.etcd import Etcd
from tierlb.controller.etcd_calls import EtcdUnreachable, EtcdUnsure
from tierlb.controller.etcd_store import Deposed, EtcdStore
from tierlb.controller.history import KEPT_REVISIONS, History, Revision, Rollout, RolloutOutcome
from tierlb.controller.store import FileStore, Loaded, StaleError, Store, Stored
from tierlb.model.topology import Admin
from tierlb.wire.etcd import Delete, Get, KeyValue, Put

DEADLINE_S = 30.0
NOBODY = ("127.0.0.1:1",)
SAVE = """
import json, sys, trio
from tierlb.cli.log import LazyLog
from tierlb.controller.election import Election
from tierlb.controller.etcd import open_etcd
from tierlb.controller.etcd_store import EtcdStore
from tierlb.controller.history import History
from tierlb.controller.store import Stored
from tierlb.model.topology import SharedStore

async def main():
    etcd, directory = open_etcd(SharedStore(**json.loads(sys.argv[2]))), sys.argv[1]
    async with Election(etcd, f"{directory}/leader", "one", "", LazyLog()).lead() as leadership:
        store, version, history = EtcdStore(etcd, directory, leadership.fence()), 0, History()
        while True:
            history = history.accept("x" * 1000, "ann", "", 0.0, None)
            version = await store.save(Stored(history), version)
            print(history.active, flush=True)

trio.run(main)
"""


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
def directory(request: pytest.FixtureRequest) -> str:
    return f"tierlb/{request.node.name}"


@pytest.fixture
def store(etcd: Etcd, directory: str) -> EtcdStore:
    return EtcdStore(etcd, directory)


@pytest.fixture
async def relayed(server: Server, relay: Relay, directory: str) -> AsyncIterator[EtcdStore]:
    """A store that is reached by the relay alone."""
    etcd = server.client([relay.address], answer_s=0.4)
    await etcd.read(Get("test"), within_s=DEADLINE_S)
    yield EtcdStore(etcd, directory)
    await etcd.close()


async def items(etcd: Etcd, prefix: str) -> tuple[KeyValue, ...]:
    (found,) = (await etcd.read(Get(f"{prefix}/", below=True))).found
    return found


async def test_an_empty_prefix_holds_nothing_yet(store: EtcdStore) -> None:
    with trio.fail_after(DEADLINE_S):
        assert await store.load() == Loaded(Stored(), 0)


async def test_what_was_saved_is_loaded_by_the_next_controller(etcd: Etcd, directory: str) -> None:
    one: Store = EtcdStore(etcd, directory)
    with trio.fail_after(DEADLINE_S):
        first = await one.save(FULL, 0)
        two: Store = EtcdStore(etcd, directory)
        assert await two.load() == Loaded(FULL, first)
        second = await two.save(stored("a"), first)
        assert second > first
        assert await two.load() == Loaded(stored("a"), second)
        assert await one.load() == Loaded(stored("a"), second)
        await one.close()
        await two.close()


async def test_clusters_below_one_prefix_do_not_see_each_other(etcd: Etcd) -> None:
    with trio.fail_after(DEADLINE_S):
        version = await EtcdStore(etcd, "own/shop").save(stored("a"), 0)
        assert await EtcdStore(etcd, "own/shop-2").load() == Loaded(Stored(), 0)
        await EtcdStore(etcd, "own/shop-2").save(stored("b"), 0)
        assert await EtcdStore(etcd, "own/shop").load() == Loaded(stored("a"), version)


@pytest.mark.parametrize("off_by", [-1, 1, 100])
async def test_a_save_from_another_version_changes_nothing(etcd: Etcd, store: EtcdStore, off_by: int) -> None:
    with trio.fail_after(DEADLINE_S):
        version = await store.save(stored("a"), 0)
        before = await items(etcd, store.directory)
        for expected in (version + off_by, 0):
            with pytest.raises(StaleError, match=rf"/state in etcd has version {version}, not {expected}: load it"):
                await store.save(FULL, expected)
        assert await items(etcd, store.directory) == before


async def test_of_several_that_save_from_the_same_version_one_does(etcd: Etcd, directory: str) -> None:
    kept, refused = [], 0

    async def save(name: str, version: int) -> None:
        nonlocal refused
        try:
            kept.append((name, await EtcdStore(etcd, directory).save(stored(name), version)))
        except StaleError:
            refused += 1

    with trio.fail_after(DEADLINE_S):
        version = await EtcdStore(etcd, directory).save(stored("first"), 0)
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(save, str(number), version)
        ((winner, version),) = kept
        assert refused == 11
        assert await EtcdStore(etcd, directory).load() == Loaded(stored(winner), version)


async def test_a_revision_is_put_once_and_removed_when_the_history_drops_it(etcd: Etcd, store: EtcdStore) -> None:
    with trio.fail_after(DEADLINE_S):
        both = stored("a", "b")
        version = await store.save(both, 0)
        first, second, _ = await items(etcd, store.directory)
        assert (first.key.split("/")[-1][:9], json.loads(first.value)["text"]) == ("00000001-", "a")
        dropped = Stored(History(both.history.revisions[1:], 2))
        await store.save(dropped, version)
        left, state = await items(etcd, store.directory)
        assert (left, state.key) == (second, f"{store.directory}/state")


async def test_a_history_as_large_as_one_may_be_is_kept(etcd: Etcd, store: EtcdStore) -> None:
    history = History()
    for number in range(KEPT_REVISIONS - 8):
        history = history.accept(f"{number:10000}", "ann", "", 0.0, None)
    for _ in range(8):
        history = history.accept("\U0001f600" * 2**18, "ann", "", 0.0, None)
    etcd.answer_s = DEADLINE_S
    with trio.fail_after(2 * DEADLINE_S):
        version = await store.save(Stored(history), 0)
        other = EtcdStore(etcd, store.directory)
        assert await other.load() == Loaded(Stored(history), version)
        for number in range(3):
            history = history.accept(f"more {number}", "ann", "", 0.0, None)
            version = await other.save(Stored(history), version)
        assert await store.load() == Loaded(Stored(history), version)
        assert len(await items(etcd, store.directory)) == len(history.revisions) + 1


async def test_what_is_too_large_for_etcd_is_refused_and_nothing_changes(store: EtcdStore) -> None:
    store.etcd.answer_s = DEADLINE_S
    with trio.fail_after(2 * DEADLINE_S):
        version = await store.save(stored("a"), 0)
        with pytest.raises(StoreError, match=r"refused .*: make the topology file smaller"):
            await store.save(stored("a", "x" * 1_600_000), version)
        assert await store.load() == Loaded(stored("a"), version)
        await store.save(stored("b"), version)


async def test_a_controller_that_is_not_elected_any_more_writes_nothing(etcd: Etcd, directory: str, log) -> None:
    election = Election(etcd, f"{directory}/leader", "one", "ws://one", log)
    with trio.fail_after(DEADLINE_S):
        async with election.lead() as leadership:
            old = EtcdStore(etcd, directory, leadership.fence())
            version = await old.save(stored("a"), 0)
        before = await items(etcd, directory)
        with pytest.raises(Deposed, match="not the active one any more, and there is no other yet"):
            await old.save(stored("b"), version)
        async with Election(etcd, election.key, "two", "ws://two", log).lead() as leadership:
            new = EtcdStore(etcd, directory, leadership.fence())
            assert await new.load() == Loaded(stored("a"), version)
            with pytest.raises(Deposed, match=r"another controller is active: two \(ws://two\); ask that one"):
                await old.save(stored("x" * 800_000, "y" * 800_000), version)
            version = await new.save(stored("c"), version)
            with pytest.raises(Deposed):
                await old.save(stored("b"), (await old.load()).version)
            assert await new.load() == Loaded(stored("c"), version)
        assert [item.key for item in await items(etcd, directory)][1:] == [before[-1].key]


async def test_a_save_whose_answer_was_lost_is_kept_once(relay: Relay, relayed: EtcdStore, store: EtcdStore) -> None:
    with trio.fail_after(DEADLINE_S):
        version = await relayed.save(stored("a"), 0)
        relay.swallowed = 1
        kept = await relayed.save(stored("a", "b"), version)
        assert relay.swallowed == 0
        assert await store.load() == Loaded(stored("a", "b"), kept)
        assert await relayed.save(FULL, kept) > kept


async def test_a_lost_answer_to_a_save_that_was_too_late_does_not_make_it_kept(
    relay: Relay, relayed: EtcdStore, store: EtcdStore
) -> None:
    with trio.fail_after(DEADLINE_S):
        version = await relayed.save(stored("a"), 0)
        other = await store.save(stored("b"), version)
        relay.swallowed = 1
        with pytest.raises(StaleError):
            await relayed.save(stored("c"), version)
        assert await store.load() == Loaded(stored("b"), other)


async def test_a_save_that_arrives_late_after_it_was_sent_again_changes_nothing(
    relay: Relay, server: Server, store: EtcdStore, etcd: Etcd
) -> None:
    both = server.client([relay.address, *server.clients], answer_s=0.4)
    sender = EtcdStore(both, store.directory)
    with trio.fail_after(DEADLINE_S):
        version = await sender.save(stored("a"), 0)
        relay.freeze()
        version = await sender.save(stored("a", "b"), version)
        version = await sender.save(stored("a", "b", "c"), version)
        before = await items(etcd, store.directory)
        relay.thaw()
        await trio.sleep(0.3)
        assert await items(etcd, store.directory) == before
        assert await store.load() == Loaded(stored("a", "b", "c"), version)
        await both.close()


async def test_a_save_of_which_nobody_knows_does_not_count_if_it_was_kept(
    relay: Relay, relayed: EtcdStore, store: EtcdStore
) -> None:
    with trio.fail_after(DEADLINE_S):
        version = await relayed.save(stored("a"), 0)
        relay.swallowed = 1000
        with pytest.raises(EtcdUnsure, match="did not answer"):
            await relayed.save(stored("a", "b"), version)
        relay.swallowed = 0
        assert (await store.load()).stored == stored("a", "b")
        version = await relayed.save(stored("a", "c"), version)
        assert await store.load() == Loaded(stored("a", "c"), version)


async def test_a_save_of_which_nobody_knows_is_not_undone_once_another_controller_has_built_on_it(
    relay: Relay, relayed: EtcdStore, store: EtcdStore
) -> None:
    with trio.fail_after(DEADLINE_S):
        version = await relayed.save(stored("a"), 0)
        relay.swallowed = 1000
        with pytest.raises(EtcdUnsure):
            await relayed.save(stored("a", "b"), version)
        relay.swallowed = 0
        newest = await store.save(stored("a", "b", "c"), (await store.load()).version)
        with pytest.raises(StaleError, match=f"has version {newest}, not {version}"):
            await relayed.save(stored("a", "d"), version)
        assert await store.load() == Loaded(stored("a", "b", "c"), newest)


async def test_an_etcd_that_is_not_there_is_waited_for_a_little_and_then_said(directory: str) -> None:
    etcd = Etcd(NOBODY)
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(
            EtcdUnreachable, match=r"127.0.0.1:1 cannot be reached .*: start it, or correct `store` in the"
        ):
            await EtcdStore(etcd, directory).save(FULL, 0)
        await etcd.close()


async def test_an_etcd_that_restarts_is_waited_for(tmp_path: Path) -> None:
    with running_etcd(tmp_path) as server, trio.fail_after(DEADLINE_S):
        etcd = server.client()
        store = EtcdStore(etcd, "tierlb/shop")
        version = await store.save(stored("a"), 0)
        server.members[0].kill()
        server.start_one(server.members[0])
        version = await store.save(stored("a", "b"), version)
        assert await EtcdStore(etcd, "tierlb/shop").load() == Loaded(stored("a", "b"), version)
        await etcd.close()


async def test_while_members_die_nothing_that_was_saved_is_lost(tmp_path: Path) -> None:
    with running_etcd(tmp_path, 3) as server, trio.fail_after(2 * DEADLINE_S):
        etcd = server.client()
        store, history, version = EtcdStore(etcd, "tierlb/shop"), History(), 0
        for number in range(60):
            if number % 20 == 10:
                (member := server.leader()).kill()
            history = history.accept(f"text {number}", "ann", "", 0.0, None)
            version = await store.save(Stored(history), version)
            if number % 20 == 19:
                server.start_one(member)
                server.await_ready(member)
        assert await EtcdStore(etcd, "tierlb/shop").load() == Loaded(Stored(history), version)
        await etcd.close()


async def test_of_a_controller_that_is_killed_no_revision_is_lost(
    server: Server, etcd: Etcd, directory: str, log, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    command = [sys.executable, "-c", SAVE, directory, server.described()]
    with trio.fail_after(4 * DEADLINE_S):
        with said.open("wb") as stream, running(command, stdout=stream, stderr=subprocess.DEVNULL) as process:
            while len(said.read_bytes().splitlines()) < 150:  # noqa: ASYNC110 (another process)
                await trio.sleep(0.01)
            process.kill()
            process.wait()
        acknowledged = int(said.read_bytes().splitlines()[-1])
        async with Election(etcd, f"{directory}/leader", "two", "", log).lead() as leadership:
            store = EtcdStore(etcd, directory, leadership.fence())
            loaded = await store.load()
            assert loaded.stored.history.active in (acknowledged, acknowledged + 1)
            assert await store.save(stored("a"), loaded.version) > loaded.version


def overwrite(value: bytes) -> Callable[[KeyValue], Put]:
    return lambda item: Put(item.key, value)


def change(item: KeyValue) -> Put:
    return Put(item.key, item.value.replace(b"n", b"m", 1))


def remove(item: KeyValue) -> Delete:
    return Delete(item.key)


@pytest.fixture
async def two_versions(store: EtcdStore) -> int:
    """What was saved last; its version."""
    return await store.save(stored("old", "new"), await store.save(stored("old"), 0))


async def damage(etcd: Etcd, store: EtcdStore, which: str, how: Callable[[KeyValue], Put | Delete]) -> None:
    """What somebody did by hand to the one key that begins so."""
    (item,) = [item for item in await items(etcd, store.directory) if item.key.startswith(f"{store.directory}/{which}")]
    await etcd.commit([], [how(item)])


@pytest.mark.parametrize(
    ("which", "how", "reason"),
    [
        ("state", overwrite(b""), "not JSON"),
        ("state", overwrite(b"\xff"), "not JSON"),
        ("state", overwrite(b"{}"), "not a document of tierlb"),
        ("state", overwrite(b'{"format": 1}'), "checksum"),
        ("state", change, "checksum"),
        ("revisions/00000001", change, r"revision 00000001-\w+ is not what was saved"),
        ("revisions/00000002", remove, r"revision 00000002-\w+ is missing"),
    ],
)
async def test_where_something_was_damaged_what_was_saved_last_is_used(
    etcd: Etcd, store: EtcdStore, two_versions: int, which: str, how: Callable[[KeyValue], Put | Delete], reason: str
) -> None:
    with trio.fail_after(DEADLINE_S):
        await damage(etcd, store, which, how)
        fresh = EtcdStore(etcd, store.directory)
        loaded = await fresh.load()
        assert loaded.stored == stored("old", "new")
        assert f"{store.directory}/state in etcd is damaged (" in loaded.warning
        assert re.search(reason, loaded.warning)
        assert f"version {two_versions}, is used" in loaded.warning
        version = await fresh.save(stored("old", "new"), loaded.version)
        assert await store.load() == Loaded(stored("old", "new"), version)


@pytest.mark.parametrize("forget", [False, True])
async def test_where_there_is_nothing_older_than_the_damage_that_is_said(tmp_path: Path, forget: bool) -> None:
    with running_etcd(tmp_path) as server, trio.fail_after(DEADLINE_S):
        etcd = server.client()
        store = EtcdStore(etcd, "tierlb/shop")
        if forget:
            await store.save(stored("a"), 0)
        outcome = await etcd.commit([], [Put("tierlb/shop/state", b"damaged")])
        if forget:
            server.compact(outcome.at)
        with pytest.raises(StoreError, match=r"is damaged .* has nothing older: .* begin anew \(etcdctl del tierlb/"):
            await store.load()
        await etcd.commit([], [Delete("tierlb/shop/state")])
        assert await store.load() == Loaded(Stored(), 0)
        await store.save(stored("b"), 0)
        assert len(await items(etcd, "tierlb/shop")) == 2
        await etcd.close()


async def test_what_a_newer_tierlb_wrote_is_left_alone(etcd: Etcd, store: EtcdStore) -> None:
    newer = json.dumps({"format": DOCUMENT_FORMAT + 1}).encode()
    with trio.fail_after(DEADLINE_S):
        await etcd.commit([], [Put(f"{store.directory}/state", newer)])
        with pytest.raises(StoreError, match=r"has format 2 .* newer tierlb.*: start the newer one, or choose another"):
            await store.load()


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {"history": None},
        {"history": {"revisions": [1], "active": 1}, "rollout": None},
        {"history": {"revisions": [[]], "active": 1}, "rollout": None},
        {"history": {"revisions": [], "active": 1}, "rollout": None},
        {"history": {"revisions": [], "active": "0"}, "rollout": None},
        {"history": {"revisions": [], "active": 0}, "rollout": 5},
    ],
)
async def test_a_whole_state_that_cannot_have_been_written_here_is_damaged_too(
    etcd: Etcd, store: EtcdStore, two_versions: int, content: object
) -> None:
    state = json.dumps({"format": 1, "mark": "", "sha256": digest(["", content]), "stored": content}).encode()
    with trio.fail_after(DEADLINE_S):
        await damage(etcd, store, "state", overwrite(state))
        loaded = await store.load()
        assert "is damaged" in loaded.warning
        assert loaded.stored == stored("old", "new")


admin_states = st.builds(AdminState, st.text(max_size=3), st.text(max_size=3), st.sampled_from(Admin))
revisions = st.builds(
    Revision,
    st.integers(1, 5),
    st.text(max_size=9),
    st.text(max_size=3),
    st.text(max_size=3),
    st.floats(0, 1e9),
    admin_states=st.lists(admin_states, max_size=3).map(tuple),
)
histories = st.lists(revisions, max_size=4, unique_by=lambda each: each.number).flatmap(
    lambda some: st.builds(
        lambda active: History(tuple(sorted(some, key=lambda each: each.number)), active),
        st.sampled_from([each.number for each in some] or [0]),
    )
)
rollouts = st.none() | st.builds(Rollout, st.integers(1, 5), st.just(1), st.floats(0, 1e9), st.integers(0, 3))
states = st.builds(Stored, histories, rollouts)
saves = st.tuples(st.just("save"), states, st.sampled_from([0, 0, 0, 1, 2]))
steps = st.lists(saves | st.tuples(st.sampled_from(["load", "reopen"])), max_size=12)
"""What happens to a store; a save is made from the newest version, or one that is so many older."""


@settings(max_examples=60, deadline=None)
@given(steps=steps)
def test_in_a_directory_and_in_etcd_the_same_comes_of_the_same(server: Server, steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trio.run(compare, server, steps, Path(folder) / "state", f"oracle/{next(numbers)}")


numbers = itertools.count()


async def compare(server: Server, steps: list[tuple[Any, ...]], path: Path, directory: str) -> None:
    etcd = server.client()
    stores: list[Store] = [FileStore(path), EtcdStore(etcd, directory)]
    versions: list[list[int]] = [[-1, -1, 0], [-1, -1, 0]]
    with trio.fail_after(DEADLINE_S):
        for step in steps:
            outcomes = [await carry_out(store, step, made) for store, made in zip(stores, versions, strict=True)]
            assert outcomes[0] == outcomes[1]
            if step == ("reopen",):
                for store in stores:
                    await store.close()
                stores = [FileStore(path), EtcdStore(etcd, directory)]
        await stores[0].close()
        await etcd.close()


async def carry_out(store: Store, step: tuple[Any, ...], made: list[int]) -> object:
    """What comes of it, by the order of versions instead of their numbers. `made`: all versions, the newest last."""
    if step[0] != "save":
        loaded = await store.load()
        return loaded.stored, loaded.warning, loaded.version == made[-1]
    _, state, back = step
    try:
        version = await store.save(state, made[-1 - back])
    except StaleError:
        return "stale"
    larger = version > made[-1]
    made.append(version)
    return "saved", larger
