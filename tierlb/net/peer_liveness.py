"""Whether the machine at the other end of a connection is still there.

A machine that loses power sends nothing, neither an end nor a reset. TCP finds out by what is not acknowledged, in one
of two ways:

* Nothing of ours is unacknowledged: keepalive asks (`ask_when_quiet`), and what it finds comes as any error does.
* Something is: the kernel does not ask but sends it again, for a quarter of an hour (tcp_retries2). So an end
  to which nothing came for LOOK_S looks (`next_look_s`) at how its attempts go. If it has written since, what it wrote
  last may be all that is unanswered, and the silence may be older: then a second look, LOOK_S later, has to agree.

TCP_USER_TIMEOUT would do for both, but Linux also ends by it what a living peer does not read (`tcp_probe_timer`,
`tcp_retransmit_timer`). Such a peer has closed its window. It is asked less and less often then, in the end every two
minutes, so the time since its last answer is no sign; how many times in a row it did not answer is.

Source: `struct tcp_info` in linux/tcp.h, as `tcp_get_info` in net/ipv4/tcp.c fills it in. The window is in it since
Linux 5.4; before that no peer is found to be gone. Left out: a peer whose window had been closed for long, where the
next probe is far off; and a peer that took back a window into which we had sent, because the kernel does not count what
it sends there again.
"""

import errno
import socket
import struct
from typing import Final

from tierlb.net.asked import tcp_info
from tierlb.net.wheel import NEVER

LOOK_S = 10.0
"""A connection that was quiet for so long is worth a look, because a peer that is silent for so long may be gone."""
ASK_EVERY_S = 2
ASK_TIMES: Final = 3
UNANSWERED: Final = 3
"""Attempts in a row. Each waits twice as long as the one before, so a long way or a lost packet is no reason."""
GONE: Final = 0.0
SILENT: Final = frozenset((errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH))
"""Errors of a connection whose peer does not answer, whether we or the kernel found out."""

_INFO: Final = struct.Struct("=2xBB20xI28xI84xI80xI")
_LAST_DATA: Final = struct.Struct("=44xI4xI")
"""Milliseconds since data was last sent and last received."""


def ask_when_quiet(sock: socket.socket) -> None:
    """Turn on keepalive, for a peer from which nothing comes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, round(LOOK_S))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ASK_EVERY_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, ASK_TIMES)


def is_here(host: str) -> bool:
    """Whether it is on loopback, or a unix socket: such a peer cannot vanish while this machine runs."""
    return host.startswith(("127.", "/")) or host == "::1"


def next_look_s(fd: int) -> float:
    """When to look again at a connection. GONE if its host is, as far as one look can tell where we have written within
    LOOK_S; NEVER if nothing is on its way, for then keepalive asks."""
    try:
        info = tcp_info(fd, _INFO.size)
    except OSError:  # a unix socket, whose other end cannot vanish while this machine runs
        return NEVER
    return judge(info)


def judge(info: bytes) -> float:
    """The same, of a `struct tcp_info`."""
    if len(info) < _INFO.size:
        return NEVER
    retransmits, probes, unacked, silent_ms, unsent, window = _INFO.unpack_from(info)
    if not unacked and not unsent:
        return NEVER
    left_s: float = LOOK_S - silent_ms / 1000
    if left_s > 0:
        return left_s
    unanswered = probes if not unacked else retransmits if window else 0
    return GONE if unanswered >= UNANSWERED else LOOK_S


def confirm(found_s: float, now: float, sent_at: float, doubted_at: float) -> tuple[float, float]:
    """What a look found (as `next_look_s` has it) where something may have been sent since the look before: when to
    look again, and since when every look has found the host gone.

    If something was sent within LOOK_S, at `sent_at`, that may be all that is unanswered. Then every look of the last
    LOOK_S has to agree. `doubted_at` is what the look before returned, NEVER for the first.
    """
    if found_s != GONE:
        return found_s, NEVER
    doubted_at = min(doubted_at, now)
    return max(GONE, min(sent_at, doubted_at) + LOOK_S - now), doubted_at


def has_answered(fd: int) -> bool:
    """Whether this side has sent since the other side sent last: of a connection on which one asks and the other
    answers, nothing is owed then. False where it is not known, over a unix socket."""
    try:
        sent_ms, received_ms = _LAST_DATA.unpack(tcp_info(fd, _LAST_DATA.size))
    except OSError:
        return False
    return bool(sent_ms <= received_ms)


def vanished() -> OSError:
    """The error of a connection whose other machine is gone."""
    return OSError(errno.ETIMEDOUT, "nothing is heard of the other end's host")
