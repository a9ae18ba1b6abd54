"""Weights with real processes: what weighs nothing gets nothing and harms nobody, and an agent's maxconn is a cap."""

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import attrs
import trio

from scripts.benchmarks.cluster import START_S, Cluster, free_address
from tests.cluster.traffic import Endpoint, Traffic
from tests.processes import running
from tierlb.model.address import parse_address
from tierlb.model.topology import Policy

DEADLINE_S = 180.0
DRAWS = 300
POLL_S = 0.05


@contextlib.contextmanager
def cluster(folder: Path, listen: str, tier: str, pools: str) -> Iterator[Cluster]:
    admin, file = free_address(), folder / "weights.yaml"
    file.write_text(
        f"cluster: weights\nadmin: {{listen: {admin}}}\n"
        f"tiers:\n  web: {{kind: l7, listen: {listen}, {tier}}}\npools:\n{pools}"
    )
    argv = [sys.executable, "-m", "tierlb", "up", str(file), "--state", str(folder / "state")]
    with running(argv, folder / "up.log") as process:
        yield Cluster(admin, folder, process)


def traffic_to(listen: str) -> Traffic:
    address = parse_address(listen)
    return Traffic((address.host, address.port), work="/work")


async def ask(listen: str, path: str) -> bytes:
    """The whole answer to one request."""
    address = parse_address(listen)
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(address.host, address.port) as stream:
            await stream.send_all(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
            return b"".join([piece async for piece in stream])


@attrs.define
class Agent:
    """Says its word to whoever connects; `port` once it is served."""

    word: bytes
    port: int = 0

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, self._say, 0, host="127.0.0.1"))
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def _say(self, stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(self.word + b"\n")


async def test_when_what_weighs_is_down_the_rest_of_the_cluster_goes_on(tmp_path: Path, nursery: trio.Nursery) -> None:
    """By a policy that makes a table; that none of them fails is for test_choosers."""
    weightless, other, agent = Endpoint(free_address()), Endpoint(free_address()), Agent(b"up weight:0%")
    for each in (weightless, other, agent):
        await nursery.start(each.serve)
    listen = free_address()
    tier = (
        f"balance: {Policy.MAGLEV.value}, routes: [{{match: {{path: /none}}, to: none}}, {{match: {{path: /a}}, to: a}}"
    )
    tier += ", {match: {path: /work}, to: o}, {match: {path: /split}, to: {none: 9, o: 1}}]"
    pools = (
        f"  a: {{endpoints: {{{free_address()}: 1, {weightless.address}: 0}}}}\n"
        f"  none: {{endpoints: {{{weightless.address}: 5}}, agent_check: {agent.port}}}\n"
        f"  o: {{endpoints: {{{other.address}: 1}}}}\n"
    )
    traffic = traffic_to(listen)
    with trio.fail_after(DEADLINE_S), cluster(tmp_path, listen, tier, pools) as site:
        await site.wait_until("it is started", site.is_started, START_S)
        (pid,) = [node["pid"] for node in site.nodes("web").values()]
        await until_answered(listen, "/none", b"every host of none has weight 0")
        before = weightless.answered
        async with traffic.flowing():
            for _ in range(6):
                assert (await ask(listen, "/a")).startswith(b"HTTP/1.1 502 ")
                assert (await ask(listen, "/none")).startswith(b"HTTP/1.1 503 ")
                assert (await ask(listen, "/split")).startswith(b"HTTP/1.1 200 ")
            await traffic.until("others answer", lambda: other.answered > DRAWS)
        assert [node["pid"] for node in site.nodes("web").values()] == [pid]
    assert weightless.answered == before
    assert traffic.failures == []


async def until_answered(listen: str, path: str, text: bytes) -> None:
    """Ask until the answer says so, within the deadline of the test."""
    while text not in await ask(listen, path):  # noqa: ASYNC110 (nothing announces it)
        await trio.sleep(POLL_S)


async def test_an_agents_maxconn_is_a_cap_and_what_is_above_it_is_told_why(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    endpoint, agent = Endpoint(free_address(), takes_s=0.5), Agent(b"up maxconn:2")
    await nursery.start(endpoint.serve)
    await nursery.start(agent.serve)
    listen = free_address()
    pools = f"  app: {{endpoints: [{endpoint.address}], agent_check: {agent.port}}}\n"
    answers: list[bytes] = []

    async def asks() -> None:
        answers.append(await ask(listen, "/work"))

    with trio.fail_after(DEADLINE_S), cluster(tmp_path, listen, "to: app", pools) as site:
        await site.wait_until("it is started", site.is_started, START_S)
        while not any(b" 503 " in answer for answer in answers):
            answers.clear()
            async with trio.open_nursery() as clients:
                for _ in range(5):
                    clients.start_soon(asks)
        refused = [answer for answer in answers if not answer.startswith(b"HTTP/1.1 200 ")]
        assert 1 <= len(refused) <= 3
        for answer in refused:
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 1\r\n" in answer
        agent.word = b"up maxconn:0"
        while any(b" 503 " in answer for answer in answers):
            answers.clear()
            async with trio.open_nursery() as clients:
                for _ in range(5):
                    clients.start_soon(asks)


async def test_the_usual_policy_goes_by_the_weights_of_the_file(tmp_path: Path, nursery: trio.Nursery) -> None:
    """As every policy does: test_choosers."""
    endpoints = [Endpoint(free_address()) for _ in range(3)]
    for endpoint in endpoints:
        await nursery.start(endpoint.serve)
    listen = free_address()
    weights = ", ".join(f"{each.address}: {weight}" for each, weight in zip(endpoints, (4, 1, 0), strict=True))
    tier = "balance: load-aware, routes: [{match: {path: /work}, to: app}]"
    pools = f"  app: {{endpoints: {{{weights}}}}}\n"
    traffic = traffic_to(listen)

    def answered(least: int) -> bool:
        return sum(endpoint.answered for endpoint in endpoints) >= least

    with trio.fail_after(DEADLINE_S), cluster(tmp_path, listen, tier, pools) as site:
        await site.wait_until("it is started", site.is_started, START_S)
        async with traffic.flowing(kept=2, fresh=2):
            share = 0.0
            while not 0.72 <= share <= 0.88:
                before = [each.answered for each in endpoints]
                await traffic.until("answers", partial(answered, sum(before) + DRAWS))
                counts = [each.answered - was for each, was in zip(endpoints, before, strict=True)]
                share = counts[0] / sum(counts)
    assert endpoints[2].answered == 0
    assert traffic.failures == []
