"""The handshake at an l4 tier that ends TLS; what is relayed then is in `tests/dataplane/test_tls.py`."""

from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.dataplane.conftest import Lab, l4
from tierlb.dataplane.l4 import securing


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


async def test_a_client_that_says_nothing_is_let_go(
    lab: Lab, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.serves(l4(await lab.endpoint(), tls=authority.tls()))
    client = await lab.connects()
    await lab.until(lambda: lab.front.connections.pending)
    (waiting,) = lab.front.connections.pending
    assert waiting.deadline - lab.plane.reactor.now <= securing.HANDSHAKE_S
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
