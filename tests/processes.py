"""Processes that tests start: each is ended by its own pid, whatever the test does to it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

STOP_S = 15.0
ROOT = Path(__file__).parents[1]
Process = subprocess.Popen


def tierlb(command: str, **options: object) -> list[str]:
    """The command line of `tierlb command --option value`."""
    pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in options.items())
    return [sys.executable, "-m", "tierlb", command, *(part for pair in pairs for part in pair)]


@contextlib.contextmanager
def running(
    argv: list[str], log: Path | None = None, env: Mapping[str, str] | None = None, **pipes: int
) -> Iterator["Process[bytes]"]:
    """Run it for the length of the block; then SIGTERM, and SIGKILL to one that does not end."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log is not None else None
        where = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **pipes}
        process = Process(argv, cwd=ROOT, env={**os.environ, **(env or {})}, **where)
        try:
            yield process
        finally:
            _end(process)


def _end(process: "Process[bytes]") -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
