"""Candidates over a real etcd: one is active at a time, whatever happens to it, to the others and to etcd."""

import contextlib
import itertools
import select
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import trio

from tests.etcd import USER, Relay, Server, running_etcd
from tests.processes import Process, running
from tierlb.channel.log import Log
from tierlb.controller.election import DENIED_AGAIN_S, Election, LastingProblem, Leader, Leadership, leader_of
from tierlb.controller.etcd import Etcd, open_etcd
from tierlb.controller.etcd_access import Denied
from tierlb.model.topology import SharedStore
from tierlb.wire.etcd import Delete, Get, KeyValue, Put, TxnResult

DEADLINE_S = 30.0
TAKEOVER_S = 10.0
LEAD = """
import json, sys, trio
from tierlb.cli.log import LazyLog
from tierlb.controller.election import Election
from tierlb.controller.etcd import open_etcd
from tierlb.model.topology import SharedStore

async def main():
    etcd = open_etcd(SharedStore(**json.loads(sys.argv[2])))
    async with Election(etcd, sys.argv[1], "one", "ws://one", LazyLog()).lead() as leadership:
        print("active", flush=True)
        await leadership.lost.wait()
        print("lost", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.fixture
async def relayed(server: Server, relay: Relay) -> AsyncIterator[Etcd]:
    etcd = server.client([relay.address])
    yield etcd
    await etcd.close()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name}/leader"


@attrs.define
class Candidate:
    """Leads for as long as it is let."""

    election: Election
    active: trio.Event = attrs.field(factory=trio.Event)
    enough: trio.Event = attrs.field(factory=trio.Event)
    leadership: Leadership | None = None

    async def run(self) -> None:
        async with self.election.lead() as self.leadership:
            self.active.set()
            await self.enough.wait()


@contextlib.asynccontextmanager
async def standing(key: str, log: Log) -> AsyncIterator[Callable[..., Candidate]]:
    """Let candidates stand; all of them end with the block."""

    def stand(etcd: Etcd, name: str, **options: float) -> Candidate:
        candidate = Candidate(Election(etcd, key, name, f"ws://{name}", log, **options))
        nursery.start_soon(candidate.run)
        return candidate

    async with trio.open_nursery() as nursery:
        yield stand
        nursery.cancel_scope.cancel()


@pytest.fixture
async def stand(key, log, etcd: Etcd, relayed: Etcd) -> AsyncIterator[Callable[..., Candidate]]:
    async with standing(key, log) as stand:
        yield stand


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 (etcd and several candidates; none tells)
        await trio.sleep(0.01)


@contextlib.contextmanager
def leading_process(server: Server, key: str) -> Iterator["Process[bytes]"]:
    """Another process that is the active controller."""
    command = [sys.executable, "-c", LEAD, key, server.described()]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
        assert readable, f"it is not active after {DEADLINE_S:g} s"
        assert process.stdout.readline() == b"active\n"
        yield process


async def test_the_first_is_active_and_the_second_knows_of_it(stand, etcd: Etcd, key: str, log) -> None:
    with trio.fail_after(DEADLINE_S):
        one = stand(etcd, "one")
        await one.active.wait()
        assert one.election.current() == Leader("one", "ws://one")
        two = stand(etcd, "two")
        await until(two.election.current)
        assert two.election.current() == Leader("one", "ws://one")
        assert not two.active.is_set()
        ((item,),) = (await etcd.read(Get(key))).found
        assert leader_of(item) == Leader("one", "ws://one")
        assert ("other_controller_elected", {"controller": "two", "active": "one (ws://one)"}) in log.events


async def test_after_an_orderly_end_another_one_is_active_at_once(stand, etcd: Etcd) -> None:
    with trio.fail_after(DEADLINE_S):
        one, two = stand(etcd, "one"), stand(etcd, "two", look_every_s=60)
        first, second = await whoever_is_first(one, two)
        await until(second.election.current)
        with trio.fail_after(1.0):
            first.enough.set()
            await second.active.wait()
        assert first.election.current() is None


async def whoever_is_first(one: Candidate, two: Candidate) -> tuple[Candidate, Candidate]:
    await until(lambda: one.active.is_set() or two.active.is_set())
    return (one, two) if one.active.is_set() else (two, one)


async def test_of_many_that_come_and_go_only_one_is_active(etcd: Etcd, key: str, log) -> None:
    active, turns = 0, 0

    async def run(name: str) -> None:
        nonlocal active, turns
        election = Election(etcd, key, name, "", log)
        for _ in range(5):
            async with election.lead() as leadership:
                active, turns = active + 1, turns + 1
                assert active == 1
                ((item,),) = (await etcd.read(Get(key))).found
                assert item.created == leadership.fence().revision
                active -= 1

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(run, f"candidate-{number}")
    assert turns == 20


async def test_a_controller_that_is_killed_is_replaced_in_seconds(stand, server: Server, etcd: Etcd, key: str) -> None:
    with trio.fail_after(DEADLINE_S), leading_process(server, key) as process:
        two = stand(etcd, "two")
        await until(two.election.current)
        process.kill()
        began_s = trio.current_time()
        with trio.fail_after(TAKEOVER_S):
            await two.active.wait()
        print(f"another controller was active {trio.current_time() - began_s:.2f} s after the kill")


async def test_a_controller_that_slept_finds_that_it_is_not_active_any_more(
    stand, server: Server, etcd: Etcd, key: str
) -> None:
    with trio.fail_after(DEADLINE_S), leading_process(server, key) as process:
        two = stand(etcd, "two")
        process.send_signal(signal.SIGSTOP)
        await two.active.wait()
        process.send_signal(signal.SIGCONT)
        assert process.stdout is not None
        assert await trio.to_thread.run_sync(process.stdout.readline) == b"lost\n"
        await trio.sleep(1.0)
        assert not two.leadership.lost.is_set()
        assert two.election.current() == Leader("two", "ws://two")


async def test_a_controller_that_is_cut_off_stops_before_another_one_begins(
    stand, relay: Relay, relayed: Etcd, etcd: Etcd
) -> None:
    with trio.fail_after(DEADLINE_S):
        one = stand(relayed, "one")
        await one.active.wait()
        two = stand(etcd, "two")
        await until(two.election.current)
        relay.freeze()
        began_s = trio.current_time()
        await one.leadership.lost.wait()
        assert trio.current_time() - began_s > 1.0
        assert not two.active.is_set()
        assert one.election.current() is None
        await two.active.wait()
        assert not (await etcd.commit([one.leadership.fence()], [])).agreed
        assert (await etcd.commit([two.leadership.fence()], [])).agreed


async def test_a_short_silence_of_etcd_leaves_the_active_controller(stand, relay: Relay, relayed: Etcd, log) -> None:
    with trio.fail_after(DEADLINE_S):
        one = stand(relayed, "one", ttl_s=6)
        await one.active.wait()
        for _ in range(2):
            relay.freeze()
            await trio.sleep(2.0)
            relay.cut()
            relay.thaw()
            await trio.sleep(1.5)
        assert not one.leadership.lost.is_set()
        assert [event for event, _ in log.events] == ["election_won"]


async def test_an_etcd_that_restarts_leaves_the_active_controller(tmp_path: Path, log) -> None:
    with running_etcd(tmp_path) as server, trio.fail_after(DEADLINE_S):
        etcd = server.client()
        async with standing("leader", log) as stand:
            first, second = await whoever_is_first(stand(etcd, "one", ttl_s=9), stand(etcd, "two", ttl_s=9))
            server.members[0].kill()
            server.start_one(server.members[0])
            await trio.sleep(4.0)
            assert not first.leadership.lost.is_set()
            assert not second.active.is_set()
        await etcd.close()


async def test_where_etcd_is_gone_nobody_is_active_and_when_it_is_back_somebody_is(tmp_path: Path, log) -> None:
    with running_etcd(tmp_path) as server, trio.fail_after(DEADLINE_S):
        etcd = server.client()
        async with standing("leader", log) as stand:
            first, second = await whoever_is_first(stand(etcd, "one"), stand(etcd, "two"))
            server.members[0].kill()
            await first.leadership.lost.wait()
            first.enough.set()
            third = stand(etcd, "three")
            await trio.sleep(1.0)
            assert not second.active.is_set()
            server.start_one(server.members[0])
            await until(lambda: second.active.is_set() or third.active.is_set())
        complaints = [fields for event, fields in log.events if event == "leader_lookup_failed"]
        assert sorted(fields["controller"] for fields in complaints) == sorted([second.election.name, "three"])
        assert all(fields["reason"].startswith("etcd at ") for fields in complaints)
        await etcd.close()


async def test_a_controller_whose_key_was_deleted_by_hand_stops(stand, etcd: Etcd, key: str, log) -> None:
    with trio.fail_after(DEADLINE_S):
        one = stand(etcd, "one")
        await one.active.wait()
        await etcd.commit([], [Delete(key)])
        await one.leadership.lost.wait()
        assert log.events[-1][0] == "leadership_lost"


async def test_a_watch_that_went_silent_is_made_up_for_by_looking(
    key, log, relay: Relay, server: Server, etcd: Etcd
) -> None:
    both = server.client([relay.address, *server.clients], answer_s=0.5)
    with trio.fail_after(DEADLINE_S):
        await etcd.commit([], [Put(key, b"first")])
        async with standing(key, log) as stand:
            candidate = stand(both, "one", look_every_s=2.0)
            await until(candidate.election.current)
            with trio.fail_after(1.5):
                await etcd.commit([], [Put(key, b"second")])
                await until(lambda: candidate.election.current() == Leader("b'second'"))
            relay.freeze()
            await etcd.commit([], [Delete(key)])
            await candidate.active.wait()
        await both.close()


async def test_a_watch_that_broke_is_begun_again(stand, relay: Relay, relayed: Etcd, etcd: Etcd) -> None:
    with trio.fail_after(DEADLINE_S):
        one = stand(etcd, "one")
        await one.active.wait()
        two = stand(relayed, "two", look_every_s=60)
        await until(two.election.current)
        relay.cut()
        one.enough.set()
        await two.active.wait()


async def test_what_goes_wrong_in_the_active_controller_goes_on_as_it_is_and_gives_the_seat_back(
    etcd: Etcd, key: str, log
) -> None:
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(ZeroDivisionError):
            async with Election(etcd, key, "one", "", log).lead():
                raise ZeroDivisionError
        assert (await etcd.read(Get(key))).found == ((),)
        with trio.move_on_after(0.1) as scope:
            async with Election(etcd, key, "two", "", log).lead():
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert (await etcd.read(Get(key))).found == ((),)


async def test_somebody_who_put_the_key_by_hand_is_waited_for(stand, etcd: Etcd, key: str) -> None:
    with trio.fail_after(DEADLINE_S):
        await etcd.commit([], [Put(key, b"by hand")])
        one = stand(etcd, "one")
        await until(one.election.current)
        assert one.election.current() == Leader("b'by hand'")
        await etcd.commit([], [Delete(key)])
        await one.active.wait()


@pytest.mark.parametrize(
    ("value", "leader"),
    [
        (b'{"name": "one", "url": "ws://one"}', Leader("one", "ws://one")),
        (b'{"name": "one", "url": "", "later": 1}', Leader("one")),
        *((value, Leader(repr(value))) for value in (b"", b"7", b"[]", b"{}", b"\xff", b'{"name": "one"}')),
    ],
)
def test_whoever_put_the_key_has_a_name(value: bytes, leader: Leader) -> None:
    assert leader_of(KeyValue("x", value, 1, 1)) == leader


def test_a_leader_is_shown_with_where_it_is() -> None:
    assert (str(Leader("one", "ws://one")), str(Leader("one"))) == ("one (ws://one)", "one")


# An etcd that does not let everybody in.


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Server]:
    with running_etcd(tmp_path, secure=True) as server:
        yield server


@pytest.mark.parametrize(
    ("key", "changes", "said"),
    [
        ("elsewhere/leader", {}, "permission denied.*grant-permission ROLE --prefix=true readwrite"),
        ("test/leader", {"user": "ann"}, "authentication failed.*: correct `user`"),
        ("test/leader", {"user": None, "password_file": None}, "name `user` and `password_file` of `store`"),
    ],
)
async def test_who_could_not_take_the_seat_does_not_wait_for_it(
    guarded: Server, log, key: str, changes: dict[str, str | None], said: str
) -> None:
    etcd = open_etcd(guarded.store(**changes))
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(Denied, match=said):
            async with Election(etcd, key, "one", "", log).lead():
                pass
        await etcd.close()
    assert log.events == []


async def test_who_may_only_read_is_told_before_the_seat_is_vacant(guarded: Server, log) -> None:
    guarded.allow("elsewhere", "READ", guarded.root())
    taken = {"key": b64encode(b"elsewhere/leader").decode(), "value": ""}
    guarded.members[0].call("kv/put", taken, guarded.root())
    etcd = guarded.client()
    with trio.fail_after(DEADLINE_S):
        assert (await etcd.read(Get("elsewhere/leader"))).found[0]
        with pytest.raises(Denied, match="permission denied"):
            async with Election(etcd, "elsewhere/leader", "one", "", log).lead():
                pass
        await etcd.close()


async def test_an_end_of_all_tokens_leaves_the_active_controller(guarded: Server, log) -> None:
    etcd, other = guarded.client(), guarded.client()
    with trio.fail_after(DEADLINE_S):
        async with standing("test/leader", log) as stand:
            one = stand(etcd, "one")
            await one.active.wait()
            two = stand(other, "two")
            await until(two.election.current)
            for _ in range(4):
                etcd.calls.token = other.calls.token = "ended.1"
                await trio.sleep(1.0)
            assert not one.leadership.lost.is_set()
            one.enough.set()
            await two.active.wait()
        await etcd.close()
        await other.close()


async def test_whom_etcd_locks_out_stops_and_says_why_until_it_is_had_access_again(guarded: Server, log) -> None:
    etcd = guarded.client()
    assert guarded.access is not None
    with trio.fail_after(DEADLINE_S):
        async with standing("test/leader", log) as stand:
            one = stand(etcd, "one")
            await one.active.wait()
            two = stand(etcd, "two")
            await until(two.election.current)
            change = {"name": USER, "password": "new"}
            guarded.members[0].call("auth/user/changepw", change, guarded.root())
            await one.leadership.lost.wait()
            (lost,) = [fields for event, fields in log.events if event == "leadership_lost"]
            assert "authentication failed" in lost["reason"]
            one.enough.set()
            await until(two.election.problem)
            assert "correct `user` of `store`" in two.election.problem()
            assert "leader_lookup_failed" in [event for event, _ in log.events]
            assert not two.active.is_set()
            guarded.access.file("password").write_text("new")
            await two.active.wait()
            assert two.election.problem() == ""
        await etcd.close()


async def test_a_problem_that_lasts_is_said_again_and_again(log, autojump_clock) -> None:
    etcd = open_etcd(SharedStore("etcd://127.0.0.1:1"))
    with trio.move_on_after(150):
        async with Election(etcd, "test/leader", "one", "", log).lead():
            pass
    assert [event for event, _ in log.events] == ["leader_lookup_failed"] * 3
    await etcd.close()


class Locked(Etcd):
    """Tells of another one's key once, and lets nobody in from then on."""

    asked: ClassVar[list[float]] = []
    watched: ClassVar[list[float]] = []

    async def commit(self, *_: object) -> TxnResult:
        return TxnResult(False, 1, ())

    async def read(self, *_: Get, within_s: float | None = None) -> TxnResult:
        self.asked.append(trio.current_time())
        if len(self.asked) > 1:
            raise Denied("locked out")
        return TxnResult(True, 1, ((KeyValue("test/leader", b"", 1, 1),),))

    async def watch(self, *_: object) -> None:
        self.watched.append(trio.current_time())
        raise Denied("locked out")


async def test_who_waits_and_is_locked_out_asks_no_more_often_than_who_comes(log, autojump_clock) -> None:
    etcd = Locked(["127.0.0.1:1"])
    election = Election(etcd, "test/leader", "one", "", log)
    with trio.move_on_after(60):
        async with election.lead():
            pass
    await etcd.close()
    for times in (etcd.asked[1:], etcd.watched):
        assert len(times) > 20
        assert all(later - before >= DENIED_AGAIN_S for before, later in itertools.pairwise(times))


def test_a_problem_is_logged_at_once_and_once_a_minute_until_it_is_over() -> None:
    problem = LastingProblem()
    assert [problem.note("no route", now) for now in (0.0, 1.0, 59.0, 60.0, 61.0)] == [True, False, False, True, False]
    problem.clear()
    assert (problem.text, problem.note("no route", 62.0), problem.text) == ("", True, "no route")
