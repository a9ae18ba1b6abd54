import os
import shutil
from pathlib import Path

import httpx
import pytest
import trio

from scripts.benchmarks.stacks import (
    Node,
    Stack,
    backends,
    connections_by_node,
    parse_counts,
    stack_of,
    tierlb_topology,
)
from tierlb.topology.load import load_text

NODES = (Node("web-1", "127.0.0.1:8080", 11), Node("web-2", "127.0.0.1:8081", 12), Node("web-3", "127.0.0.1:9", 13))
LISTENING, ESTABLISHED, ENDING = "0A", "01", "06"


def row(local: int, remote: int, state: str) -> str:
    return f"   0: 0100007F:{local:04X} 0100007F:{remote:04X} {state} 00000000:00000000 00:00000000 00000000 0 0 171\n"


def test_connections_are_those_that_are_open_at_the_nodes_own_address() -> None:
    rows = [
        row(8080, 0, LISTENING),
        row(8080, 40001, ESTABLISHED),
        row(40001, 8080, ESTABLISHED),
        row(8080, 40002, ESTABLISHED),
        row(8080, 40003, ENDING),
        row(8081, 40004, ESTABLISHED),
        row(7000, 9, ESTABLISHED),
    ]
    counts = connections_by_node(NODES, "  sl  local_address rem_address   st\n" + "".join(rows))
    assert counts == {"web-1": 2, "web-2": 1, "web-3": 0}


@pytest.mark.parametrize("count", [1, 8])
def test_the_topology_is_one_edge_over_that_many_nodes_and_names_no_policy(count: int) -> None:
    text = tierlb_topology(count, "127.0.0.1:8080", "127.0.0.1:7900", ["127.0.0.1:9001", "127.0.0.1:9002"])
    topology = load_text(text, "topology.yaml")
    assert [(name, tier.replicas) for name, tier in topology.tiers.items()] == [("edge", 1), ("web", count)]
    assert "balance" not in text


def test_processes_and_addresses_come_from_the_status() -> None:
    def node(name: str, pid: int, address: str) -> dict[str, object]:
        return {"name": name, "pid": pid, "addresses": [address]}

    edge, webs = node("edge-1", 10, "127.0.0.1:80"), [node(each.name, each.pid, each.address) for each in NODES]
    status = {"tiers": {"edge": {"nodes": [edge]}, "web": {"nodes": webs}}}
    assert stack_of(status, "127.0.0.1:80") == Stack("127.0.0.1:80", 10, NODES)


PAGE = "Active connections: 1 \nserver accepts handled requests\n 5 4 31 \nReading: 0 Writing: 1 Waiting: 0 \n"


def test_of_what_nginx_counts_requests_are_taken() -> None:
    assert parse_counts(PAGE) == 31


def test_another_page_is_refused() -> None:
    with pytest.raises(ValueError, match="no page of stub_status: 'ok ok"):
        parse_counts("ok ok\n")


@pytest.mark.skipif(shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None, reason="no nginx here")
async def test_endpoints_count_what_they_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
    with trio.fail_after(60):
        async with backends(2, tmp_path) as endpoints, httpx.AsyncClient(trust_env=False) as client:
            assert len(set(endpoints.pids)) == len(set(endpoints.listens)) == 2
            before = await endpoints.answered()
            for _ in range(3):
                assert (await client.get(f"http://{endpoints.listens[0]}/")).status_code == 200
            questions = len(endpoints.listens)
            assert await endpoints.answered() == before + 3 + questions
