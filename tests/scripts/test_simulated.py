import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from scripts.benchmarks import simulated
from scripts.benchmarks.processes import free_addresses, running
from scripts.benchmarks.simulated import Tally, plan, read_plan
from scripts.benchmarks.station import Endpoint, Mode, Phase

DEADLINE_S = 60
MODES = (Endpoint(0.02, 1), Endpoint(0.02, phases=(Phase(0.0, mode=Mode.FAIL),)))


@asynccontextmanager
async def serving(tmp_path: Path, *endpoints: Endpoint, orca: bool = False) -> AsyncIterator[list[str]]:
    """The process, with the run begun."""
    listens = free_addresses(len(endpoints))
    file = tmp_path / "plan.json"
    file.write_text(plan(listens, endpoints, orca))
    with trio.fail_after(DEADLINE_S):
        async with running([sys.executable, "-m", simulated.__name__, str(file)], tmp_path / "log") as process:
            await process.serves(f"http://{listens[0]}/")
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(f"http://{listens[0]}/-/begin/{time.monotonic():.6f}")
            yield listens


def test_a_plan_is_read_as_it_was_written() -> None:
    listens = ["127.0.0.1:1", "127.0.0.1:2"]
    assert read_plan(plan(listens, MODES, True)) == ([*zip(listens, MODES, strict=True)], True)


async def test_requests_are_served_one_after_the_other_where_there_is_one_slot(tmp_path: Path) -> None:
    one_slot = Endpoint(0.02, slots=1)
    async with serving(tmp_path, one_slot) as [listen], httpx.AsyncClient(trust_env=False) as client:
        begun_s = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(client.get, f"http://{listen}/?d=1.0")
        taken_s = time.perf_counter() - begun_s
        tally = Tally(**(await client.get(f"http://{listen}/-/tally")).json())
    assert taken_s >= 5 * 0.02
    assert (sum(tally.arrivals[0]), tally.longest_queue) == (5, [4])


async def test_a_failing_endpoint_answers_500_while_its_neighbour_serves(tmp_path: Path) -> None:
    async with serving(tmp_path, *MODES) as listens, httpx.AsyncClient(trust_env=False) as client:
        statuses = [(await client.get(f"http://{listen}/?d=1.0")).status_code for listen in listens]
        probes = [(await client.get(f"http://{listen}/")).status_code for listen in listens]
    assert (statuses, probes) == ([200, 500], [200, 200])


async def test_a_hanging_endpoint_takes_requests_and_never_answers(tmp_path: Path) -> None:
    hanging = Endpoint(0.001, phases=(Phase(0.0, mode=Mode.HANG),))
    patience = httpx.Timeout(DEADLINE_S, read=0.2)
    async with serving(tmp_path, hanging) as [listen], httpx.AsyncClient(trust_env=False, timeout=patience) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(f"http://{listen}/?d=1.0")


async def test_load_is_told_to_those_who_want_it(tmp_path: Path) -> None:
    async with serving(tmp_path, Endpoint(0.02), orca=True) as [listen], httpx.AsyncClient(trust_env=False) as client:
        for _ in range(3):
            answer = await client.get(f"http://{listen}/?d=1.0")
    form, _, fields = answer.headers["endpoint-load-metrics"].partition(" ")
    figures = {name: float(value) for name, _, value in (each.partition("=") for each in fields.split(","))}
    assert (form, sorted(figures)) == ("TEXT", ["application_utilization", "rps_fractional"])
    assert 0 < figures["application_utilization"] < 1
    assert 0 < figures["rps_fractional"] <= 3


async def test_the_tally_is_json_whatever_came(tmp_path: Path) -> None:
    async with serving(tmp_path, *MODES) as listens, httpx.AsyncClient(trust_env=False) as client:
        tally = Tally(**json.loads((await client.get(f"http://{listens[1]}/-/tally")).text))
    assert (tally.arrivals, tally.late_s) == ([[], []], 0.0)
