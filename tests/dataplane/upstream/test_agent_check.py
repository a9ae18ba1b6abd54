"""The poller against agents that the test plays, the server against sockets and the real HAProxy."""

import contextlib
import csv
import os
import random
import shutil
from functools import partial

import attrs
import pytest
import trio

from scripts.benchmarks.cluster import free_address
from tierlb.dataplane.upstream import agent_check
from tierlb.dataplane.upstream.agent_check import ANSWERS_AT_ONCE, AgentChecks, serve_agent_check
from tierlb.model.address import Address, parse_address
from tierlb.model.load import SubtreeLoad
from tierlb.model.topology import Admin
from tierlb.wire.agent_check import AgentReply, NodeReplies, encode_reply

DEADLINE_S = 30.0
HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@attrs.define
class Agent:
    """An agent that says `line` and keeps what it was sent; with `hangs` it accepts and says nothing."""

    line: bytes
    hangs: bool = False
    heard: list[bytes] = attrs.field(factory=list)
    open: int = 0
    most_open: int = 0

    async def answer(self, stream):
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            with contextlib.suppress(trio.BrokenResourceError):
                await self.tell(stream)
        finally:
            self.open -= 1

    async def tell(self, stream):
        async with stream:
            if self.hangs:
                await stream.receive_some()
            await stream.send_all(self.line)
            await stream.send_eof()
            self.heard.append(await stream.receive_some())

    async def listen(self, nursery):
        listeners = await nursery.start(partial(trio.serve_tcp, self.answer, 0, host="127.0.0.1"))
        return Address("127.0.0.1", listeners[0].socket.getsockname()[1])


@attrs.define
class Words:
    """What was heard, as (key, says)."""

    heard: list = attrs.field(factory=list)
    more: trio.Event = attrs.field(factory=trio.Event)

    def note(self, key, says):
        self.heard.append((key, says))
        self.more.set()
        self.more = trio.Event()

    async def wait(self, key, says):
        with trio.fail_after(DEADLINE_S):
            while (key, says) not in self.heard:
                await self.more.wait()


async def until(condition):
    with trio.fail_after(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 (nothing tells of it)
            await trio.sleep(0.01)


@pytest.fixture
def words():
    return Words()


@pytest.fixture
async def checks(words, nursery):
    checks = AgentChecks(words.note, random.Random(1), interval_s=0.02, timeout_s=0.1)
    nursery.start_soon(checks.run)
    return checks


async def test_each_agent_is_asked_and_its_word_passed_on(checks, words, nursery):
    up, half = Agent(b"up\n"), Agent(b"50% maxconn:7\r\nnonsense")
    checks.replace({"a": await up.listen(nursery), "b": await half.listen(nursery)})
    await words.wait("a", AgentReply(health=True))
    await words.wait("b", AgentReply(weight=0.5, maxconn=7))


async def test_a_changed_word_is_heard_in_the_next_interval(checks, words, nursery):
    agent = Agent(b"ready\n")
    checks.replace({"a": await agent.listen(nursery)})
    await words.wait("a", AgentReply(admin=Admin.READY))
    agent.line = b"drain\n"
    await words.wait("a", AgentReply(admin=Admin.DRAIN))


async def test_an_agent_that_hangs_is_asked_again_but_never_twice_at_a_time(checks, words, nursery):
    agent = Agent(b"up\n", hangs=True)
    checks.replace({"a": await agent.listen(nursery)})
    await until(lambda: checks.failed >= 3)
    assert (agent.most_open, words.heard) == (1, [])
    agent.hangs = False
    await words.wait("a", AgentReply(health=True))


@pytest.mark.parametrize("line", [b"", b"up", b"x" * 5000])
async def test_what_is_no_whole_line_is_ignored(checks, words, nursery, line):
    checks.replace({"a": await Agent(line).listen(nursery)})
    await until(lambda: checks.failed >= 2)
    assert words.heard == []


async def test_an_agent_that_is_not_there_says_nothing_until_it_is(checks, words, nursery):
    port = parse_address(free_address()).port
    checks.replace({"a": Address("127.0.0.1", port)})
    await until(lambda: checks.failed >= 2)
    nursery.start_soon(partial(trio.serve_tcp, Agent(b"up\n").answer, port, host="127.0.0.1"))
    await words.wait("a", AgentReply(health=True))


async def test_after_replace_only_the_new_agents_are_heard(checks, words, nursery):
    old, new = Agent(b"down\n"), Agent(b"up\n")
    checks.replace({"a": await old.listen(nursery)})
    await words.wait("a", AgentReply(health=False, reason="down"))
    checks.replace({"a": await new.listen(nursery)})
    words.heard.clear()
    await words.wait("a", AgentReply(health=True))
    checks.replace({})
    words.heard.clear()
    answered = checks.answered
    await trio.sleep(0.1)
    assert (checks.answered, words.heard) == (answered, [])


async def test_agent_send_is_sent_first(words, nursery):
    agent = Agent(b"up\n")
    checks = AgentChecks(words.note, random.Random(1), interval_s=0.02, agent_send=b"web-1\n")
    checks.replace({"a": await agent.listen(nursery)})
    nursery.start_soon(checks.run)
    await words.wait("a", AgentReply(health=True))
    assert agent.heard[0] == b"web-1\n"


async def ask(address, send=b""):
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(address.host, address.port) as stream:
            if send:
                await stream.send_all(send)
            return b"".join([chunk async for chunk in stream])


async def serve(nursery, say):
    return await nursery.start(serve_agent_check, Address("127.0.0.1", 0), say)


async def test_the_server_says_what_holds_at_each_question(nursery):
    lines = iter([b"up\n", b"drain\n"])
    address = await serve(nursery, lambda: next(lines))
    assert await ask(address) == b"up\n"
    assert await ask(address, send=b"web-1\n") == b"drain\n"


async def test_an_asker_that_never_closes_is_left_after_a_moment_and_a_crowd_is_turned_away(nursery, monkeypatch):
    monkeypatch.setattr(agent_check, "AGENT_LINGER_S", 4.0)
    address = await serve(nursery, lambda: b"up\n")
    with trio.fail_after(DEADLINE_S):
        async with contextlib.AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(await trio.open_tcp_stream(address.host, address.port))
                for _ in range(ANSWERS_AT_ONCE)
            ]
            assert [await stream.receive_some() for stream in streams] == [b"up\n"] * ANSWERS_AT_ONCE
            assert await turned_away(address)
            assert [await stream.receive_some() for stream in streams] == [b""] * ANSWERS_AT_ONCE
        assert await ask_until_answered(address) == b"up\n"


async def turned_away(address):
    try:
        return await ask(address) == b""
    except trio.BrokenResourceError:
        return True


async def ask_until_answered(address):
    for _ in range(100):
        if said := await ask(address):
            return said
        await trio.sleep(0.01)
    return b""


CONFIGURATION = """\
global
  maxconn 4000
  stats socket {socket} mode 600 level admin
defaults
  mode tcp
  timeout connect 1s
  timeout client 5s
  timeout server 5s
frontend front
  bind 127.0.0.1:{port}
  default_backend nodes
backend nodes
  balance roundrobin
  default-server weight 100 check inter 50ms rise 1 fall 2 agent-check agent-inter 50ms
  server a {a} agent-port {a_agent}
  server b {b} agent-port {b_agent}
"""


@attrs.define
class Node:
    """Stands for a tierlb node: says its name to whoever connects, and its load to HAProxy."""

    name: bytes
    load: SubtreeLoad = SubtreeLoad(capacity=100.0, leaves=2, ready_leaves=2)
    address: Address = Address("", 0)
    agent: Address = Address("", 0)
    voice: NodeReplies = attrs.field(factory=NodeReplies)

    def say(self):
        return encode_reply(self.voice.reply(trio.current_time(), self.load))

    async def answer(self, stream):
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                await stream.send_all(self.name)

    async def start(self, nursery):
        listeners = await nursery.start(partial(trio.serve_tcp, self.answer, 0, host="127.0.0.1"))
        self.address = Address("127.0.0.1", listeners[0].socket.getsockname()[1])
        self.agent = await serve(nursery, self.say)


@attrs.define
class Parent:
    """A running HAProxy: its view of the nodes, and a way through it."""

    socket: str
    port: int

    async def estimate(self):
        async with await trio.open_unix_socket(self.socket) as stream:
            await stream.send_all(b"show stat\n")
            text = b"".join([chunk async for chunk in stream]).decode()
        rows = csv.DictReader(text.lstrip("# ").splitlines())
        return {row["svname"]: (row["status"], int(row["weight"])) for row in rows if row["pxname"] == "nodes"}

    async def sees(self, **expected):
        """Return once it sees each node as (status, weight)."""
        seen = {}
        with trio.move_on_after(DEADLINE_S):
            while True:
                with contextlib.suppress(OSError):
                    seen = await self.estimate()
                if all(seen.get(name) == state for name, state in expected.items()):
                    return
                await trio.sleep(0.02)
        raise AssertionError(f"HAProxy sees {seen}")

    async def shares(self, connections):
        counts = {b"a": 0, b"b": 0}
        for _ in range(connections):
            counts[await ask(Address("127.0.0.1", self.port))] += 1
        return counts


@contextlib.asynccontextmanager
async def haproxy(directory, nursery, a, b):
    port = parse_address(free_address()).port
    file, socket = directory / "haproxy.cfg", str(directory / "stats")
    file.write_text(
        CONFIGURATION.format(
            socket=socket, port=port, a=a.address, b=b.address, a_agent=a.agent.port, b_agent=b.agent.port
        )
    )
    with (directory / "log").open("w") as log:
        process = await nursery.start(
            partial(trio.run_process, [HAPROXY, "-db", "-f", str(file)], stdout=log, stderr=log, check=False)
        )
        try:
            yield Parent(socket, port)
        finally:
            process.kill()


@pytest.mark.skipif(HAPROXY is None, reason="NOT TESTED: haproxy is not installed (apt-get install haproxy)")
async def test_haproxy_as_the_parent_shifts_weight_with_capacity_and_drains(tmp_path, nursery):
    a, b = Node(b"a"), Node(b"b")
    await a.start(nursery)
    await b.start(nursery)
    with trio.fail_after(4 * DEADLINE_S):
        async with haproxy(tmp_path, nursery, a, b) as parent:
            await parent.sees(a=("UP", 100), b=("UP", 100))

            a.load = attrs.evolve(a.load, capacity=25.0)
            await parent.sees(a=("UP", 25), b=("UP", 100))
            assert 9 <= (await parent.shares(50))[b"a"] <= 11

            a.load = attrs.evolve(a.load, draining=True)
            await parent.sees(a=("DRAIN (agent)", 25))
            assert await parent.shares(10) == {b"a": 0, b"b": 10}

            a.load, b.load = attrs.evolve(a.load, draining=False), attrs.evolve(b.load, ready_leaves=0)
            await parent.sees(a=("UP", 25), b=("DOWN (agent)", 100))
            assert await parent.shares(10) == {b"a": 10, b"b": 0}

            a.load, b.load = attrs.evolve(a.load, capacity=100.0), attrs.evolve(b.load, ready_leaves=1)
            await parent.sees(a=("UP", 100), b=("UP", 100))


async def test_an_error_over_one_word_is_reported_and_the_questions_go_on(words, nursery):
    errors = []
    checks = AgentChecks(fails_at_first(words.note), random.Random(1), interval_s=0.02, on_crash=errors.append)
    checks.replace({"a": await Agent(b"up\n").listen(nursery)})
    nursery.start_soon(checks.run)
    await words.wait("a", AgentReply(health=True))
    assert [type(error) for error in errors] == [ValueError]


async def test_an_answer_that_cannot_be_made_is_reported_and_the_next_is_given(nursery):
    errors = []
    address = await nursery.start(
        serve_agent_check, Address("127.0.0.1", 0), fails_at_first(lambda: b"up\n"), errors.append
    )
    assert await ask_until_answered(address) == b"up\n"
    assert [type(error) for error in errors] == [ValueError]


def fails_at_first(call):
    calls = []

    def failing(*args):
        calls.append(args)
        if len(calls) == 1:
            raise ValueError
        return call(*args)

    return failing
