"""gRPC with grpcio on both sides: calls of all forms through one l7 node to four servers."""

import collections
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest

from scripts.benchmarks.cluster import free_address, running_cluster

SERVER = Path(__file__).with_name("grpc_server.py")
TOPOLOGY = """\
cluster: calls
admin: {{listen: {admin}}}
tiers:
  edge: {{kind: l4, listen: "{listen}", to: web}}
  web: {{kind: l7, to: app}}
pools:
  app: {{endpoints: {endpoints}, protocol: h2c, health: tcp}}
"""
CALL_S = 30.0


@attrs.frozen
class Calls:
    """One channel, which is one connection, and the four forms."""

    channel: grpc.Channel
    slow: str

    def unary(self, request: bytes, timeout: float = CALL_S) -> bytes:
        return self.channel.unary_unary("/tests.Echo/Unary")(request, timeout=timeout)

    def form(self, name: str) -> Any:
        kinds = {"ToMany": "unary_stream", "FromMany": "stream_unary", "Both": "stream_stream", "Unary": "unary_unary"}
        return getattr(self.channel, kinds[name])(f"/tests.Echo/{name}")


@contextlib.contextmanager
def servers(ports: list[str], slow: str, directory: Path) -> Iterator[None]:
    started = []
    try:
        for port in ports:
            command = [sys.executable, str(SERVER), port, slow]
            with (directory / port).open("w") as log:
                started.append(subprocess.Popen(command, stdout=log, stderr=log))
        yield
    finally:
        for each in started:
            each.terminate()
        for each in started:
            each.wait()


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    directory = tmp_path_factory.mktemp("grpc")
    endpoints = [free_address() for _ in range(4)]
    listen, admin = free_address(), free_address()
    ports = [endpoint.rpartition(":")[2] for endpoint in endpoints]
    with servers(ports, ports[2], directory):
        for endpoint in endpoints:
            with grpc.insecure_channel(endpoint) as channel:
                grpc.channel_ready_future(channel).result(timeout=CALL_S)
        text = TOPOLOGY.format(admin=admin, listen=listen, endpoints=f"[{', '.join(endpoints)}]")
        with running_cluster(text, admin, directory), grpc.insecure_channel(listen) as channel:
            yield Calls(channel, ports[2])


def test_a_call_has_its_answer_and_its_trailers(calls: Calls) -> None:
    answer, call = calls.form("Unary").with_call(b"hello", timeout=CALL_S)
    assert answer.startswith(b"hello ")
    assert call.code() is grpc.StatusCode.OK
    assert ("x-trailer", "behind") in call.trailing_metadata()


def test_an_error_comes_with_its_status_and_message(calls: Calls) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        calls.unary(b"fail")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "as you wish")


def test_a_call_has_many_answers(calls: Calls) -> None:
    assert list(calls.form("ToMany")(b"5000", timeout=CALL_S)) == [str(n).encode() for n in range(5000)]


def test_a_call_has_many_requests(calls: Calls) -> None:
    assert calls.form("FromMany")(iter([bytes(100_000)] * 30), timeout=CALL_S) == b"3000000"


def test_requests_and_answers_go_both_ways_at_once(calls: Calls) -> None:
    answered = threading.Semaphore(1)

    def requests() -> Iterator[bytes]:
        for number in range(20):
            assert answered.acquire(timeout=CALL_S)
            yield b"%d" % number

    heard = []
    for answer in calls.form("Both")(requests(), timeout=CALL_S):
        heard.append(answer)
        answered.release()
    assert heard == [b"re: %d" % number for number in range(20)]


def test_a_deadline_cancels_the_call_at_the_server_at_once(calls: Calls) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        calls.unary(b"slow", timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    futures = [calls.form("Unary").future(b"was it cancelled?", timeout=CALL_S) for _ in range(16)]
    assert b"yes" in {future.result() for future in futures}


def test_calls_of_one_connection_are_spread_by_themselves(calls: Calls) -> None:
    """One of four servers is slow, and has less than the quarter of a hundred calls that turns would give it."""
    for _ in range(3):
        futures = [calls.form("Unary").future(b"busy", timeout=CALL_S) for _ in range(100)]
        answers = collections.Counter(future.result().split()[1].decode() for future in futures)
    assert sum(answers.values()) == 100
    assert len(answers) >= 3
    assert answers[calls.slow] < 20


def test_a_method_that_nobody_has_is_unimplemented(calls: Calls) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        calls.channel.unary_unary("/tests.Echo/Nothing")(b"", timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
