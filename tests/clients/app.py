"""The real application behind the cluster: Starlette under Hypercorn's trio worker.

Run as `python app.py --bind HOST:PORT`. `/headers` tells what arrived, `/upload` counts and hashes,
`/download/N` and `/stream/N` send N bytes with and without a length, `/events` waits for a `/tick` before
each event.
"""

import hashlib
import json
import signal
from collections.abc import AsyncIterator

import click
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

PATTERN = bytes(range(256)) * 256
MAX_MESSAGE_BYTES = 4 * 1024 * 1024


class Ticks:
    """Events that listeners wait for, each by its number; `last` is the newest."""

    def __init__(self) -> None:
        self.last = 0
        self._moved = trio.Event()

    def tick(self) -> None:
        self.last += 1
        self._moved.set()
        self._moved = trio.Event()

    async def wait(self, number: int) -> None:
        while self.last < number:
            await self._moved.wait()


def pattern(count: int, start: int = 0) -> bytes:
    """`count` bytes of the endless pattern from `start` on."""
    offset = start % len(PATTERN)
    repeated = PATTERN * ((offset + count) // len(PATTERN) + 1)
    return repeated[offset : offset + count]


async def upload(request: Request) -> Response:
    """Count and hash the body as it comes."""
    digest, count = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        count += len(piece)
    framing = request.headers.get("transfer-encoding") or request.headers.get("content-length")
    return JSONResponse({"bytes": count, "sha256": digest.hexdigest(), "framing": framing})


class Echo:
    """Send the body back while it comes in. Plain ASGI: a StreamingResponse would eat some of it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/octet-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def download(request: Request) -> Response:
    """A body with a length, or the part of it that `Range: bytes=FIRST-LAST` asks for."""
    count = request.path_params["count"]
    asked = request.headers.get("range", "").removeprefix("bytes=")
    if not asked:
        headers = {"content-length": str(count), "accept-ranges": "bytes"}
        return StreamingResponse(_pieces(count), headers=headers, media_type="application/octet-stream")
    first, last = (int(part) for part in asked.split("-"))
    return Response(
        pattern(last - first + 1, first),
        status_code=206,
        headers={"content-range": f"bytes {first}-{last}/{count}"},
    )


async def stream(request: Request) -> Response:
    """A body whose length nobody knows before its end."""
    return StreamingResponse(_pieces(request.path_params["count"]), media_type="application/octet-stream")


async def headers(request: Request) -> Response:
    """What arrived: method, target, peer and all header fields."""
    fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw]
    return JSONResponse({"method": request.method, "path": request.url.path, "headers": fields})


async def slow(request: Request) -> Response:
    """Answer after so many milliseconds."""
    await trio.sleep(request.path_params["milliseconds"] / 1000)
    return PlainTextResponse("at last\n")


async def tick(request: Request) -> Response:
    """Let every listener have its next event."""
    request.app.state.ticks.tick()
    return PlainTextResponse(f"{request.app.state.ticks.last}\n")


async def events(request: Request) -> Response:
    """Server-sent events: one at once, one for each tick, three in all."""
    ticks: Ticks = request.app.state.ticks
    first = ticks.last

    async def body() -> AsyncIterator[str]:
        for number in range(3):
            await ticks.wait(first + number)
            yield f"id: {number}\ndata: {json.dumps({'number': number})}\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


async def conversation(websocket: WebSocket) -> None:
    """Echo text and binary messages; `close CODE REASON` closes with that code."""
    await websocket.accept(subprotocol="echo" if "echo" in websocket.scope["subprotocols"] else None)
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is not None and text.startswith("close "):
                _, code, reason = text.split(" ", 2)
                await websocket.close(int(code), reason)
                return
            if text is not None:
                await websocket.send_text(text)
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        return


async def _pieces(count: int) -> AsyncIterator[bytes]:
    for start in range(0, count, len(PATTERN)):
        yield PATTERN[: min(len(PATTERN), count - start)]


def make_app() -> Starlette:
    """The routes and the ticks they share."""
    app = Starlette(
        routes=[
            Route("/upload", upload, methods=["POST", "PUT"]),
            Route("/echo", Echo()),
            Route("/download/{count:int}", download),
            Route("/stream/{count:int}", stream),
            Route("/headers", headers, methods=["GET", "POST", "DELETE", "OPTIONS"]),
            Route("/slow/{milliseconds:int}", slow),
            Route("/tick", tick, methods=["POST"]),
            Route("/events", events),
            WebSocketRoute("/conversation", conversation),
        ]
    )
    app.state.ticks = Ticks()
    return app


async def _serve(bind: str) -> None:
    config = Config()
    config.bind = [bind]
    config.errorlog = None
    config.websocket_max_message_size = MAX_MESSAGE_BYTES
    config.graceful_timeout = 0.5
    stopped = trio.Event()

    async def stop_on_signal() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            await anext(aiter(signals))
            stopped.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_on_signal)
        await serve(make_app(), config, shutdown_trigger=stopped.wait)
        nursery.cancel_scope.cancel()


@click.command()
@click.option("--bind", required=True, metavar="HOST:PORT")
def main(bind: str) -> None:
    """Serve until SIGTERM."""
    trio.run(_serve, bind)


if __name__ == "__main__":
    main()
