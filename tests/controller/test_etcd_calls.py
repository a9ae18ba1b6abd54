"""Calls to one member, against something that is no etcd; real members are in test_etcd.py."""

from functools import partial

import pytest
import trio

from tierlb.channel.durable import StoreError
from tierlb.controller.etcd_calls import EtcdCalls, EtcdUnreachable, EtcdUnsure
from tierlb.wire import etcd as wire


async def answer_with(content: bytes, nursery: trio.Nursery) -> str:
    """The address of a server that sends this to each request."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(content)

    (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), serve, 0)
    return f"127.0.0.1:{listener.socket.getsockname()[1]}"


async def ask(member: str) -> object:
    calls = EtcdCalls()
    try:
        return await calls.ask(member, "lease/grant", wire.grant(3), wire.read_lease, 5.0)
    finally:
        await calls.close()


async def test_a_member_that_is_not_there_has_done_nothing() -> None:
    with pytest.raises(EtcdUnreachable, match=r"etcd at 127\.0\.0\.1:1 cannot be reached"):
        await ask("127.0.0.1:1")


async def test_a_member_that_closes_the_connection_may_have_done_it(nursery: trio.Nursery) -> None:
    member = await answer_with(b"", nursery)
    with pytest.raises(EtcdUnsure, match=f"etcd at {member} did not answer"):
        await ask(member)


async def test_what_does_not_answer_as_etcd_does_is_refused(nursery: trio.Nursery) -> None:
    member = await answer_with(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", nursery)
    with pytest.raises(StoreError, match=rf"{member} refused \(status 200, '\[\]'\)"):
        await ask(member)
