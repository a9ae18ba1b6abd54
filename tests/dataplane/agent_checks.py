"""Agent checks of a node, as other balancers ask for them."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tests.dataplane.conftest import DEADLINE_S
from tierlb.model.address import Address


async def ask(address: Address) -> bytes:
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(*address.sockaddr) as stream:
            return b"".join([chunk async for chunk in stream])


async def answers(address: Address) -> bool:
    try:
        return bool(await ask(address))
    except OSError:
        return False


async def goes_down(address: Address) -> None:
    with trio.fail_after(DEADLINE_S):
        while await answers(address):  # noqa: ASYNC110 (nothing announces it)
            await trio.sleep(0.001)


async def comes_up(address: Address) -> None:
    with trio.fail_after(DEADLINE_S):
        while not await answers(address):  # noqa: ASYNC110 (nothing announces it)
            await trio.sleep(0.001)


@contextmanager
def reserved() -> Iterator[Address]:
    """A free port of which nobody else takes possession, nor meets himself there: bound, but nobody listens."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield Address(*sock.getsockname())
