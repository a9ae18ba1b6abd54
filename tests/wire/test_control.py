"""Both ends joined by a list: what one transmits the other receives."""

from collections import deque

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tierlb.model.address import Address
from tierlb.model.load import Echo, Guidance, NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.snapshot import Listener, Snapshot
from tierlb.model.topology import Kind
from tierlb.wire.allowance import MAX_UNITS, UNITS_PER_S, Allowance
from tierlb.wire.control import (
    CHILD_SILENT_S,
    MAX_UNANSWERED,
    ChildSession,
    Close,
    ParentSession,
    Transmit,
)
from tierlb.wire.frames import (
    MAX_CHILD_FRAME_BYTES,
    Ack,
    Configure,
    Hello,
    Leaving,
    ParentAddress,
    Refuse,
    Report,
    ReportTo,
    Watch,
    Welcome,
    encode_frame,
)

HELLO = Hello(1, "web-1", "web", "b00t", 42)
SNAPSHOT = Snapshot(3, "shop", "web", Kind.L7, (Listener(Address("127.0.0.1", 0)),), ())
ADDRESSES = (Address("127.0.0.1", 4000),)
LOAD = SubtreeLoad(capacity=100.0, in_flight=3)
ECHO = Echo(1, 2, 3)
ROW = NodeRow("web-1", "web", 0.0, NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5), LOAD, b"")
PARENTS = (ParentAddress("edge-1", "ws://127.0.0.1:7000"),)
NOW = 1000.0


def carry(effects, to, now=NOW):
    """What follows at the other end from the bytes in `effects`."""
    clock = (now,) if isinstance(to, ParentSession) else ()
    return [e for effect in effects if isinstance(effect, Transmit) for e in to.receive(effect.data, *clock)]


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
    assert parent.send(Configure(SNAPSHOT)) == []
    assert carry(parent.accept(), child) == [Welcome(0.5)]


def test_a_child_says_nothing_before_it_is_welcome(ends):
    _, child = ends
    assert child.send(Report(LOAD, ECHO)) == child.send(Leaving()) == child.send(Ack(1, ())) == []


def test_a_parent_says_nothing_before_it_accepted(ends):
    parent, child = ends
    carry(child.start(), parent)
    assert (
        parent.send(Guidance(0.5))
        == parent.send(Watch(1.0))
        == parent.send(ReportTo(()))
        == parent.send(Configure(SNAPSHOT))
        == []
    )


@pytest.mark.parametrize(
    ("say", "heard"),
    [
        (lambda child: child.send(Ack(3, ADDRESSES)), Ack(3, ADDRESSES)),
        (lambda child: child.send(Refuse(3, "port taken")), Refuse(3, "port taken")),
        (lambda child: child.send(Refuse(3, "")), Refuse(3, "no reason given")),
        (lambda child: child.send(Report(LOAD, ECHO, (ROW,))), Report(LOAD, ECHO, (ROW,))),
        (lambda child: child.send(Leaving()), Leaving()),
    ],
)
def test_what_a_child_says_reaches_its_parent(joined, say, heard):
    parent, child = joined
    assert carry(parent.send(Configure(SNAPSHOT)), child) == [Configure(SNAPSHOT)]
    assert carry(say(child), parent) == [heard]


@pytest.mark.parametrize(
    ("say", "heard"),
    [
        (lambda parent: parent.send(Guidance(0.5, True)), Guidance(0.5, True)),
        (lambda parent: parent.send(Watch(5.0, "n0nce")), Watch(5.0, "n0nce")),
        (lambda parent: parent.send(ReportTo(PARENTS)), ReportTo(PARENTS)),
    ],
)
def test_what_a_parent_says_reaches_its_child(joined, say, heard):
    parent, child = joined
    assert carry(say(parent), child) == [heard]


@pytest.mark.parametrize("intent", [Configure(SNAPSHOT), ReportTo(PARENTS)])
def test_only_the_controller_may_say_what_is_to_be_served_and_who_the_parents_are(intent):
    child = ChildSession(HELLO, to_controller=False)
    child.receive(encode_frame(Welcome(1)))
    (close,) = child.receive(encode_frame(intent))
    assert "not expected here" in close.reason


def test_rows_that_do_not_fit_into_a_frame_stay_away(joined):
    parent, child = joined
    rows = tuple(attrs.evolve(ROW, node=f"web-{n}", latency=bytes(4000)) for n in range(400))
    (report,) = carry(child.send(Report(LOAD, ECHO, rows)), parent)
    assert report.rows == rows[:200]


def test_a_frame_that_is_too_long_for_a_child_is_not_even_parsed(joined):
    (close,) = joined[0].receive(b"\x90" + bytes(MAX_CHILD_FRAME_BYTES), NOW)
    assert "bytes, more than" in close.reason


def frames_until_closed(parent, data, now, step_s):
    for count in range(1, 10_000):
        if any(isinstance(effect, Close) for effect in parent.receive(data, now)):
            return count
        now += step_s
    return None


@pytest.mark.parametrize(
    ("per_s", "closed"), [(4, False), (20, False), (0.99 * UNITS_PER_S, False), (2 * UNITS_PER_S, True), (1e6, True)]
)
def test_a_child_that_floods_is_closed_and_a_quick_one_is_not(joined, per_s, closed):
    count = frames_until_closed(joined[0], encode_frame(Report(LOAD, ECHO)), NOW, 1 / per_s)
    assert (count is not None) is closed
    assert count is None or count >= MAX_UNITS * 0.9


def test_long_frames_count_for_more(joined):
    rows = tuple(attrs.evolve(ROW, node=f"web-{n}", latency=bytes(4000)) for n in range(200))
    data = encode_frame(Report(LOAD, ECHO, rows))
    assert frames_until_closed(joined[0], data, NOW, 0) < MAX_UNITS / 10


def test_the_flood_is_named(joined):
    parent, _ = joined
    closes = [e for _ in range(1000) for e in parent.receive(encode_frame(Leaving()), NOW) if isinstance(e, Close)]
    assert [close.reason for close in closes] == ["more than 100 frames (of 64 KiB) per second"]


def test_an_allowance_never_grows_above_its_size():
    allowance = Allowance()
    assert allowance.take(1, 0.0)
    assert allowance.take(MAX_UNITS, 1e9)
    assert not allowance.take(1, 1e9)


def test_a_silent_child_is_closed_after_half_a_minute(joined):
    parent, child = joined
    carry(child.send(Report(LOAD, ECHO)), parent, NOW)
    assert parent.tick(NOW + CHILD_SILENT_S - 0.1) == []
    assert parent.tick(NOW + CHILD_SILENT_S) == [Close("silent for 30 s")]
    assert parent.tick(NOW + CHILD_SILENT_S + 1) == []


def test_silence_counts_from_the_first_tick_where_nothing_was_ever_said():
    parent = ParentSession(0.25)
    assert parent.tick(NOW) == []
    assert parent.tick(NOW + CHILD_SILENT_S) == [Close("silent for 30 s")]


def test_snapshots_are_answered_in_order(joined):
    parent, child = joined
    later = attrs.evolve(SNAPSHOT, revision=4)
    carry([*parent.send(Configure(SNAPSHOT)), *parent.send(Configure(later))], child)
    assert carry(child.send(Ack(4, ADDRESSES)), parent) == [Close("snapshot 4 is not the one to be answered")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode_frame(HELLO), "hello frame is not for a parent"),
        (encode_frame(Welcome(1)), "welcome frame is not for a parent"),
        (encode_frame(Guidance(1)), "guidance frame is not for a parent"),
        (encode_frame(Watch(1)), "watch frame is not for a parent"),
        (encode_frame(ReportTo(())), "reportto frame is not for a parent"),
        (encode_frame(Ack(9, ADDRESSES)), "snapshot 9"),
        (encode_frame(Ack(3, ())), "0 addresses for 1 listeners"),
        (b"\x00", "array"),
    ],
)
def test_a_child_that_breaks_the_protocol_is_closed_with_the_reason(joined, data, reason):
    parent, _ = joined
    parent.send(Configure(SNAPSHOT))
    (close,) = parent.receive(data, NOW)
    assert isinstance(close, Close)
    assert reason in close.reason
    assert parent.receive(encode_frame(Report(LOAD)), NOW) == []
    assert parent.send(Configure(SNAPSHOT)) == []


@pytest.mark.parametrize(
    ("first", "reason"),
    [(Report(LOAD), "must be hello"), (attrs.evolve(HELLO, version=2), "install the same version")],
)
def test_the_first_frame_must_be_a_hello_of_this_version(ends, first, reason):
    parent, _ = ends
    (close,) = parent.receive(encode_frame(first), NOW)
    assert reason in close.reason


def test_a_child_that_never_answers_is_closed(joined):
    parent, _ = joined
    sent = [parent.send(Configure(attrs.evolve(SNAPSHOT, revision=n))) for n in range(1, MAX_UNANSWERED + 2)]
    assert all(isinstance(effects[0], Transmit) for effects in sent[:-1])
    assert sent[-1] == [Close(f"{MAX_UNANSWERED} snapshots without an answer")]


@pytest.mark.parametrize("frame", [Configure(SNAPSHOT), Guidance(1), Watch(1), Ack(1, ()), HELLO])
def test_a_parent_that_breaks_the_protocol_is_closed(ends, frame):
    _, child = ends
    (close,) = child.receive(encode_frame(frame))
    assert "not expected here" in close.reason
    assert child.receive(encode_frame(Welcome(1))) == []


def test_a_second_welcome_is_a_protocol_error(joined):
    _, child = joined
    assert child.receive(encode_frame(Welcome(1))) == [Close("a welcome frame is not expected here")]


def test_a_frame_before_the_welcome_is_a_protocol_error(ends):
    parent, child = ends
    carry(child.start(), parent)
    assert parent.receive(encode_frame(Report(LOAD)), NOW) == [Close("a frame before the welcome")]


class Conversation(RuleBasedStateMachine):
    """Two honest ends and a wire that keeps the order and delays as it likes: neither ever closes, nothing is lost."""

    def __init__(self):
        super().__init__()
        self.now = NOW
        self.parent, self.child = ParentSession(0.25), ChildSession(HELLO)
        self.up, self.down = deque(self.child.start()), deque()
        self.said_up, self.said_down = [], []
        self.heard_up, self.heard_down = [], []
        self.revision = 0
        self.to_answer = deque()

    def say_up(self, effects, frame):
        self.up += effects
        self.said_up += [frame] if effects else []

    def say_down(self, effects, frame):
        self.down += effects
        self.said_down += [frame] if effects else []

    @precondition(lambda self: self.up)
    @rule()
    def carry_up(self):
        for effect in self.parent.receive(self.up.popleft().data, self.now):
            assert not isinstance(effect, Close), effect
            if isinstance(effect, Hello):
                self.say_down(self.parent.accept(), Welcome(0.25))
            else:
                self.heard_up.append(effect)

    @precondition(lambda self: self.down)
    @rule()
    def carry_down(self):
        for effect in self.child.receive(self.down.popleft().data):
            assert not isinstance(effect, Close), effect
            self.heard_down.append(effect)
            if isinstance(effect, Configure):
                self.to_answer.append(effect.snapshot)

    @rule(seconds=st.floats(0.05, 5))
    def time_passes(self, seconds):
        self.now += seconds
        if self.parent.received_s is not None and self.now - self.parent.received_s < CHILD_SILENT_S:
            assert self.parent.tick(self.now) == []

    @rule(in_flight=st.integers(0, 10))
    def report(self, in_flight):
        self.now += 0.05
        load = attrs.evolve(LOAD, in_flight=in_flight)
        self.say_up(self.child.send(Report(load, ECHO)), Report(load, ECHO))

    @rule()
    def drain(self):
        self.now += 0.05
        self.say_up(self.child.send(Leaving()), Leaving())

    def unanswered(self):
        sent, answers = sum(type(frame) is Configure for frame in self.said_down), (Ack, Refuse)
        return sent - sum(isinstance(frame, answers) for frame in self.heard_up)

    @precondition(lambda self: self.unanswered() < MAX_UNANSWERED)
    @rule()
    def configure(self):
        self.revision += 1
        snapshot = attrs.evolve(SNAPSHOT, revision=self.revision)
        self.say_down(self.parent.send(Configure(snapshot)), Configure(snapshot))

    @precondition(lambda self: self.to_answer)
    @rule(good=st.booleans())
    def answer(self, good):
        revision = self.to_answer.popleft().revision
        if good:
            self.say_up(self.child.send(Ack(revision, ADDRESSES)), Ack(revision, ADDRESSES))
        else:
            self.say_up(self.child.send(Refuse(revision, "no")), Refuse(revision, "no"))

    @rule(target_share=st.floats(0, 1))
    def guide(self, target_share):
        self.say_down(self.parent.send(Guidance(target_share)), Guidance(target_share))

    @rule()
    def watch_and_place(self):
        self.say_down(self.parent.send(Watch(5.0)), Watch(5.0))
        self.say_down(self.parent.send(ReportTo(PARENTS)), ReportTo(PARENTS))

    @invariant()
    def what_is_heard_was_said_and_in_that_order(self):
        assert self.heard_up == self.said_up[: len(self.heard_up)]
        assert self.heard_down == self.said_down[: len(self.heard_down)]

    @invariant()
    def nothing_is_lost(self):
        up = len(self.heard_up) + len(self.up) - (0 if self.parent.hello else 1)
        assert up == len(self.said_up)
        assert len(self.heard_down) + len(self.down) == len(self.said_down)


TestConversation = Conversation.TestCase
