import sys
import time
from pathlib import Path

import pytest
import trio

from scripts.benchmarks import guests, simulated
from scripts.benchmarks.guests import Plan, Visits, attend, dump_plan, portions, read_plan
from scripts.benchmarks.items import Guest, Item
from scripts.benchmarks.processes import free_addresses, running
from scripts.benchmarks.station import Endpoint

DEADLINE_S = 60


def test_a_plan_is_read_as_it_was_written() -> None:
    plan = Plan(
        1.5, 10.0, "127.0.0.1:80", (Guest(0.5, (Item(first_s=1.0), Item())), Guest(1.0, (Item(),), "/x", "POST"))
    )
    assert read_plan(dump_plan(plan)) == plan


@pytest.mark.parametrize(
    ("item", "sizes"),
    [
        (Item(), []),
        (Item(send_bytes=250, send_per_s=1000), [100, 100, 50]),
        (Item(send_bytes=100, send_per_s=1000), [100]),
    ],
)
def test_a_body_is_sent_in_portions_of_a_tenth_of_a_second(item: Item, sizes: list[int]) -> None:
    assert [len(data) for _, data in portions(item)] == sizes
    assert {seconds for seconds, _ in portions(item)} <= {0.1}


def test_messages_are_chunks_and_end_with_the_last_one() -> None:
    sent = portions(Item(messages=2, message_bytes=3, message_s=0.5))
    assert sent == [(0.5, b"3\r\nmmm\r\n"), (0.5, b"3\r\nmmm\r\n"), (0.5, b"0\r\n\r\n")]


ITEMS = {
    "poll": Item(first_s=0.05),
    "slot": Item(first_s=0.05, slot=True),
    "pieces": Item(first_s=0.01, pieces=3, every_s=0.01),
    "bulk": Item(bulk_bytes=3_000_000),
    "upload": Item(send_bytes=5000, send_per_s=100_000),
    "messages": Item(messages=3, message_s=0.01),
}


@pytest.mark.parametrize("name", ITEMS)
async def test_clients_and_endpoints_understand_each_other(name: str, tmp_path: Path) -> None:
    item = ITEMS[name]
    [listen] = free_addresses(1)
    file = tmp_path / "plan.json"
    file.write_text(simulated.plan([listen], [Endpoint(0.02)], orca=False))
    guest = Guest(0.0, (item,), method="POST" if item.has_body else "GET")
    with trio.fail_after(DEADLINE_S):
        async with running([sys.executable, "-m", simulated.__name__, str(file)], tmp_path / "log") as process:
            await process.serves(f"http://{listen}/")
            visits = Visits()
            client = guests.Client(guest, Plan(0.0, DEADLINE_S, listen, (guest,)), visits)
            stays = [await client.visit(item) for _ in range(2)]
            client.leave()
    assert (stays, visits.done) == ([True, True], 2)
    assert visits.messages == 2 * item.messages
    assert (visits.received_bytes == 2 * 3_000_000) is bool(item.bulk_bytes)


async def test_a_client_that_is_refused_tries_again_and_counts_it(autojump_clock: trio.testing.MockClock) -> None:
    [nobody] = free_addresses(1)
    plan = Plan(time.monotonic(), 1.0, nobody, (Guest(0.0, (Item(),)),))
    visits = await attend(plan)
    assert visits.errors >= 2
    assert visits.done == 0
    assert "refused" in visits.first_problem
