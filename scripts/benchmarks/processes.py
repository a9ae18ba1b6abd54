"""Start a process, wait until it serves, stop it; every wait is bounded."""

import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import trio

START_S = 20.0
STOP_S = 10.0
LOG_TAIL_LINES = 8


class DidNotStartError(Exception):
    """A process ended, or did not serve in time; says which and ends with what it printed."""


@contextlib.asynccontextmanager
async def running(command: Sequence[str], log: Path) -> AsyncIterator[int]:
    """The process id of `command` while the block runs; its output goes to `log`."""
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process.pid
    finally:
        await _stop(process)


async def _stop(process: trio.Process) -> None:
    with trio.move_on_after(STOP_S, shield=True):
        process.terminate()
        await process.wait()
        return
    process.kill()
    with trio.CancelScope(shield=True):
        await process.wait()


async def wait_for_200(url: str, log: Path) -> None:
    """Return once a GET of `url` is answered with 200. Raises DidNotStartError."""
    last = "no answer"
    with trio.move_on_after(START_S):
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            while True:
                try:
                    answer = await client.get(url, headers={"connection": "close"})
                except httpx.TransportError as error:
                    last = repr(error)
                else:
                    if answer.status_code == 200:
                        return
                    last = f"status {answer.status_code}"
                await trio.sleep(0.05)
    raise DidNotStartError(f"{url}: {last} after {START_S:.0f} s\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def free_addresses(count: int) -> list[str]:
    """That many different `127.0.0.1:port` that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
