"""Start a process, wait until it serves, stop it; every wait is bounded."""

import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import attrs
import httpx
import trio

START_S = 20.0
STOP_S = 10.0
RETRY_S = 0.05
LOG_TAIL_LINES = 8


class DidNotStartError(Exception):
    """A process ended, or did not serve in time; ends with what it printed last."""


@attrs.frozen
class Running:
    """A process and the file that its output goes to."""

    process: trio.Process
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    async def serves(self, url: str) -> None:
        """Return once a GET of `url` is answered with 200, under any certificate. Raises DidNotStartError."""
        last = "no answer"
        with trio.move_on_after(START_S):
            async with httpx.AsyncClient(trust_env=False, timeout=2.0, verify=False) as client:
                while self.process.poll() is None:
                    last = await _attempt(client, url)
                    if last == "200":
                        return
                    await trio.sleep(RETRY_S)
                last = f"the process ended with {self.process.returncode}"
        raise DidNotStartError(f"{url}: {last}\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


async def _attempt(client: httpx.AsyncClient, url: str) -> str:
    """The status as text, or the error."""
    try:
        answer = await client.get(url, headers={"connection": "close"})
    except httpx.TransportError as error:
        return repr(error)
    return str(answer.status_code)


@contextlib.asynccontextmanager
async def running(command: Sequence[str], log: Path) -> AsyncIterator[Running]:
    """Run `command` while the block runs."""
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield Running(process, log)
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


def free_addresses(count: int) -> list[str]:
    """That many different `127.0.0.1:port` that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
