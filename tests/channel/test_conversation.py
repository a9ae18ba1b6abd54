"""A child's conversation over a channel that is a list of messages."""

import random

import attrs
import pytest
import trio

from tierlb.channel import conversation as conversation_module
from tierlb.channel.conversation import Conversation
from tierlb.channel.report_schedule import ReportSchedule
from tierlb.channel.watching import WatchRelay
from tierlb.model.load import Guidance
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Kind
from tierlb.net.websocket import Disconnected
from tierlb.wire.control import ChildSession
from tierlb.wire.frames import Ack, Configure, Hello, Watch, Welcome, decode_frame, encode_frame

HELLO = Hello(1, "web-1", "web", "one", 7)
SNAPSHOT = Snapshot(3, "shop", "web", Kind.L7, (), ())


@attrs.define
class ScriptedChannel:
    """The parent sends these frames and is gone after them; what the child sends is kept."""

    script: list
    sent: list = attrs.field(factory=list)
    reason: str = ""
    stuck: bool = False
    last_s: float = 1.0

    async def send(self, data):
        if self.stuck:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self.sent.append(decode_frame(data))

    async def receive(self):
        await trio.lowlevel.checkpoint()
        if not self.script:
            await trio.sleep(self.last_s)
            raise Disconnected("gone")
        return encode_frame(self.script.pop(0))

    async def close(self, reason):
        await trio.lowlevel.checkpoint()
        self.reason = reason


@pytest.fixture
def converse(plane, nursery):
    followed = []
    reports = ReportSchedule(plane, random.Random(1), WatchRelay())

    async def converse(*script, follow=None, to_controller=False, **more):
        channel = ScriptedChannel(list(script), **more)
        session = ChildSession(HELLO, to_controller)

        def note(parent, frame):
            followed.append((parent, frame))
            return session.send(Ack(3, ())) if isinstance(frame, Configure) else ()

        nursery.start_soon(reports.run)
        conversation = Conversation(channel, session, "edge", reports, follow or note)
        return channel, followed, await conversation.run()

    return converse


async def test_hello_comes_first_and_reports_after_the_welcome(converse, plane, autojump_clock):
    channel, followed, reason = await converse(Welcome(0.25))
    hello, report, *_ = channel.sent
    assert hello == HELLO
    assert (report.subtree, report.echo) == (plane.subtree_load, plane.echo("edge"))
    assert (followed, reason) == ([("edge", Welcome(0.25))], "gone")


async def test_without_a_welcome_there_is_only_the_hello(converse, autojump_clock):
    channel, followed, _ = await converse(last_s=60.0)
    assert (channel.sent, followed) == ([HELLO], [])


async def test_a_parent_that_names_itself_in_the_welcome_is_called_so(converse, plane, autojump_clock):
    channel, followed, _ = await converse(Welcome(0.25, "edge-22"), Guidance(0.5), Watch(5.0))
    assert followed == [("edge-22", Welcome(0.25, "edge-22")), ("edge-22", Guidance(0.5)), ("edge-22", Watch(5.0))]
    assert channel.sent[1].echo == plane.echo("edge-22")


async def test_what_follows_from_a_frame_is_sent(converse, autojump_clock):
    channel, _, _ = await converse(Welcome(0.25), Configure(SNAPSHOT), to_controller=True)
    assert Ack(3, ()) in channel.sent


async def test_a_parent_that_breaks_the_protocol_is_closed_with_the_reason(converse, autojump_clock):
    channel, followed, reason = await converse(Welcome(0.25), Configure(SNAPSHOT))
    assert channel.reason == reason == "a configure frame is not expected here"
    assert followed == [("edge", Welcome(0.25))]


async def test_a_parent_that_does_not_read_is_given_up(converse, autojump_clock):
    began_s = trio.current_time()
    _, _, reason = await converse(last_s=60.0, stuck=True)
    assert reason == "the parent does not read"
    assert trio.current_time() - began_s == conversation_module.REPORT_SEND_TIMEOUT_S


async def test_what_runs_beside_it_ends_with_it(plane, autojump_clock):
    reports = ReportSchedule(plane, random.Random(1), WatchRelay())
    conversation = Conversation(ScriptedChannel([]), ChildSession(HELLO), "", reports, lambda parent, frame: ())
    with trio.fail_after(5):
        assert await conversation.run(trio.sleep_forever) == "gone"
