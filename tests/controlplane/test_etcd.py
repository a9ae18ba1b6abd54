"""The client against real members of etcd, against those that answer late or never, and against something else."""

import gc
import socket
import struct
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.etcd import Relay, Server, running_etcd
from tierlb.controlplane.durable import StoreError
from tierlb.controlplane.etcd import Etcd, StoreUrl, Unreachable, Unsure, parse_store_url
from tierlb.wire.etcd import Changed, Created, Delete, Event, Get, Lease, Put

DEADLINE_S = 30.0
NOBODY = "127.0.0.1:1"


@pytest.fixture
async def relayed(relay: Relay) -> AsyncIterator[Etcd]:
    """A client that hears of nothing but by the relay."""
    etcd = Etcd([relay.address], answer_s=0.5)
    yield etcd
    await etcd.close()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return f"test/{request.node.name}"


async def value(etcd: Etcd, key: str) -> bytes | None:
    (found,) = (await etcd.read(Get(key))).found
    return found[0].value if found else None


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("etcd://127.0.0.1:2379", StoreUrl(("127.0.0.1:2379",), "tierlb")),
        ("etcd://etcd:2379/", StoreUrl(("etcd:2379",), "tierlb")),
        ("etcd://a:1,b.c:2,[::1]:65535/x", StoreUrl(("a:1", "b.c:2", "[::1]:65535"), "x")),
        ("etcd://a:1/x/y.z-_/", StoreUrl(("a:1",), "x/y.z-_")),
    ],
)
def test_a_url_names_members_and_a_prefix(text: str, url: StoreUrl) -> None:
    assert parse_store_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        *("", "etcd://", "etcd://a", "etcd://a:0", "etcd://a:65536", "etcd://a:1,", "etcd://,a:1", "etcd://a:1 /x"),
        *("http://a:1", "etcd:a:1", "ETCD://a:1", "etcd://a:1//x", "etcd://a:1/x y", "etcd://u:p@a:1", "etcd://a:1?x"),
    ],
)
def test_of_what_is_no_url_is_said_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="is no store: write etcd://HOST:PORT or"):
        parse_store_url(text)


def test_keys_of_clusters_are_kept_apart() -> None:
    assert StoreUrl(("a:1",), "x").directory("shop") == "x/shop"


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
        with pytest.raises(Unreachable, match=r"127.0.0.1:1 cannot be .*: start it, or .*; etcd at 127.0.0.1:2 cannot"):
            await etcd.read(Get("x"))
        with pytest.raises(Unreachable, match="tells no changes"):
            await etcd.watch("x", 1, print)
        await etcd.close()


async def test_a_member_that_is_not_there_is_passed_over_once(server: Server, key: str) -> None:
    etcd = Etcd([NOBODY, *server.clients])
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
        with pytest.raises(Unsure, match=r"did not answer .*: see its log"):
            await relayed.commit([], [Put(key, b"1")])
        assert await value(etcd, key) == b"1"
        assert await value(relayed, key) == b"1"


async def test_a_request_that_is_on_its_way_for_too_long_may_still_arrive(
    relay: Relay, relayed: Etcd, etcd: Etcd, key: str
) -> None:
    relay.freeze()
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(Unsure, match=r"did not answer in 0\.5 s"):
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
    relay.freeze()
    both = Etcd([relay.address, *server.clients], answer_s=0.3)
    with trio.fail_after(DEADLINE_S):
        assert await value(both, key) == b"1"
        assert relay.accepted == 1
        await both.commit([], [Put(key, b"2")])
        assert relay.accepted == 1
        await both.close()


async def test_a_watch_tells_what_is_and_what_was_since(etcd: Etcd, key: str, nursery: trio.Nursery) -> None:
    told, heard = trio.open_memory_channel[Event](10)
    with trio.fail_after(DEADLINE_S):
        first = await etcd.commit([], [Put(key, b"1")])
        nursery.start_soon(etcd.watch, key, first.at, told.send_nowait)
        event = await heard.receive()
        assert event.item is not None
        assert (event.item.value, event.at) == (b"1", first.at)
        second = await etcd.commit([], [Delete(key)])
        assert await heard.receive() == Event(None, second.at)
        await etcd.commit([], [Put(f"{key}/other", b"")])
        third = await etcd.commit([], [Put(key, b"3")])
        assert (await heard.receive()).at == third.at


async def test_a_watch_whose_connection_broke_goes_on_where_it_was(
    relay: Relay, relayed: Etcd, etcd: Etcd, key: str
) -> None:
    seen: list[int] = []
    with trio.fail_after(DEADLINE_S):
        written = [(await etcd.commit([], [Put(key, b"%d" % n)])).at for n in range(3)]

        def heed(event: Event) -> None:
            seen.append(event.at)
            if len(seen) == 3:
                relay.cut()

        with pytest.raises(Unreachable, match="tells no changes"):
            await relayed.watch(key, written[0], heed)
        written += [(await etcd.commit([], [Put(key, b"%d" % n)])).at for n in range(3)]
        with trio.CancelScope() as scope:

            def heed_rest(event: Event) -> None:
                seen.append(event.at)
                if len(seen) == 6:
                    scope.cancel()

            await relayed.watch(key, seen[-1] + 1, heed_rest)
        assert seen == written


async def test_a_watch_that_is_not_answered_ends(relay: Relay, relayed: Etcd) -> None:
    relay.freeze()
    with trio.fail_after(DEADLINE_S), pytest.raises(Unreachable, match=r"no answer in 0\.5 s"):
        await relayed.watch("x", 1, print)


async def test_what_etcd_has_forgotten_is_not_told(tmp_path: Path) -> None:
    with running_etcd(tmp_path) as server, trio.fail_after(DEADLINE_S):
        etcd = Etcd(server.clients)
        for n in range(4):
            outcome = await etcd.commit([], [Put("x", b"%d" % n)])
        server.compact(outcome.at)
        with pytest.raises(Unreachable, match=r"tells no changes .*forgotten what was before revision"):
            await etcd.watch("x", 1, print)
        with pytest.raises(StoreError, match=r"refused .*compacted"):
            await etcd.read(Get("x", at=2))
        await etcd.close()


@pytest.mark.parametrize("size", [1_600_000, 3_000_000])
async def test_what_is_refused_comes_with_advice(etcd: Etcd, size: int) -> None:
    with trio.fail_after(DEADLINE_S), pytest.raises(StoreError, match=r"refused .* large.*: make the topology file"):
        await etcd.commit([], [Put("x", bytes(size))])


async def test_an_etcd_without_its_gateway_says_so(tmp_path: Path) -> None:
    with running_etcd(tmp_path, 1, "--enable-grpc-gateway=false") as server, trio.fail_after(DEADLINE_S):
        etcd = Etcd(server.clients)
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
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Unsure, "failed .*503"),
        (b"220 mail.example.com ESMTP\r\n", Unsure, "did not answer"),
        (b"", Unsure, "did not answer"),
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
        with pytest.raises(Unsure, match="did not answer"):
            await etcd.commit([], [Put("x", bytes(20_000_000))])
        await etcd.close()
    gc.collect()


async def test_whatever_member_dies_the_others_are_asked(tmp_path: Path) -> None:
    with running_etcd(tmp_path, 3) as server, trio.fail_after(3 * DEADLINE_S):
        etcd, kept = Etcd(server.clients), 0

        async def count_up() -> None:
            """Each number is written once, however often that has to be asked for."""
            nonlocal kept
            for number in range(kept, kept + 20):
                version = (await patiently(etcd, "n"))[1]
                while (await patiently(etcd, "n"))[0] != b"%d" % number:
                    try:
                        await etcd.commit([Changed("n", version)], [Put("n", b"%d" % number)])
                    except (Unreachable, Unsure):
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
        except Unreachable:
            await trio.sleep(0.05)
        else:
            return (found[0].value, found[0].changed) if found else (b"", 0)


async def test_a_lease_of_another_etcd_is_gone(etcd: Etcd) -> None:
    with trio.fail_after(DEADLINE_S):
        assert await etcd.renew(Lease(7, 3), 2.0) == 0
