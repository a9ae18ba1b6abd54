"""The client against real members of etcd, against those that answer late or never, and against something else."""

import gc
import json
import re
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import trio
import trustme

from tests.etcd import USER, Relay, Server, running_etcd
from tierlb.channel.durable import StoreError
from tierlb.controller.etcd import Etcd, open_etcd
from tierlb.controller.etcd_access import Denied, Login
from tierlb.controller.etcd_calls import EtcdCalls, EtcdUnreachable, EtcdUnsure
from tierlb.controller.etcd_http import EtcdConnections
from tierlb.model.topology import SharedStore
from tierlb.wire.etcd import Changed, Created, Delete, Get, Lease, Put, WatchEvent, transaction

DEADLINE_S = 30.0
NOBODY = "127.0.0.1:1"


@pytest.fixture
async def relayed(server: Server, relay: Relay) -> AsyncIterator[Etcd]:
    """A client that hears of nothing but by the relay."""
    etcd = server.client([relay.address], answer_s=0.5)
    await etcd.read(Get("test"))
    yield etcd
    await etcd.close()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return f"test/{request.node.name}"


async def value(etcd: Etcd, key: str) -> bytes | None:
    (found,) = (await etcd.read(Get(key))).found
    return found[0].value if found else None


async def test_of_two_commits_from_the_same_revision_one_is_done(etcd: Etcd, key: str) -> None:
    with trio.fail_after(DEADLINE_S):
        first = await etcd.commit([Changed(key, 0)], [Put(key, b"1")], [Get(key)])
        assert (first.agreed, first.found) == (True, ((),))
        second = await etcd.commit([Changed(key, 0)], [Put(key, b"2")], [Get(key)])
        ((item,),) = second.found
        assert (second.agreed, item.value, item.changed, item.created) == (False, b"1", first.at, first.at)
        third = await etcd.commit([Changed(key, first.at), Created(key, first.at)], [Put(key, b"3"), Get(key)])
        assert (third.agreed, third.found[1][0].value) == (True, b"3")
        assert not (await etcd.commit([Created(key, third.at)], [Delete(key)])).agreed
        assert (await etcd.commit([Created(key, first.at)], [Delete(key)])).agreed
        assert await value(etcd, key) is None


async def test_what_was_there_before_can_be_read_as_of_its_revision(etcd: Etcd, key: str) -> None:
    with trio.fail_after(DEADLINE_S):
        first = await etcd.commit([], [Put(f"{key}/a", b"1"), Put(f"{key}/b", b"2"), Put(f"{key}0", b"3")])
        await etcd.commit([], [Delete(f"{key}/a"), Put(f"{key}/c", b"4")])
        now, then = (await etcd.read(Get(f"{key}/", below=True), Get(f"{key}/", below=True, at=first.at))).found
        assert [item.value for item in now] == [b"2", b"4"]
        assert [item.value for item in then] == [b"1", b"2"]


async def test_a_key_goes_with_its_lease(etcd: Etcd, key: str) -> None:
    with trio.fail_after(DEADLINE_S):
        lease = await etcd.grant(60)
        assert lease.ttl_s == 60
        await etcd.commit([], [Put(key, b"1", lease.number)])
        assert await etcd.renew(lease, 2.0) == 60
        assert await value(etcd, key) == b"1"
        await etcd.revoke(lease)
        assert await value(etcd, key) is None
        assert await etcd.renew(lease, 2.0) == 0
        with pytest.raises(StoreError, match=r"refused .*lease not found"):
            await etcd.revoke(lease)


async def test_a_lease_has_the_length_that_etcd_allows(etcd: Etcd) -> None:
    with trio.fail_after(DEADLINE_S):
        assert (await etcd.grant(1)).ttl_s == 2


async def test_where_nobody_listens_that_is_said_of_each_member() -> None:
    etcd = Etcd([NOBODY, "127.0.0.1:2"])
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(
            EtcdUnreachable, match=r"127.0.0.1:1 cannot be .*: start it, or .*; etcd at 127.0.0.1:2 cannot"
        ):
            await etcd.read(Get("x"))
        with pytest.raises(EtcdUnreachable, match="sends no changes"):
            await etcd.watch("x", 1, print)
        await etcd.close()


async def test_a_member_that_is_not_there_is_passed_over_once(server: Server, key: str) -> None:
    etcd = server.client([NOBODY, *server.clients])
    with trio.fail_after(DEADLINE_S):
        assert (await etcd.commit([], [Put(key, b"1")])).agreed
        began_s = trio.current_time()
        for _ in range(20):
            await etcd.read(Get(key))
        assert trio.current_time() - began_s < 1.0
        await etcd.close()


async def test_an_answer_that_was_lost_leaves_open_whether_it_was_done(
    relay: Relay, relayed: Etcd, etcd: Etcd, key: str
) -> None:
    relay.swallowed = 1
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(EtcdUnsure, match=r"did not answer .*: see its log"):
            await relayed.commit([], [Put(key, b"1")])
        assert await value(etcd, key) == b"1"
        assert await value(relayed, key) == b"1"


async def test_a_request_that_is_on_its_way_for_too_long_may_still_arrive(
    relay: Relay, relayed: Etcd, etcd: Etcd, key: str
) -> None:
    relay.freeze()
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(EtcdUnsure, match=r"did not answer in 0\.5 s"):
            await relayed.commit([], [Put(key, b"late")])
        assert await value(etcd, key) is None
        relay.thaw()
        while await value(etcd, key) is None:  # noqa: ASYNC110 (nobody tells)
            await trio.sleep(0.01)
        assert await value(etcd, key) == b"late"


async def test_a_question_goes_to_the_next_member_also_where_the_first_hangs(
    relay: Relay, server: Server, etcd: Etcd, key: str
) -> None:
    await etcd.commit([], [Put(key, b"1")])
    both = server.client([relay.address, *server.clients], answer_s=0.3)
    with trio.fail_after(DEADLINE_S):
        await both.read(Get(key))
        relay.freeze()
        assert await value(both, key) == b"1"
        assert relay.accepted == 1
        await both.commit([], [Put(key, b"2")])
        assert relay.accepted == 1
        await both.close()


async def test_a_watch_tells_what_is_and_what_was_since(etcd: Etcd, key: str, nursery: trio.Nursery) -> None:
    told, heard = trio.open_memory_channel[WatchEvent](10)
    with trio.fail_after(DEADLINE_S):
        first = await etcd.commit([], [Put(key, b"1")])
        nursery.start_soon(etcd.watch, key, first.at, told.send_nowait)
        event = await heard.receive()
        assert event.item is not None
        assert (event.item.value, event.at) == (b"1", first.at)
        second = await etcd.commit([], [Delete(key)])
        assert await heard.receive() == WatchEvent(None, second.at)
        await etcd.commit([], [Put(f"{key}/other", b"")])
        third = await etcd.commit([], [Put(key, b"3")])
        assert (await heard.receive()).at == third.at


async def test_a_watch_whose_connection_broke_goes_on_where_it_was(
    relay: Relay, relayed: Etcd, etcd: Etcd, key: str
) -> None:
    seen: list[int] = []
    with trio.fail_after(DEADLINE_S):
        written = [(await etcd.commit([], [Put(key, b"%d" % n)])).at for n in range(3)]

        def note_guidance(event: WatchEvent) -> None:
            seen.append(event.at)
            if len(seen) == 3:
                relay.cut()

        with pytest.raises(EtcdUnreachable, match="sends no changes"):
            await relayed.watch(key, written[0], note_guidance)
        written += [(await etcd.commit([], [Put(key, b"%d" % n)])).at for n in range(3)]
        with trio.CancelScope() as scope:

            def heed_rest(event: WatchEvent) -> None:
                seen.append(event.at)
                if len(seen) == 6:
                    scope.cancel()

            await relayed.watch(key, seen[-1] + 1, heed_rest)
        assert seen == written


async def test_a_watch_that_is_not_answered_ends(relay: Relay, relayed: Etcd) -> None:
    relay.freeze()
    with trio.fail_after(DEADLINE_S), pytest.raises(EtcdUnreachable, match=r"no answer in 0\.5 s"):
        await relayed.watch("x", 1, print)


async def test_what_etcd_has_forgotten_is_not_told(tmp_path: Path) -> None:
    with running_etcd(tmp_path) as server, trio.fail_after(DEADLINE_S):
        etcd = server.client()
        for n in range(4):
            outcome = await etcd.commit([], [Put("x", b"%d" % n)])
        server.compact(outcome.at)
        with pytest.raises(EtcdUnreachable, match=r"sends no changes .*forgotten what was before revision"):
            await etcd.watch("x", 1, print)
        with pytest.raises(StoreError, match=r"refused .*compacted"):
            await etcd.read(Get("x", at=2))
        await etcd.close()


@pytest.mark.parametrize("size", [1_600_000, 3_000_000])
async def test_what_is_refused_comes_with_advice(etcd: Etcd, size: int) -> None:
    etcd.answer_s = DEADLINE_S
    with trio.fail_after(DEADLINE_S), pytest.raises(StoreError, match=r"refused .* large.*: make the topology file"):
        await etcd.commit([], [Put("x", bytes(size))])


async def test_an_etcd_without_its_gateway_says_so(tmp_path: Path) -> None:
    with running_etcd(tmp_path, 1, "--enable-grpc-gateway=false") as server, trio.fail_after(DEADLINE_S):
        etcd = server.client()
        with pytest.raises(StoreError, match=r"status 404.*: is it etcd 3.4 or later, with its gateway enabled"):
            await etcd.read(Get("x"))
        with pytest.raises(StoreError, match="not answer as etcd does"):
            await etcd.watch("x", 1, print)
        await etcd.close()


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", StoreError, "not answer as etcd does: correct `store`"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", StoreError, "refused .*hello"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", EtcdUnsure, "failed .*503"),
        (b"220 mail.example.com ESMTP\r\n", EtcdUnsure, "did not answer"),
        (b"", EtcdUnsure, "did not answer"),
    ],
)
async def test_something_else_on_that_port_is_an_error(
    nursery: trio.Nursery, answer: bytes, kind: type[StoreError], text: str
) -> None:
    async def pretend(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(1000)
            await stream.send_all(answer)

    listeners = await nursery.start(partial(trio.serve_tcp, pretend, 0, host="127.0.0.1"))
    etcd = Etcd([f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"])
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(StoreError, match=text) as caught:
            await etcd.commit([], [Put("x", b"")])
        assert type(caught.value) is kind
        with pytest.raises(StoreError):
            await etcd.watch("x", 1, print)
        await etcd.close()


async def test_a_connection_that_breaks_while_much_is_sent_leaves_nothing_behind(nursery: trio.Nursery) -> None:
    async def slam(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    listeners = await nursery.start(partial(trio.serve_tcp, slam, 0, host="127.0.0.1"))
    etcd = Etcd([f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"])
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(EtcdUnsure, match="did not answer"):
            await etcd.commit([], [Put("x", bytes(20_000_000))])
        await etcd.close()
    gc.collect()


async def test_whatever_member_dies_the_others_are_asked(tmp_path: Path) -> None:
    with running_etcd(tmp_path, 3) as server, trio.fail_after(3 * DEADLINE_S):
        etcd, kept = server.client(), 0

        async def count_up() -> None:
            """Each number is written once, however often that has to be asked for."""
            nonlocal kept
            for number in range(kept, kept + 20):
                version = (await patiently(etcd, "n"))[1]
                while (await patiently(etcd, "n"))[0] != b"%d" % number:
                    try:
                        await etcd.commit([Changed("n", version)], [Put("n", b"%d" % number)])
                    except (EtcdUnreachable, EtcdUnsure):
                        await trio.sleep(0.05)
            kept += 20

        await count_up()
        for member in server.members[:1], [server.leader()]:
            with member[0].frozen():
                await count_up()
        server.members[0].kill()
        await count_up()
        server.start_one(server.members[0])
        server.await_ready(server.members[0])
        (leader := server.leader()).kill()
        await count_up()
        others = [member for member in server.members if member is not leader]
        others[0].kill()
        with pytest.raises(StoreError, match=r"cannot be reached|did not answer"):
            await etcd.read(Get("n"))
        await etcd.close()


async def patiently(etcd: Etcd, key: str) -> tuple[bytes, int]:
    """Its value and version; while the members elect, they are asked again."""
    while True:
        try:
            (found,) = (await etcd.read(Get(key))).found
        except EtcdUnreachable:
            await trio.sleep(0.05)
        else:
            return (found[0].value, found[0].changed) if found else (b"", 0)


async def test_a_lease_of_another_etcd_is_gone(etcd: Etcd) -> None:
    with trio.fail_after(DEADLINE_S):
        assert await etcd.renew(Lease(7, 3), 2.0) == 0


# Who asks.


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Tokens end after a second in which nobody uses them."""
    with running_etcd(tmp_path_factory.mktemp("guarded"), 1, "--auth-token-ttl", "1", secure=True) as server:
        yield server


@pytest.fixture
async def known(guarded: Server) -> AsyncIterator[Etcd]:
    etcd = guarded.client()
    yield etcd
    await etcd.close()


async def fault_of(store: SharedStore, ask: Callable[[Etcd], Awaitable[object]]) -> StoreError:
    """Why there is no answer to it."""
    etcd = open_etcd(store)
    try:
        with trio.fail_after(DEADLINE_S), pytest.raises(StoreError) as caught:
            await ask(etcd)
    finally:
        await etcd.close()
    return caught.value


def read_one(etcd: Etcd) -> Awaitable[object]:
    return etcd.read(Get("test/x"))


def write_elsewhere(etcd: Etcd) -> Awaitable[object]:
    return etcd.commit([], [Put("elsewhere", b"")])


def watch_elsewhere(etcd: Etcd) -> Awaitable[object]:
    return etcd.watch("elsewhere", 1, print)


async def test_a_token_that_has_ended_is_replaced_and_nobody_hears_of_it(known: Etcd, key: str) -> None:
    with trio.fail_after(DEADLINE_S):
        first = await known.commit([Changed(key, 0)], [Put(key, b"1")])
        token = known.calls.token
        await until_ended(known)
        second = await known.commit([Changed(key, first.at)], [Put(key, b"2")])
        assert (first.agreed, second.agreed) == (True, True)
        assert known.calls.token != token
        lease = await known.grant(60)
        await until_ended(known)
        assert await known.renew(lease, 2.0) == 60
        await known.revoke(lease)


async def until_ended(etcd: Etcd) -> None:
    """Others are told when the token that this one has is known no more."""
    http = EtcdConnections(etcd.calls.tls)
    known = {"authorization": str(etcd.calls.token)}
    body = json.dumps(transaction((), [Get("test/x")], ())).encode()
    while True:
        await trio.sleep(3.0)  # each use makes it last longer
        answer = await http.post(etcd.members[0], "/v3/kv/txn", known, body)
        if answer.status == 401:
            break
    await http.close()


async def test_several_that_find_the_token_ended_at_once_all_get_their_answers(known: Etcd, key: str) -> None:
    with trio.fail_after(DEADLINE_S):
        await known.commit([], [Put(key, b"1")])
        known.calls.token = "ended.1"
        answers = []

        async def ask() -> None:
            answers.append(await value(known, key))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(ask)
        assert answers == [b"1"] * 8


async def test_a_watch_that_begins_with_a_token_that_has_ended_misses_nothing(
    known: Etcd, key: str, nursery: trio.Nursery
) -> None:
    told, heard = trio.open_memory_channel[WatchEvent](10)
    with trio.fail_after(DEADLINE_S):
        first = await known.commit([], [Put(key, b"1")])
        known.calls.token = "ended.1"
        nursery.start_soon(known.watch, key, first.at, told.send_nowait)
        assert (await heard.receive()).at == first.at
        await until_ended(known)
        second = await known.commit([], [Put(key, b"2")])
        assert (await heard.receive()).at == second.at


async def test_users_may_be_introduced_and_abolished_while_somebody_asks(tmp_path: Path) -> None:
    with running_etcd(tmp_path, secure=True) as server, trio.fail_after(DEADLINE_S):
        etcd, (member,) = server.client(), server.members
        for switch in ("auth/disable", "auth/enable", "auth/disable"):
            assert (await etcd.commit([], [Put("test/x", b"1")])).agreed
            member.call(switch, token="" if switch == "auth/enable" else server.root())
            assert await value(etcd, "test/x") == b"1"
        await etcd.close()


async def test_a_password_that_was_changed_at_both_ends_is_used(tmp_path: Path) -> None:
    with running_etcd(tmp_path, secure=True) as server, trio.fail_after(DEADLINE_S):
        etcd, (member,) = server.client(), server.members
        await etcd.commit([], [Put("test/x", b"1")])
        member.call("auth/user/changepw", {"name": USER, "password": "new"}, server.root())
        with pytest.raises(Denied, match=r"authentication failed.*: correct `user` of `store`"):
            await etcd.read(Get("test/x"))
        assert server.access is not None
        server.access.file("password").write_text("new\n")
        assert await value(etcd, "test/x") == b"1"
        await etcd.close()


@pytest.mark.parametrize("ask", [read_one, write_elsewhere, watch_elsewhere])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"user": None, "password_file": None},
            "(user name is empty|permission denied).*: it demands a user: name `user` and",
        ),
        ({"user": "ann"}, "authentication failed.*: correct `user` of `store`"),
        ({"password_file": "ca.pem"}, "the password of tierlb cannot be read"),
        ({"password_file": "other"}, "authentication failed.*or the password in its `password_file`"),
        ({"certificate": "named.pem", "key": "named.key"}, "CommonName.*has to be one without a common name"),
    ],
)
async def test_who_is_not_let_in_hears_what_to_do(
    guarded: Server, changes: dict[str, str | None], said: str, ask: Callable[[Etcd], Awaitable[object]]
) -> None:
    assert guarded.access is not None
    guarded.access.file("other").write_text("wrong")
    files = {key: name and str(guarded.access.file(name)) for key, name in changes.items() if key != "user"}
    problem = await fault_of(guarded.store(**{**changes, **files}), ask)
    assert type(problem) is Denied
    assert re.search(said, str(problem))


@pytest.mark.parametrize("ask", [write_elsewhere, watch_elsewhere])
async def test_what_is_not_allowed_comes_with_the_command_that_allows_it(
    guarded: Server, ask: Callable[[Etcd], Awaitable[object]]
) -> None:
    problem = await fault_of(guarded.store(), ask)
    assert type(problem) is Denied
    assert "permission denied" in str(problem)
    assert "etcdctl role grant-permission ROLE --prefix=true readwrite PREFIX/CLUSTER/" in str(problem)


@pytest.mark.parametrize("ask", [read_one, write_elsewhere, watch_elsewhere])
@pytest.mark.parametrize(
    ("changes", "kinds", "said"),
    [
        ({"ca": "other.pem"}, (EtcdUnreachable,), r"not trusted: .*: name its CA in `ca` of `store`"),
        ({"ca": None}, (EtcdUnreachable,), r"not trusted: .*: name its CA in `ca` of `store`"),
        ({"certificate": "stranger.pem", "key": "stranger.key"}, (EtcdUnreachable, EtcdUnsure), "certificate"),
        ({"certificate": None, "key": None}, (EtcdUnreachable, EtcdUnsure), "certificate"),
    ],
)
async def test_where_certificates_do_not_fit_it_is_said_which(
    guarded: Server,
    changes: dict[str, str | None],
    kinds: tuple[type[StoreError], ...],
    said: str,
    ask: Callable[[Etcd], Awaitable[object]],
) -> None:
    assert guarded.access is not None
    trustme.CA().cert_pem.write_to_path(guarded.access.file("other.pem"))
    files = {key: name and str(guarded.access.file(name)) for key, name in changes.items()}
    problem = await fault_of(guarded.store(**files), ask)
    assert type(problem) in kinds
    assert re.search(said, str(problem))


async def test_a_member_is_called_by_a_name_of_its_certificate(guarded: Server, nursery: trio.Nursery) -> None:
    relay = Relay(guarded.clients[0])
    port = (await nursery.start(relay.run)).rpartition(":")[2]
    problem = await fault_of(guarded.store([f"localhost:{port}"]), read_one)
    assert "cannot be reached (its certificate is not trusted: Hostname mismatch" in str(problem)
    assert str(problem).endswith("name each member in `store` as its certificate does")


async def test_tls_where_there_is_none_and_none_where_there_is_tls(guarded: Server, tmp_path: Path) -> None:
    place = guarded.clients[0]
    problem = await fault_of(SharedStore(f"etcd://{place}"), read_one)
    assert str(problem).endswith("if it demands TLS, write etcds:// in `store`")
    with running_etcd(tmp_path / "plain") as server:
        for place in (server.members[0].client, server.members[0].peer):
            problem = await fault_of(guarded.store([place]), read_one)
            assert type(problem) is EtcdUnreachable
            assert str(problem).endswith("it has no TLS there: write etcd:// in `store`")


async def test_a_file_that_cannot_be_used_is_said_before_anybody_is_asked(guarded: Server) -> None:
    with pytest.raises(StoreError, match="`ca` of `store`"):
        open_etcd(guarded.store(ca="none.pem"))


async def test_nobody_asks_another_member_where_one_does_not_let_it_in(guarded: Server, nursery: trio.Nursery) -> None:
    relay = Relay(guarded.clients[0])
    second = await nursery.start(relay.run)
    problem = await fault_of(guarded.store([*guarded.clients, second], user="ann"), read_one)
    assert type(problem) is Denied
    assert relay.accepted == 0


class Noting(Login):
    """Notes who reads its password."""

    readers: ClassVar[list[threading.Thread]] = []

    def password(self) -> str:
        self.readers.append(threading.current_thread())
        return super().password()


async def test_whoever_has_little_time_waits_no_longer_for_a_login(tmp_path: Path, nursery: trio.Nursery) -> None:
    async def say_nothing(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    (tmp_path / "password").write_text("secret")
    listeners = await nursery.start(partial(trio.serve_tcp, say_nothing, 0, host="127.0.0.1"))
    place = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    etcd = Etcd([place], EtcdCalls(login=Noting("ann", tmp_path / "password")), answer_s=2 * DEADLINE_S)
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(EtcdUnreachable, match=r"did not answer in 0\.3 s"):
            await etcd.renew(Lease(1, 3), 0.3)
        await etcd.close()
    assert len(Noting.readers) == 1
    assert threading.current_thread() not in Noting.readers
