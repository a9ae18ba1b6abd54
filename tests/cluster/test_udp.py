"""Tiers over UDP as a user starts them: DNS by unbound, and sessions that last, as those of QUIC do. Servers are
killed, nodes are restarted, endpoints come and go, and clients move."""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import attrs
import dns.exception
import dns.message
import trio

from scripts.benchmarks.cluster import Cluster, free_address, running_cluster
from tests.unbound import LARGE, unbound
from tierlb.model.address import parse_address

EXAMPLE = Path(__file__).parents[2] / "topology" / "dns.yaml"
ECHO = shlex.join((sys.executable, str(Path(__file__).with_name("echo_server.py")), "{port}"))
DEADLINE_S = 120.0
ANSWER_S = 5.0
"""A query without an answer for so long is lost. Nothing here takes longer than some ms."""
ASKING = 16
"""Clients that ask at a time."""


def run(scenario: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    async def within() -> None:
        with trio.fail_after(deadline_s):
            await scenario()  # type: ignore[misc]

    trio.run(within)


async def ask(at: str, name: str, payload: int = 1232) -> str | None:
    """The text that a DNS server has for this name, asked once from a new port; None if no answer comes."""
    query = dns.message.make_query(name, "TXT", use_edns=0, payload=payload)
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.connect(parse_address(at).sockaddr)
        with trio.move_on_after(ANSWER_S), contextlib.suppress(OSError):
            await sock.send(query.to_wire())
            while True:
                answer = dns.message.from_wire(await sock.recv(65536))
                assert answer.id == query.id
                return "".join(part.decode() for rrset in answer.answer for rd in rrset for part in rd.strings)
    return None


async def ask_by_tcp(at: str, name: str) -> str:
    query = dns.message.make_query(name, "TXT").to_wire()
    stream = await trio.open_tcp_stream(*parse_address(at).sockaddr)
    async with stream:
        await stream.send_all(len(query).to_bytes(2) + query)
        answer = await stream.receive_some()
        while len(answer) < 2 or len(answer) < 2 + int.from_bytes(answer[:2]):
            answer += await stream.receive_some()
    found = dns.message.from_wire(answer[2:])
    return "".join(part.decode() for rrset in found.answer for rd in rrset for part in rd.strings)


@attrs.define
class Resolvers:
    """Clients that ask who.test again and again, each time from a new port. `answers` by the server's name."""

    at: str
    answers: Counter[str] = attrs.field(factory=Counter)
    lost: int = 0

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator["Resolvers"]:
        ending = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(ASKING):
                nursery.start_soon(self._ask_on, ending)
            yield self
            ending.set()

    async def _ask_on(self, ending: trio.Event) -> None:
        while not ending.is_set():
            answer = await ask(self.at, "who.test")
            if answer is None:
                self.lost += 1
            else:
                self.answers[answer] += 1
            await trio.sleep(0.002)

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110 (answers come one by one)
            await trio.sleep(0.01)

    async def more(self, count: int) -> Counter[str]:
        """So many more answers, by server."""
        before = self.answers.copy()
        await self.until(lambda: (self.answers - before).total() >= count)
        return self.answers - before


@contextlib.contextmanager
def dns_cluster(tmp_path: Path, *changes: tuple[str, str]) -> Iterator[tuple[Cluster, str, list[str]]]:
    """The example over two servers: the cluster, where it listens, and where its servers are."""
    admin, listen, *servers = (free_address() for _ in range(4))
    text = EXAMPLE.read_text()
    places = {"127.0.0.1:7900": admin, "127.0.0.1:5300": listen, "127.0.0.1:5301": servers[0]}
    for old, new in (*(places | {"127.0.0.1:5302": servers[1]}).items(), *changes):
        assert old in text
        text = text.replace(old, new)
    with running_cluster(text, admin, tmp_path, Cluster.is_started) as cluster:
        yield cluster, listen, servers


async def until_both_answer(listen: str) -> None:
    found: set[str | None] = set()
    while not {"one", "two"} <= found:
        found.add(await ask(listen, "who.test"))


def test_the_example_answers_dns_over_udp_and_tcp_at_one_port(tmp_path: Path) -> None:
    with dns_cluster(tmp_path) as (cluster, listen, servers):

        async def scenario() -> None:
            await until_both_answer(listen)
            assert await ask(listen, "large.test", payload=4096) == "x" * LARGE
            assert await ask(listen, "large.test", payload=512) == "", "truncated by the server, to be asked by TCP"
            assert await ask_by_tcp(listen, "large.test") == "x" * LARGE
            assert await ask(listen, "nobody.test") == ""

        with unbound(servers[0], "one", tmp_path), unbound(servers[1], "two", tmp_path):
            run(scenario)
            nodes = cluster.nodes("udp")
            assert {name: node["load"]["connections"] for name, node in nodes.items()} == {"udp-1": 0}
            assert cluster.status()["tiers"]["udp"]["protocol"] == "udp"


def test_a_dns_server_that_is_killed_costs_what_is_in_flight_there_and_it_gets_its_share_again(tmp_path: Path) -> None:
    without_checks = ("    health: tcp\n", "")
    with dns_cluster(tmp_path, without_checks) as (_, listen, servers), unbound(servers[0], "one", tmp_path):

        async def scenario() -> None:
            with contextlib.ExitStack() as stack:
                victim = stack.enter_context(unbound(servers[1], "two", tmp_path))
                await until_both_answer(listen)
                resolvers = Resolvers(listen)
                async with resolvers.asking():
                    assert set(await resolvers.more(500)) == {"one", "two"}
                    assert resolvers.lost == 0
                    victim.kill()
                    assert (await resolvers.more(3000))["one"] > 2900
                    with unbound(servers[1], "two", tmp_path):
                        before = resolvers.answers["two"]
                        await resolvers.until(lambda: resolvers.answers["two"] > before + 300)
                assert resolvers.lost <= ASKING, resolvers.lost

        run(scenario)


def test_a_dns_server_that_stands_still_is_left_alone(tmp_path: Path) -> None:
    """Nothing refuses: its silence shows it, while the other one answers. `load-aware` would avoid it by the number of
    what it has not answered, so here they take turns."""
    in_turns = ("    responses: 1\n", "    responses: 1\n    balance: round-robin\n")
    with dns_cluster(tmp_path, ("    health: tcp\n", ""), in_turns) as (_, listen, servers):

        async def scenario() -> None:
            await until_both_answer(listen)
            resolvers = Resolvers(listen)
            async with resolvers.asking():
                await resolvers.more(200)
                os.kill(victim.pid, signal.SIGSTOP)
                before = resolvers.lost
                await resolvers.more(3000)
                first = resolvers.lost - before
                await resolvers.more(3000)
            assert first <= 6 * ASKING, "those that were sent there until its silence showed"
            assert resolvers.lost - before - first <= 2 * ASKING, "a few show now and then that it is silent still"

        with unbound(servers[0], "one", tmp_path), unbound(servers[1], "two", tmp_path) as victim:
            run(scenario)


def test_dns_through_two_tiers_survives_the_death_of_a_node_between(tmp_path: Path) -> None:
    admin, listen, *servers = (free_address() for _ in range(4))
    text = f"""\
cluster: stacked
admin: {{listen: "{admin}"}}
tiers:
  edge: {{kind: l4, protocol: udp, listen: "{listen}", responses: 1, to: mid}}
  mid: {{kind: l4, protocol: udp, replicas: 2, responses: 1, to: dns}}
pools:
  dns: {{endpoints: ["{servers[0]}", "{servers[1]}"]}}
"""
    with running_cluster(text, admin, tmp_path, Cluster.is_whole) as cluster:

        async def scenario() -> None:
            await until_both_answer(listen)
            said = await tierlb(cluster, "explain", f"udp://{listen}", "--json")
            assert [choice["tier"] for choice in json.loads(said)["choices"]] == ["edge", "mid"]
            resolvers = Resolvers(listen)
            async with resolvers.asking():
                await resolvers.more(500)
                assert resolvers.lost == 0
                os.kill(cluster.nodes("mid")["mid-1"]["pid"], signal.SIGKILL)
                await resolvers.more(2000)
                assert resolvers.lost <= ASKING
                await cluster.wait_until("mid-1 is there again", cluster.is_whole, DEADLINE_S)

                def both_take_some() -> bool:
                    nodes = cluster.nodes("mid").values()
                    return all((node["load"] or {}).get("items", 0) > 100 for node in nodes)

                await cluster.wait_until("queries through both", both_take_some, DEADLINE_S)
            assert resolvers.lost <= ASKING

        with unbound(servers[0], "one", tmp_path), unbound(servers[1], "two", tmp_path):
            run(scenario)


@attrs.define
class Talk:
    """One client with a session that lasts: it says something, waits for the answer, and goes on."""

    sock: trio.socket.SocketType
    at: str

    @classmethod
    async def begun(cls, at: str) -> "Talk":
        sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        await sock.bind(("127.0.0.1", 0))
        return cls(sock, at)

    async def says(self, data: bytes = b"x" * 1200) -> tuple[int, int] | None:
        """Which server answers, and how many datagrams of this session it has seen; None if it does not."""
        await self.sock.sendto(data, parse_address(self.at).sockaddr)
        with trio.move_on_after(ANSWER_S):
            answer, _ = await self.sock.recvfrom(65536)
            server, count, heard = answer.split(b" ", 2)
            assert heard == data
            return int(server), int(count)
        return None

    async def is_answered(self) -> tuple[int, int]:
        while (answer := await self.says()) is None:
            pass
        return answer


ECHO_TEXT = """\
cluster: talks
admin: {{listen: "{admin}"}}
tiers:
  edge: {{kind: l4, protocol: udp, listen: "{listen}", replicas: {nodes}, timeouts: {{idle: 20s}}, drain: 5s, to: echo}}
pools:
  echo: {{run: {{command: "{echo}", replicas: 3}}}}
"""


@contextlib.contextmanager
def echo_cluster(tmp_path: Path, nodes: int) -> Iterator[tuple[Cluster, str]]:
    admin, listen = free_address(), free_address()
    text = ECHO_TEXT.format(admin=admin, listen=listen, nodes=nodes, echo=ECHO)
    with running_cluster(text, admin, tmp_path, Cluster.is_whole) as cluster:
        yield cluster, listen


async def tierlb(cluster: Cluster, *arguments: str) -> str:
    """Run a command on the cluster; what it prints."""
    more = ("--admin", f"http://{cluster.admin}", "--token-file", str(cluster.state / "admin-token"))
    command = [sys.executable, "-m", "tierlb", *arguments, *more]
    done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


def test_a_session_lasts_while_endpoints_come_and_go_and_a_client_that_moves_begins_another(tmp_path: Path) -> None:
    with echo_cluster(tmp_path, 1) as (cluster, listen):

        async def scenario() -> None:
            talks = [await Talk.begun(listen) for _ in range(12)]
            servers = [(await talk.is_answered())[0] for talk in talks]
            assert len(set(servers)) == 3
            await tierlb(cluster, "scale", "echo=5")
            for count in (2, 3, 4):
                assert [await talk.says() for talk in talks] == [(server, count) for server in servers]
            moved = Talk((await Talk.begun(listen)).sock, listen)
            answer = await moved.says()
            assert answer is not None
            assert answer[1] == 1, "another session, whose server sees another client"
            for talk in (*talks, moved):
                talk.sock.close()

        run(scenario)


def test_each_client_stays_at_one_of_several_nodes_and_loses_nothing_but_its_session_with_it(tmp_path: Path) -> None:
    with echo_cluster(tmp_path, 3) as (cluster, listen):

        async def scenario() -> None:
            talks = [await Talk.begun(listen) for _ in range(30)]
            first = [await talk.is_answered() for talk in talks]
            for count in range(2, 6):
                assert [await talk.says() for talk in talks] == [(server, count) for server, _ in first]
            nodes = await trio.to_thread.run_sync(cluster.nodes, "edge")

            def all_have_some() -> bool:
                return all((node["load"] or {}).get("items") for node in cluster.nodes("edge").values())

            await cluster.wait_until("clients at each node", all_have_some, DEADLINE_S)
            os.kill(nodes["edge-2"]["pid"], signal.SIGKILL)
            answers = [await talk.is_answered() for talk in talks]
            kept = sum(count == 6 for _, count in answers)
            assert 10 <= kept < 30, "those of the other nodes have theirs"
            for talk in talks:
                talk.sock.close()

        run(scenario)


def test_a_node_that_is_restarted_costs_no_client_more_than_a_new_session(tmp_path: Path) -> None:
    with echo_cluster(tmp_path, 1) as (cluster, listen):
        lost = 0

        async def talk_on(ending: trio.Event) -> None:
            nonlocal lost
            talk = await Talk.begun(listen)
            while not ending.is_set():
                lost += await talk.says() is None
                await trio.sleep(0.01)
            talk.sock.close()

        async def scenario() -> None:
            ending = trio.Event()
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(talk_on, ending)
                await tierlb(cluster, "restart", "edge")
                ending.set()
            assert lost <= 8

        run(scenario)


def test_what_a_user_reads_of_it_says_udp(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tierlb", "check", str(EXAMPLE)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert re.search(r"udp · l4 · listens on 127\.0\.0\.1:5300/udp", shown), shown
    assert re.search(r"tcp · l4 · listens on 127\.0\.0\.1:5300 ", shown), shown
