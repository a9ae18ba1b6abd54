"""The attacks do what they say, and an attack that did not come about is no good result."""

from collections import Counter
from functools import partial

import pytest
import trio

from scripts.benchmarks import attacks
from scripts.benchmarks.attacks import ATTACKS, Attack, attack
from scripts.benchmarks.hostile import PROXIES, Places, Sizes, _sample, _verdicts
from scripts.benchmarks.table import Sample
from scripts.benchmarks.windows import Seen

SEEN = Seen([2.0, 7.0, 8.0, 14.5], [0.010, 0.020, 0.030, 0.040], [200, 200, 503, 200])
PLACES = Places("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4")


def test_a_sample_has_the_tail_of_each_phase_and_what_failed() -> None:
    sample = _sample("garbage", "tierlb", 8.0, SEEN, Sizes(30.0, 33.0, 29.0), opened=8)
    assert sample.problem is None
    assert sample.values == {
        "p99 ms before": 10.0,
        "during": 20.0,
        "after": 40.0,
        "failed": 1.0,
        "MiB before": 30.0,
        "+ during": 3.0,
        "+ after": 0.0,
        "opened": 8.0,
    }


def test_an_attack_that_did_not_come_about_makes_its_sample_invalid() -> None:
    sample = _sample("garbage", "tierlb", 8.0, SEEN, Sizes(30.0, 30.0, 30.0), opened=7)
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
    proxy.command(PLACES, tmp_path)
    (file,) = (path for path in tmp_path.iterdir() if path.is_file())
    text = file.read_text()
    assert all(address in text for address in (PLACES.listen, PLACES.endpoint, PLACES.hostile))
    assert "1000" in text or "2050" in text


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
    monkeypatch.setattr(attacks, "REOPENED_PER_S", 10.0)
    monkeypatch.setitem(ATTACKS, "silent", Attack(2, "", ATTACKS["silent"].run))
    opened = await attack("silent", "127.0.0.1", listener.socket.getsockname()[1], 2.0)
    assert 2 < opened <= 2.0 * 12 + 1
    assert seen["accepted"] >= opened - 2
    nursery.cancel_scope.cancel()
