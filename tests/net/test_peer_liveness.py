"""What is made of the kernel's knowledge of a connection, and that the kernel knows it."""

import errno
import socket
import struct

import pytest
import trio

from tests.silence import hosts, stuff
from tierlb.net import peer_liveness
from tierlb.net.peer_liveness import GONE, LOOK_S, SILENT, UNANSWERED, confirm, judge, next_look_s
from tierlb.net.wheel import NEVER

DEADLINE_S = 30.0
SHORT_S = 1.0
LONG_AGO_MS = round(2 * LOOK_S * 1000)
OPEN = 65536


def tcp_info(window: int, **known: int) -> bytes:
    """A `struct tcp_info` by the order of its fields: eight bytes, 24 numbers, four long ones, and so on."""
    known = {"silent_ms": LONG_AGO_MS, **known}
    numbers = [0] * 24
    numbers[4], numbers[12] = known.get("unacked", 0), known["silent_ms"]
    return (
        struct.pack("=8B", 1, 0, known.get("retransmits", 0), known.get("probes", 0), 0, 0, 0, 0)
        + struct.pack("=24I4Q", *numbers, 0, 0, 0, 0)
        + struct.pack("=6I4Q2I2Q", 0, 0, known.get("unsent", 0), *[0] * 11)
        + struct.pack("=4I", 0, 0, 0, window)
    )


JUDGED = {
    "nothing is on its way": ({"window": OPEN}, NEVER),
    "and keepalive asks already": ({"probes": UNANSWERED, "window": OPEN}, NEVER),
    "sent again and again": ({"unacked": 1, "retransmits": UNANSWERED, "window": OPEN}, GONE),
    "with more behind it": ({"unacked": 1, "retransmits": UNANSWERED, "unsent": 9, "window": OPEN}, GONE),
    "a long way": ({"unacked": 1, "retransmits": UNANSWERED - 1, "window": OPEN}, LOOK_S),
    "heard lately": ({"unacked": 1, "retransmits": UNANSWERED, "silent_ms": 2500, "window": OPEN}, LOOK_S - 2.5),
    "it reads nothing, and answers": ({"unsent": 9, "window": 0}, LOOK_S),
    "it reads nothing, and a probe was lost": ({"unsent": 9, "probes": UNANSWERED - 1, "window": 0}, LOOK_S),
    "it reads nothing, and answers no more": ({"unsent": 9, "probes": UNANSWERED, "window": 0}, GONE),
    "it took its window back": ({"unacked": 1, "retransmits": UNANSWERED, "unsent": 9, "window": 0}, LOOK_S),
}


@pytest.mark.parametrize("what", JUDGED)
def test_a_connection_is_judged_by_what_was_not_answered(what: str) -> None:
    fields, expected = JUDGED[what]
    assert judge(tcp_info(**fields)) == expected


def test_of_a_kernel_that_does_not_tell_the_window_nothing_is_concluded() -> None:
    known = tcp_info(unacked=1, retransmits=UNANSWERED, window=OPEN)
    assert judge(known) == GONE
    assert judge(known[:-4]) == NEVER


async def test_who_is_gone_is_told_from_who_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_liveness, "LOOK_S", SHORT_S)
    with hosts() as silence, trio.fail_after(DEADLINE_S):
        quiet, _ = silence.connected(silence.mute)
        asked, _ = silence.connected(silence.mute)
        unread, _ = silence.connected(silence.mute)
        waiting, _ = silence.connected(silence.live)
        for sock in (unread, waiting):
            assert stuff(sock) > 0
            while unacked(sock):  # noqa: ASYNC110 (the far kernel takes what it has room for)
                await trio.sleep(0.01)
        silence.mute.unplug()
        asked.send(b"anybody?")
        while next_look_s(asked.fileno()) != GONE:
            assert next_look_s(waiting.fileno()) != GONE
            await trio.sleep(0.05)
        while next_look_s(unread.fileno()) != GONE:
            assert next_look_s(waiting.fileno()) != GONE
            await trio.sleep(0.05)
        while next_look_s(waiting.fileno()) != SHORT_S:  # then it was not heard for so long, for it was not asked
            assert next_look_s(waiting.fileno()) != GONE
            await trio.sleep(0.01)
        assert next_look_s(quiet.fileno()) == NEVER


def unacked(sock: socket.socket) -> int:
    """By the field itself (tcpi_unacked)."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int(struct.unpack_from("=I", info, 24)[0])


async def test_a_peer_that_is_gone_and_owes_nothing_is_asked_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_liveness, "LOOK_S", 1.0)
    monkeypatch.setattr(peer_liveness, "ASK_EVERY_S", 1)
    with hosts() as silence, trio.fail_after(DEADLINE_S):
        gone, _ = silence.connected(silence.mute)
        here, far = silence.connected(silence.live)
        silence.mute.unplug()
        while (code := gone.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) == 0:  # noqa: ASYNC110 (the kernel decides)
            await trio.sleep(0.05)
        assert code in SILENT, errno.errorcode[code]
        far.send(b"still here")
        await trio.lowlevel.wait_readable(here)
        assert here.recv(100) == b"still here"


@pytest.mark.parametrize(
    ("found_s", "sent_at", "doubted_at", "again_s", "doubted_then"),
    [
        (LOOK_S, 99.0, NEVER, LOOK_S, NEVER),
        (3.0, 99.0, 80.0, 3.0, NEVER),
        (GONE, 100.0, NEVER, LOOK_S, 100.0),
        (GONE, 96.0, NEVER, 6.0, 100.0),
        (GONE, 60.0, NEVER, GONE, 100.0),
        (GONE, 99.0, 94.0, 4.0, 94.0),
        (GONE, 99.0, 90.0, GONE, 90.0),
    ],
    ids=["there", "there again", "sent now", "sent lately", "quiet", "doubted lately", "doubted for long"],
)
def test_a_host_is_gone_if_all_was_quiet_or_all_looks_agree(
    found_s: float, sent_at: float, doubted_at: float, again_s: float, doubted_then: float
) -> None:
    assert confirm(found_s, 100.0, sent_at, doubted_at) == (pytest.approx(again_s), doubted_then)
