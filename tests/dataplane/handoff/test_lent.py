"""Sockets of another network: they end with the parent, those that are over or gone before are left alone."""

import socket

from tierlb.dataplane.handoff.lent import Lent


def test_what_is_not_over_ends_with_the_parent() -> None:
    lent, pairs = Lent(), [socket.socketpair() for _ in range(5)]
    for number, (ours, _) in enumerate(pairs[:4]):
        lent.begin(number, ours.fileno())
    lent.over(0)
    lent.over(17)
    pairs[1][0].close()
    reused = pairs[2][0].fileno()
    pairs[2][0].close()
    other, its_end = socket.socketpair()
    assert reused in (other.fileno(), its_end.fileno()), "the number is another socket's now"
    assert len(lent) == 3
    lent.end()
    lent.begin(4, pairs[4][0].fileno())
    assert len(lent) == 0
    for sock in (other, its_end, *(theirs for _, theirs in pairs)):
        sock.setblocking(False)
    assert [theirs.recv(1) for _, theirs in pairs[1:]] == [b""] * 4
    for one, another in (pairs[0], (other, its_end)):
        one.send(b"x")
        assert another.recv(1) == b"x"
    for sock in (other, its_end, *(each for pair in pairs for each in pair)):
        sock.close()
