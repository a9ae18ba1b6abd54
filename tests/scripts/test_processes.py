import sys
from pathlib import Path

import pytest
import trio

from scripts.benchmarks.processes import DidNotStartError, free_addresses, running


async def test_a_process_runs_as_long_as_the_block_and_is_known_to_serve(tmp_path: Path) -> None:
    [listen] = free_addresses(1)
    host, _, port = listen.rpartition(":")
    command = [sys.executable, "-m", "http.server", port, "--bind", host, "--directory", str(tmp_path)]
    with trio.fail_after(60):
        async with running(command, tmp_path / "log") as server:
            await server.serves(f"http://{listen}/")
            assert server.process.poll() is None
        assert server.process.returncode is not None


async def test_a_process_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    [listen] = free_addresses(1)
    command = [sys.executable, "-c", "raise SystemExit('no such option')"]
    with trio.fail_after(60):
        async with running(command, tmp_path / "log") as process:
            with pytest.raises(DidNotStartError, match=r"(?s)ended with 1.*no such option"):
                await process.serves(f"http://{listen}/")


def test_free_addresses_are_all_different() -> None:
    assert len(set(free_addresses(20))) == 20
