"""Real Redis servers as a plain TCP pool behind an l4 tier."""

import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import trio

from scripts.benchmarks.cluster import free_address, running_cluster
from scripts.benchmarks.lost import kill

pytestmark = pytest.mark.needs("redis-server", "redis-cli")

DEADLINE_S = 60.0
START_S = 90.0
PIPELINED = 1000
VALUE_BYTES = 300_000

TOPOLOGY = """\
cluster: redis
admin: {{listen: {admin}}}
tiers:
  front: {{kind: l4, listen: "{listen}", to: redis, balance: round-robin}}
pools:
  redis: {{endpoints: ["{first}", "{second}"]}}
"""


class Redis:
    """One server that the tests may kill; its name is its port."""

    def __init__(self, address: str, directory: Path) -> None:
        self.address = address
        self.port = address.rpartition(":")[2]
        self._process = subprocess.Popen(
            [
                "redis-server",
                "--bind",
                "127.0.0.1",
                "--port",
                self.port,
                "--save",
                "",
                "--dir",
                str(directory),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    async def wait_ready(self) -> None:
        with trio.fail_after(START_S):
            while True:
                try:
                    stream = await trio.open_tcp_stream("127.0.0.1", int(self.port))
                except OSError:
                    await trio.sleep(0.02)
                else:
                    await stream.aclose()
                    return

    def kill(self) -> None:
        kill(self._process.pid)
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(DEADLINE_S)


class Front:
    """The l4 tier's address and the servers behind it."""

    def __init__(self, listen: str, servers: list[Redis]) -> None:
        self.host, _, port = listen.rpartition(":")
        self.port = int(port)
        self.servers = servers

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[trio.SocketStream]:
        with trio.fail_after(DEADLINE_S):
            async with await trio.open_tcp_stream(self.host, self.port) as stream:
                yield stream

    async def server_of(self, stream: trio.SocketStream) -> str:
        """The port of the server that a connection leads to."""
        await stream.send_all(command("CONFIG", "GET", "port"))
        answer = await receive_until(stream, lambda got: got.count(b"\r\n") == 5)
        return answer.split(b"\r\n")[4].decode()


@contextlib.contextmanager
def running_front(directory: Path) -> Iterator[Front]:
    """Two servers behind a tier, until the end of the block."""
    with contextlib.ExitStack() as stack:
        servers = [Redis(free_address(), directory) for _ in range(2)]
        for server in servers:
            stack.callback(server.stop)
            trio.run(server.wait_ready)
        listen, admin = free_address(), free_address()
        first, second = (server.address for server in servers)
        text = TOPOLOGY.format(admin=admin, listen=listen, first=first, second=second)
        stack.enter_context(running_cluster(text, admin, directory))
        yield Front(listen, servers)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with running_front(tmp_path_factory.mktemp("redis")) as front:
        yield front


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Front]:
    """One of which a server may be killed."""
    with running_front(tmp_path) as front:
        yield front


def command(*words: str | bytes) -> bytes:
    """A command in RESP."""
    encoded = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


async def receive_until(stream: trio.SocketStream, complete: Callable[[bytes], bool]) -> bytes:
    """Everything received until it is complete; what came before an early end otherwise."""
    received = b""
    while not complete(received):
        data = await stream.receive_some()
        if not data:
            break
        received += data
    return received


async def redis_cli(front: Front, *words: str) -> str:
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(
            ["redis-cli", "-h", front.host, "-p", str(front.port), *words], capture_stdout=True
        )
    return done.stdout.decode().strip()


async def test_redis_cli_talks_to_a_server_through_the_tier(front: Front) -> None:
    assert await redis_cli(front, "PING") == "PONG"
    script = "redis.call('SET', 'a', 'b'); return redis.call('GET', 'a')"
    assert await redis_cli(front, "EVAL", script, "0") == "b"


async def test_a_value_that_was_set_is_got_again(front: Front) -> None:
    value = bytes(range(256)) * (VALUE_BYTES // 256)
    async with front.connection() as stream:
        await stream.send_all(command("SET", "key", value) + command("GET", "key"))
        expected = b"+OK\r\n$%d\r\n%b\r\n" % (len(value), value)
        assert await receive_until(stream, lambda got: len(got) >= len(expected)) == expected


async def test_a_thousand_pipelined_commands_are_answered_in_order(front: Front) -> None:
    async with front.connection() as stream:
        await stream.send_all(command("INCR", "count") * PIPELINED)
        expected = b"".join(b":%d\r\n" % number for number in range(1, PIPELINED + 1))
        assert await receive_until(stream, lambda got: got.count(b"\n") >= PIPELINED) == expected


async def test_a_client_that_has_shut_its_side_still_gets_all_answers(front: Front) -> None:
    async with front.connection() as stream:
        await stream.send_all(command("PING") * PIPELINED + command("QUIT"))
        await stream.send_eof()
        assert await receive_until(stream, lambda got: False) == b"+PONG\r\n" * PIPELINED + b"+OK\r\n"


async def test_a_subscriber_that_says_nothing_hears_what_is_published(front: Front) -> None:
    async with contextlib.AsyncExitStack() as stack:
        subscriber = await stack.enter_async_context(front.connection())
        publisher = await stack.enter_async_context(front.connection())
        if await front.server_of(publisher) != await front.server_of(subscriber):
            publisher = await stack.enter_async_context(front.connection())
        await subscriber.send_all(command("SUBSCRIBE", "news"))
        await receive_until(subscriber, lambda got: got.endswith(b":1\r\n"))
        for number in range(20):
            await publisher.send_all(command("PUBLISH", "news", f"{number:03}"))
            heard = await receive_until(subscriber, lambda got: got.count(b"\r\n") == 7)
            assert heard.endswith(b"$3\r\n%03d\r\n" % number)


async def test_both_servers_are_used_in_turn(front: Front) -> None:
    used = []
    for _ in range(6):
        async with front.connection() as stream:
            used.append(await front.server_of(stream))
    assert sorted(used) == sorted(server.port for server in front.servers for _ in range(3))


async def test_after_a_server_was_killed_new_connections_go_to_the_other(mortal: Front) -> None:
    dead, alive = mortal.servers
    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(mortal.connection()) for _ in range(2)]
        leads_to = {await mortal.server_of(stream): stream for stream in held}
        dead.kill()
        assert await receive_until(leads_to[dead.port], lambda got: False) == b""
        for _ in range(20):
            async with mortal.connection() as stream:
                assert await mortal.server_of(stream) == alive.port
        assert await mortal.server_of(leads_to[alive.port]) == alive.port
