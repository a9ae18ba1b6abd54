"""A parent's end on trio-websocket's server, to measure beside the one in use: a task for each child reads, one sends.

Sessions and handlers are those of `channel.parent_end`. Only what carries the messages is another.
"""

import math
from functools import partial

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from tierlb.channel.parent_end import ChildConnection, ParentEnd
from tierlb.model.address import Address
from tierlb.net.websocket_upgrade import Admit, ProvenPeer
from tierlb.wire.frames import MAX_CHILD_FRAME_BYTES, SUBPROTOCOL


class TaskConnection:
    """Has what `ChildConnection` needs of a `net.websocket_server.ServerConnection`."""

    def __init__(self, caller: ProvenPeer) -> None:
        self.caller = caller
        self.out, self.queue = trio.open_memory_channel[bytes](math.inf)
        self.scope = trio.CancelScope()
        self.reason = "the connection was lost"

    def send(self, data: bytes) -> None:
        self.out.send_nowait(data)

    def close(self, reason: str) -> None:
        self.reason = reason
        self.scope.cancel()


async def serve_by_tasks(
    end: ParentEnd, listen: Address, admit: Admit, *, task_status: trio.TaskStatus[Address]
) -> None:
    """As `ParentEnd.serve`."""
    attend = partial(_attend, end, admit)
    async with trio.open_nursery() as nursery:
        limit = MAX_CHILD_FRAME_BYTES
        serve = partial(serve_websocket, attend, listen.host, listen.port, None, max_message_size=limit)
        server = await nursery.start(serve)
        nursery.start_soon(end._look_after_all)
        task_status.started(Address(listen.host, server.port))


async def _attend(end: ParentEnd, admit: Admit, request: WebSocketRequest) -> None:
    given = dict(request.headers).get(b"authorization", b"").removeprefix(b"Bearer ")
    principal = admit(given.decode())
    if principal is None:
        await request.reject(401)
        return
    ws = await request.accept(subprotocol=SUBPROTOCOL)
    connection = TaskConnection(ProvenPeer(principal, str(ws.remote.address)))
    child = end._accept(connection)
    with connection.scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send, ws, connection)
            await _receive(ws, child)
            nursery.cancel_scope.cancel()
    child.ended(connection.reason)


async def _receive(ws: WebSocketConnection, child: ChildConnection) -> None:
    try:
        while True:
            child.receive(await ws.get_message(), trio.current_time())
    except ConnectionClosed:
        return


async def _send(ws: WebSocketConnection, connection: TaskConnection) -> None:
    async for data in connection.queue:
        await ws.send_message(data)
