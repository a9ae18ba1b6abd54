"""The handshake at an l4 tier that ends TLS; what is relayed then is in `tests/dataplane/test_tls.py`."""

from pathlib import Path

import attrs
import pytest

from tests.certificates import Authority, connects_by_tls
from tests.dataplane.conftest import INNER, Clock, Lab, below, l4, send
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Limits, Match, Timeouts


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"SSH-2.0-x\r\n", "does not speak TLS"),
        (b"\x16\x03\x01\x00\x10" + bytes([255]) * 16, "the TLS handshake failed"),
    ],
)
async def test_a_handshake_that_fails_is_counted_and_logged(
    lab: Lab, authority: Authority, says: bytes, reason: str
) -> None:
    await lab.serves(l4(await lab.endpoint(), tls=authority.tls()))
    client = await lab.connects()
    await client.says(says)
    await lab.until(lambda: lab.plane.load().connections == 0)
    assert lab.plane.load().rejected == 1
    ((_, fields),) = [each for each in lab.log.events if each[0] == "connection_refused"]
    assert reason in fields["reason"]
    assert lab.front.drained


async def test_a_client_that_says_nothing_is_let_go(lab: Lab, authority: Authority) -> None:
    await lab.serves(l4(await lab.endpoint(), tls=authority.tls()))
    client = await lab.connects()
    await lab.until(lambda: lab.front.connections.pending)
    (waiting,) = lab.front.connections.pending
    assert waiting.deadline - lab.plane.reactor.now <= lab.front.config.head_s
    waiting.on_deadline()
    await client.hears_no_word()
    assert lab.plane.load().connections == 0


async def test_a_node_that_ends_cuts_handshakes(lab: Lab, authority: Authority) -> None:
    await lab.serves(l4(await lab.endpoint(), tls=authority.tls()))
    client = await lab.connects()
    await lab.until(lambda: lab.front.connections.pending)
    lab.front.cut()
    await client.hears_no_word()
    assert lab.front.drained


async def test_at_the_cap_handshakes_give_way(lab: Lab, authority: Authority, clock: Clock) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, tls=authority.tls(), limits=attrs.evolve(Limits(), connections=2)))
    silent = [await lab.connects() for _ in range(2)]
    await lab.until(lambda: len(lab.front.connections.pending) == 2)
    clock.now += 5.0
    lab.plane.reactor.look()
    secured = await connects_by_tls(lab, authority.client())
    await endpoint.accepts()
    await secured.says(b"hello")
    assert lab.plane.load().gave_way == 1
    assert len(lab.front.connections.pending) == 1
    assert len(silent) == 2


async def test_what_a_node_above_has_ended_the_tls_of_waits_for_no_hello(lab: Lab, authority: Authority) -> None:
    """The host speaks first, and the tier has a route by SNI."""
    named, other = await lab.endpoint(), await lab.endpoint()
    rules = (Rule(Match(sni=("x.example",)), send(named)), Rule(Match(), send(other)))
    at = await lab.serves(l4(rules=rules, listener=INNER))
    await lab.serves(l4(below(at, lab.plane.name), tls=authority.tls()))
    client = await connects_by_tls(lab, authority.client())
    voice = await other.accepts()
    await voice.says(b"220 ready")
    await client.hears(b"220 ready")


async def test_a_route_goes_by_the_name_of_the_handshake(lab: Lab, authority: Authority) -> None:
    named, other = await lab.endpoint(), await lab.endpoint()
    rules = (Rule(Match(sni=("shop.example",)), send(named)), Rule(Match(), send(other)))
    await lab.serves(l4(rules=rules, tls=authority.tls("shop.example", "other.example")))
    await connects_by_tls(lab, authority.client())
    await named.accepts()
    await connects_by_tls(lab, authority.client(), name="other.example")
    await other.accepts()


async def test_a_handshake_may_take_as_long_as_the_tier_says(lab: Lab, authority: Authority) -> None:
    timeouts = attrs.evolve(Timeouts(), head=0.3)
    await lab.serves(l4(await lab.endpoint(), tls=authority.tls(), timeouts=timeouts))
    client = await lab.connects()
    await client.hears_no_word()
    await lab.until(lambda: lab.plane.load().connections == 0)
