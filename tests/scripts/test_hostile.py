"""The attacks do what they say, and an attack that did not come about is no good result."""

import math
from collections import Counter
from functools import partial

import pytest
import trio

from scripts.benchmarks.attacks import ATTACKS, Attack, Outcome, Port, attack
from scripts.benchmarks.hostile import PROXIES, Places, Sizes, _sample, _verdicts
from scripts.benchmarks.table import Sample
from scripts.benchmarks.windows import Seen

SEEN = Seen([2.0, 7.0, 8.0, 14.5], [0.010, 0.020, 0.030, 0.040], [200, 200, 503, 200])
PLACES = Places("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:5", "127.0.0.1:6")


def test_a_sample_has_the_tail_of_each_phase_and_what_failed() -> None:
    sample = _sample(
        "garbage", "tierlb", 8.0, SEEN, Sizes(30.0, 33.0, 29.0, 40.0), Outcome(8, {"closed": 1, "GOAWAY 11": 3})
    )
    assert sample.problem is None
    assert sample.values == {
        "p99 ms before": 10.0,
        "during": 20.0,
        "after": 40.0,
        "failed": 1.0,
        "CPU %": 40.0,
        "MiB before": 30.0,
        "+ during": 3.0,
        "+ after": 0.0,
        "opened": 8.0,
        "ended with": 11.0,
    }


@pytest.mark.parametrize(("ends", "code"), [({"closed": 2}, -1.0), ({}, math.nan)])
def test_an_end_without_goaway_is_none(ends: dict[str, int], code: float) -> None:
    sample = _sample("garbage", "tierlb", 8.0, SEEN, Sizes(30.0, 30.0, 30.0, 1.0), Outcome(8, ends))
    assert sample.values["ended with"] == pytest.approx(code, nan_ok=True)


def test_an_attack_that_did_not_come_about_makes_its_sample_invalid() -> None:
    sample = _sample("garbage", "tierlb", 8.0, SEEN, Sizes(30.0, 30.0, 30.0, 1.0), Outcome(7))
    assert sample.problem == "only 7 of 8 connections of the attack came about"


def test_the_worst_attack_decides() -> None:
    def sample(name: str, during: float, grown: float) -> Sample:
        return Sample(name, "tierlb", {"during": during, "+ during": grown, "+ after": 1.0, "failed": 0.0})

    lines = _verdicts([sample("idle", 20.0, 17.0), sample("garbage", 51.0, 3.0)])
    assert [line.split()[0] for line in lines] == ["missed", "missed", "met", "met"]
    assert "51.0 (garbage)" in lines[0]
    assert "17.0 (idle)" in lines[1]


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda each: each.name)
def test_each_proxy_is_given_both_endpoints_and_the_same_cap(proxy, tmp_path) -> None:
    if proxy.missing() is not None:
        pytest.skip(f"{proxy.name} is not installed")
    proxy.command(PLACES, tmp_path)
    (file,) = (path for path in tmp_path.iterdir() if path.suffix != ".pem")
    text = file.read_text()
    if proxy.name == "envoy":
        ports = [str(port) for port in (1, 3, 4, 6)]
        assert all(f'"port_value": {port}' in text for port in ports)
    else:
        assert all(address in text for address in (PLACES.listen, PLACES.endpoint, PLACES.hostile))
    assert "1000" in text or "2050" in text


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda each: each.name)
def test_each_proxy_speaks_tls_where_the_attack_is_on_that(proxy, tmp_path) -> None:
    if proxy.missing() is not None:
        pytest.skip(f"{proxy.name} is not installed")
    _, places = proxy.started(Port.TLS, PLACES, tmp_path)
    (file,) = (path for path in tmp_path.iterdir() if path.suffix != ".pem")
    assert "certificate.pem" in file.read_text()
    assert places.target(Port.TLS, http2_apart=proxy.http2_apart) == places.listen
    assert places.listen == (PLACES.listen if proxy.name == "tierlb" else PLACES.tls)


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("tiny chunks", b"1\r\nx\r\n1\r\nx\r\n"),
        ("pipelined", b"Host: shop.test\r\n\r\nGET / HTTP/1.1\r\n"),
        ("connection options", b"Connection: x"),
        ("new heads", b"\r\nX-19: "),
        ("interim answers", b"GET /hostile/interim "),
        ("unread answers", b"GET /hostile/endless "),
        ("tiny answer chunks", b"GET /hostile/chunks "),
        ("slow heads", b"X-Slow: "),
        ("slow bodies", b"Content-Length: 100000\r\n\r\n"),
        ("idle", b"GET / HTTP/1.1\r\n"),
    ],
)
async def test_an_attack_sends_what_it_is_named_after(
    name: str, begins: bytes, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, enough = bytearray(), trio.Event()

    async def read(stream: trio.SocketStream) -> None:
        while begins not in seen:
            seen.extend(await stream.receive_some(65536))
        enough.set()

    (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), read, 0)
    port = listener.socket.getsockname()[1]
    monkeypatch.setitem(ATTACKS, name, Attack(1, "", ATTACKS[name].run))
    with trio.fail_after(30):
        nursery.start_soon(attack, name, "127.0.0.1", port, 20.0)
        await enough.wait()
    nursery.cancel_scope.cancel()


async def test_connections_that_end_are_opened_again_at_a_bounded_pace(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[str] = Counter()

    async def close(stream: trio.SocketStream) -> None:
        seen["accepted"] += 1
        await stream.aclose()

    (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), close, 0)
    monkeypatch.setitem(ATTACKS, "silent", Attack(2, "", ATTACKS["silent"].run, per_second=10.0))
    opened = (await attack("silent", "127.0.0.1", listener.socket.getsockname()[1], 2.0)).opened
    assert 2 < opened <= 2.0 * 12 + 1
    assert seen["accepted"] >= opened - 2
    nursery.cancel_scope.cancel()
