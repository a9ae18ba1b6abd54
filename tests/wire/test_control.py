"""Both ends joined by a list: what one transmits the other receives."""

import attrs
import pytest

from tierlb.model.address import Address
from tierlb.model.load import NodeLoad
from tierlb.model.snapshot import Listener, Snapshot
from tierlb.model.topology import Kind
from tierlb.wire.control import MAX_UNANSWERED, ChildSession, Close, ParentSession, Transmit
from tierlb.wire.frames import Ack, Configure, Drain, Hello, Refuse, Report, Welcome, encode

HELLO = Hello(1, "web-1", "web", "b00t", 42)
SNAPSHOT = Snapshot(3, "shop", "web", Kind.L7, (Listener(Address("127.0.0.1", 0)),), ())
ADDRESSES = (Address("127.0.0.1", 4000),)
LOAD = NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5)


def carry(effects, to):
    """What follows at the other end from the bytes in `effects`."""
    return [e for effect in effects if isinstance(effect, Transmit) for e in to.receive(effect.data)]


@pytest.fixture
def ends():
    return ParentSession(0.5), ChildSession(HELLO)


@pytest.fixture
def joined(ends):
    parent, child = ends
    carry(child.start(), parent)
    carry(parent.accept(), child)
    return ends


def test_hello_is_answered_with_welcome_once_accepted(ends):
    parent, child = ends
    assert carry(child.start(), parent) == [HELLO]
    assert parent.configure(SNAPSHOT) == []
    assert carry(parent.accept(), child) == [Welcome(0.5)]


def test_a_child_says_nothing_before_it_is_welcome(ends):
    _, child = ends
    assert child.report(LOAD) == child.drain() == child.ack(1, ()) == []


@pytest.mark.parametrize(
    ("say", "heard"),
    [
        (lambda child: child.ack(3, ADDRESSES), Ack(3, ADDRESSES)),
        (lambda child: child.refuse(3, "port taken"), Refuse(3, "port taken")),
        (lambda child: child.refuse(3, ""), Refuse(3, "no reason given")),
        (lambda child: child.report(LOAD), Report(LOAD)),
        (lambda child: child.drain(), Drain()),
    ],
)
def test_what_a_child_says_reaches_its_parent(joined, say, heard):
    parent, child = joined
    assert carry(parent.configure(SNAPSHOT), child) == [Configure(SNAPSHOT)]
    assert carry(say(child), parent) == [heard]


def test_snapshots_are_answered_in_order(joined):
    parent, child = joined
    later = attrs.evolve(SNAPSHOT, revision=4)
    carry([*parent.configure(SNAPSHOT), *parent.configure(later)], child)
    assert carry(child.ack(4, ADDRESSES), parent) == [Close("revision 4 is not the one to be answered")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(HELLO), "hello frame is not for a parent"),
        (encode(Welcome(1)), "welcome frame is not for a parent"),
        (encode(Ack(9, ADDRESSES)), "revision 9"),
        (encode(Ack(3, ())), "0 addresses for 1 listeners"),
        (b"\x00", "array"),
    ],
)
def test_a_child_that_breaks_the_protocol_is_closed_with_the_reason(joined, data, reason):
    parent, _ = joined
    parent.configure(SNAPSHOT)
    (close,) = parent.receive(data)
    assert isinstance(close, Close)
    assert reason in close.reason
    assert parent.receive(encode(Report(LOAD))) == []
    assert parent.configure(SNAPSHOT) == []


@pytest.mark.parametrize(
    ("first", "reason"),
    [(Report(LOAD), "must be hello"), (attrs.evolve(HELLO, version=2), "install the same version")],
)
def test_the_first_frame_must_be_a_hello_of_this_version(ends, first, reason):
    parent, _ = ends
    (close,) = parent.receive(encode(first))
    assert reason in close.reason


def test_a_child_that_never_answers_is_closed(joined):
    parent, _ = joined
    sent = [parent.configure(attrs.evolve(SNAPSHOT, revision=n)) for n in range(1, MAX_UNANSWERED + 2)]
    assert all(isinstance(effects[0], Transmit) for effects in sent[:-1])
    assert sent[-1] == [Close(f"{MAX_UNANSWERED} snapshots without an answer")]


@pytest.mark.parametrize("frame", [Configure(SNAPSHOT), Ack(1, ()), HELLO])
def test_a_parent_that_breaks_the_protocol_is_closed(ends, frame):
    _, child = ends
    (close,) = child.receive(encode(frame))
    assert "not expected here" in close.reason
    assert child.receive(encode(Welcome(1))) == []


def test_a_second_welcome_is_a_protocol_error(joined):
    _, child = joined
    assert child.receive(encode(Welcome(1))) == [Close("a welcome frame is not expected here")]
