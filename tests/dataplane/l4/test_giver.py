"""The parent's end of a handoff: what a child does not read comes back, and goes to another host exactly once."""

import errno
import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.dataplane.conftest import DATA_KEY, Lab, l4
from tests.dataplane.handing import (
    GIVES_UP,
    HOLDS_OUT,
    FakeChild,
    child_of,
    edge,
    given_back,
    giver_to,
    host_load,
    met,
    no_packet_from,
    packet_from,
)
from tierlb.dataplane.l4 import giver as giver_module
from tierlb.dataplane.l4 import handoff
from tierlb.dataplane.l4.giver import GONE, OPEN
from tierlb.model.snapshot import Destination, Rule, Send
from tierlb.model.topology import Forwarding, Match, Policy, Timeouts
from tierlb.net.meeting_place import MeetingPlace
from tierlb.wire.handoff import (
    DRAINS,
    MAX_ENTRIES,
    SHORTAGE,
    UNWELCOME,
    WELCOME,
    WELCOME_APART,
    back_message,
    encode_entry,
)
from tierlb.wire.proxy_protocol import DATA_KEY_TLV, NETWORK, PARENT, PROCESS


@pytest.fixture
def lab(lab: Lab, tmp_path: Path) -> Lab:
    """Whose nodes meet in a directory."""
    tmp_path.chmod(0o700)
    lab.meets_in = tmp_path
    return lab


async def test_a_child_learns_who_hands_over_and_who_the_client_is(lab: Lab) -> None:
    child = child_of(lab)
    await edge(lab, child)
    header = await child.meets()
    assert header.source is None
    network = child.place.network
    assert header.tlvs == {PARENT: b"node-1", DATA_KEY_TLV: DATA_KEY, PROCESS: b"boot-1", NETWORK: network}
    client = await lab.connects()
    entry, voice = await child.takes()
    assert (entry.source, dict(entry.tlvs), entry.is_last) == (client.name, {}, False)
    assert 0 <= lab.plane.reactor.look() - entry.arrived < 60
    await client.says(b"hello")
    await voice.hears(b"hello")
    await voice.says(b"welcome")
    await client.hears(b"welcome")


async def test_connections_count_until_the_child_says_that_they_are_over(lab: Lab) -> None:
    child = await met(lab)
    clients = [await lab.connects() for _ in range(3)]
    await lab.until(lambda: lab.front.counters.handed == 3)
    load = lab.plane.load()
    assert (load.connections, load.in_flight, load.items, host_load(lab)) == (3, 3, 3, (3, 0, 0))
    assert len(lab.front.connections) == 0
    taken = []
    while len(taken) < 3:
        taken += await child.reads()
    child.ends(taken[1][0].number)
    await lab.until(lambda: lab.front.counters.handed == 2)
    load = lab.plane.load()
    assert (load.connections, load.in_flight, load.items, host_load(lab)) == (2, 2, 3, (2, 1, 0))
    child.ends(taken[0][0].number, taken[1][0].number, taken[2][0].number, 4711)
    await lab.until(lambda: lab.front.counters.handed == 0)
    assert (lab.plane.load().in_flight, host_load(lab)) == (0, (0, 3, 0))
    assert lab.front.counters.ended == lab.front.counters.timed == 3
    assert len(clients) == 3


@pytest.mark.parametrize("apart", [False, True])
async def test_a_drain_waits_for_what_a_child_in_another_network_has(lab: Lab, apart: bool) -> None:
    """Its sockets belong to the network of this node, which ends with the container."""
    child = await met(lab, answer=WELCOME_APART if apart else WELCOME)
    client = await lab.connects()
    await lab.until(lambda: lab.front.counters.handed == 1)
    giver = giver_to(lab, child)
    assert (lab.front.drained, lab.front.remainder().connections) == ((False, 1) if apart else (True, 0))
    lab.front.cut()
    assert lab.front.drained
    await child.takes()
    assert (giver.state is GONE) is apart
    assert client.name


async def test_what_a_child_in_another_network_has_is_over_at_the_deadline_of_a_node_that_stays(lab: Lab) -> None:
    """The child ends it, as it parts with the node, and can be met anew."""
    child = await met(lab, answer=WELCOME_APART)
    await lab.connects()
    await child.takes()
    await lab.connects()
    await lab.until(lambda: lab.front.counters.handed == 2)
    lab.front.cut()
    await lab.until(lambda: lab.front.counters.handed == 0)
    assert (lab.plane.load().connections, lab.plane.load().in_flight, host_load(lab)) == (0, 0, (0, 2, 0))
    lab.plane.apply(l4(child, forward=Forwarding.HANDOFF, revision=2))
    await child.meets()
    client = await lab.connects()
    await client.says(b"x")
    await (await child.takes())[1].hears(b"x")


async def test_what_waits_until_the_child_answers_is_handed_over_then(lab: Lab) -> None:
    child = child_of(lab)
    await edge(lab, child)
    await child.meets(b"")
    client = await lab.connects()
    await no_packet_from(child.queue)
    assert lab.front.remainder().connections == 1
    assert not lab.front.drained
    child.says(b"W")
    await client.says(b"x")
    await (await child.takes())[1].hears(b"x")
    assert lab.front.drained


@pytest.mark.parametrize("how", ["refuses", "hangs up", "says nothing", "says nonsense"])
async def test_a_child_that_does_not_take_connections_is_reached_in_another_way(lab: Lab, how: str) -> None:
    """The same host gets them, and is not to blame."""
    assert lab.meets_in is not None
    relayed = await lab.endpoint(name="web-1", child=True, target="below")
    child = FakeChild(MeetingPlace(lab.meets_in), "web-1", relayed.address.port)
    lab.others.append(child)
    child.spec = relayed.spec
    await edge(lab, child, forward=Forwarding.AUTO, timeouts=GIVES_UP if how == "says nothing" else HOLDS_OUT)
    await child.meets(b"")
    client = await lab.connects()
    await lab.until(lambda: giver_to(lab, child).waiting)
    if how == "refuses":
        child.says(UNWELCOME + b"not today")
    elif how == "hangs up":
        child.dies()
    elif how == "says nonsense":
        child.says(b"?")
    voice = await relayed.accepts()
    await voice.hears_proxy_header()
    await client.says(b"hello")
    await voice.hears(b"hello")
    assert host_load(lab)[2] == 0
    told = {"refuses": "not today", "says nonsense": "it is of an unknown kind"}.get(how)
    failed = [fields["reason"] for event, fields in lab.log.events if event == "handoff_failed"]
    assert failed == ([told] if told else [])


async def test_what_a_dead_child_did_not_read_goes_to_another(lab: Lab) -> None:
    other = await lab.endpoint()
    child = await met(lab, other, balance=Policy.ROUND_ROBIN)
    clients = [await lab.connects() for _ in range(4)]
    await lab.until(lambda: lab.front.counters.handed == 2)
    read = await child.takes()
    child.dies()
    for _ in range(3):
        await lab.accepts(other)
    assert len(other.voices) == 3
    for client in clients:
        if client.name != read[0].source:
            await client.says(b"x")
    for voice in other.voices:
        await voice.hears(b"x")
    await lab.until(lambda: lab.front.counters.handed == 0)
    load = lab.plane.load()
    assert (load.connections, load.in_flight, load.items, load.errors) == (3, 3, 4, 0)
    assert host_load(lab) == (0, 1, 1)


async def test_a_stalled_child_loses_what_it_did_not_read_and_cannot_serve_it_any_more(lab: Lab) -> None:
    other = await lab.endpoint()
    child = await met(lab, other, timeouts=GIVES_UP, balance=Policy.ROUND_ROBIN)
    clients = [await lab.connects() for _ in range(2)]
    for _ in clients:
        await lab.accepts(other)
    await no_packet_from(child.queue)
    for client in clients:
        await client.says(b"x")
    for voice in other.voices:
        await voice.hears(b"x")
    assert host_load(lab) == (0, 0, 1)
    assert ("handoff_stalled", {"host": "web-1", "connections": 1, "after_s": 1.0}) in lab.log.events
    assert giver_to(lab, child).state is OPEN


async def test_a_child_that_reads_in_time_keeps_what_it_read(lab: Lab) -> None:
    other = await lab.endpoint()
    child = await met(lab, other, timeouts=GIVES_UP, balance=Policy.ROUND_ROBIN)
    client = await lab.connects()
    _, voice = await child.takes()
    await lab.until(lambda: not giver_to(lab, child).queue.may_hold_unread)
    await client.says(b"x")
    await voice.hears(b"x")
    assert (host_load(lab), lab.log.count("handoff_stalled")) == ((1, 0, 0), 0)


async def test_a_child_that_drains_gets_nothing_more_and_keeps_what_it_has(lab: Lab) -> None:
    other = await lab.endpoint()
    child = await met(lab, other, balance=Policy.ROUND_ROBIN)
    await lab.connects()
    entry, _ = await child.takes()
    await lab.connects()
    await lab.accepts(other)
    await lab.connects()
    await lab.until(lambda: lab.front.counters.handed == 2)
    child.says(DRAINS)
    await lab.accepts(other)
    assert host_load(lab) == (1, 0, 0)
    for _ in range(3):
        await lab.connects()
        await lab.accepts(other)
    await no_packet_from(child.queue)
    child.ends(entry.number)
    await lab.until(lambda: giver_to(lab, child).state is GONE)
    assert host_load(lab)[:2] == (0, 1)


async def test_a_child_without_descriptors_gets_nothing_for_a_while(lab: Lab) -> None:
    other = await lab.endpoint()
    child = await met(lab, other, balance=Policy.ROUND_ROBIN)
    client = await lab.connects()
    await lab.until(lambda: lab.front.counters.handed == 1)
    child.says(SHORTAGE)
    _, voice = await lab.accepts(other)
    await client.says(b"x")
    await voice.hears(b"x")
    assert not giver_to(lab, child).takes
    assert host_load(lab) == (0, 0, 0)
    await lab.until(lambda: giver_to(lab, child).takes)


async def test_what_a_full_child_gives_back_goes_to_another(lab: Lab) -> None:
    other = await lab.endpoint()
    child = await met(lab, other, balance=Policy.ROUND_ROBIN)
    client = await lab.connects()
    await given_back(child)
    _, voice = await lab.accepts(other)
    await client.says(b"x")
    await voice.hears(b"x")
    assert (host_load(lab), lab.front.counters.handed, lab.plane.load().items) == ((0, 0, 0), 0, 1)


async def test_the_last_full_child_is_to_answer_the_client(lab: Lab) -> None:
    child = await met(lab)
    client = await lab.connects()
    await given_back(child)
    entry, voice = await child.takes()
    assert entry.is_last
    await voice.says(b"503")
    await client.hears(b"503")
    child.ends(entry.number)
    await lab.until(lambda: lab.front.counters.connections == 0)
    assert (lab.plane.load().in_flight, lab.plane.load().errors) == (0, 0)


async def test_nothing_that_was_never_given_comes_back(lab: Lab) -> None:
    child = await met(lab)
    client = await lab.connects()
    _, voice = await child.takes()
    child.says(back_message([encode_entry(99, ("192.0.2.1", 1), 0.0, b"")]), voice.stream.socket.fileno())
    await client.says(b"x")
    await voice.hears(b"x")
    assert host_load(lab) == (1, 0, 0)


async def test_more_than_the_queue_holds_waits_and_arrives_in_order(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    child = await met(lab)
    giver_to(lab, child).queue.out.setsockopt(1, 7, 1)  # SO_SNDBUF: as small as it gets
    clients = [await lab.connects() for _ in range(60)]
    await lab.until(lambda: lab.front.counters.connections == 60)
    assert giver_to(lab, child).waiting
    taken: list[int] = []
    while len(taken) < 60:
        taken += [entry.number for entry, _ in await child.reads()]
    assert taken == list(range(60))
    assert len(clients) == 60


async def test_when_too_many_wait_others_get_connections(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giver_module, "MOST_UNSENT", 2)
    other, child = await lab.endpoint(), child_of(lab)
    first = (Destination(1e6, ("below",), (child.spec,)), Destination(1, ("app",), (other.spec,)))
    await lab.serves(l4(rules=(Rule(Match(), Send(first)),), timeouts=HOLDS_OUT))
    await child.meets(b"")
    for _ in range(5):
        await lab.connects()
    for _ in range(3):
        await lab.accepts(other)
    assert (len(giver_to(lab, child).waiting), host_load(lab)) == (2, (2, 0, 0))


async def test_what_this_node_lacks_is_not_the_childs_fault(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    other = await lab.endpoint()
    child = await met(lab, other, balance=Policy.ROUND_ROBIN)

    def fails(*what: Any) -> None:
        raise OSError(errno.ETOOMANYREFS, "too many")

    queue = giver_to(lab, child).queue
    monkeypatch.setattr(type(queue), "send", fails)
    client = await lab.connects()
    _, voice = await lab.accepts(other)
    await client.says(b"x")
    await voice.hears(b"x")
    assert host_load(lab) == (0, 0, 0)
    assert lab.plane.load().short_connects == 1


async def test_connections_of_one_turn_travel_together(lab: Lab) -> None:
    child = await met(lab)
    clients = [socket.socket() for _ in range(MAX_ENTRIES + 3)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(lab.at.sockaddr)
    assert [len(await child.reads()), len(await child.reads())] == [MAX_ENTRIES, 3]
    for client in clients:
        client.close()


async def test_at_the_deadline_what_is_still_here_is_dropped(lab: Lab) -> None:
    child = child_of(lab)
    await edge(lab, child)
    await child.meets(b"")
    client = await lab.connects()
    await lab.until(lambda: giver_to(lab, child).waiting)
    lab.front.cut()
    await client.hears_end()
    assert (lab.plane.load().connections, host_load(lab)) == (0, (0, 0, 0))


async def test_a_node_that_ends_leaves_to_the_child_what_is_in_the_queue(lab: Lab) -> None:
    child = await met(lab)
    client = await lab.connects()
    await lab.until(lambda: lab.front.counters.handed == 1)
    lab.plane.drain()
    await lab.until(lambda: lab.front.drained)
    lab.front.close()
    _, voice = await child.takes()
    await client.says(b"x")
    await voice.hears(b"x")


async def test_a_host_that_is_sent_nothing_any_more_keeps_what_it_has(lab: Lab) -> None:
    other = await lab.endpoint()
    child = await met(lab)
    client = await lab.connects()
    entry, voice = await child.takes()
    lab.plane.apply(l4(other, revision=2))
    await client.says(b"x")
    await voice.hears(b"x")
    assert lab.plane.load().connections == 1
    child.ends(entry.number)
    await lab.until(lambda: lab.plane.load().connections == 0)
    assert (await packet_from(child.control)).data == b""


async def test_a_child_that_was_given_nothing_for_a_while_is_given_to_again_as_soon_as_it_is_wanted(lab: Lab) -> None:
    """Though connections that it was handed before are open still."""
    child = await met(lab)
    old = await lab.connects()
    entry, voice = await child.takes()
    for revision, forward in enumerate((Forwarding.RELAY, Forwarding.HANDOFF), start=2):
        lab.plane.apply(l4(child, forward=forward, revision=revision))
    new = await lab.connects()
    await new.says(b"new")
    await (await child.takes())[1].hears(b"new")
    await old.says(b"old")
    await voice.hears(b"old")
    child.ends(entry.number)
    await lab.until(lambda: lab.front.counters.handed == 1)
    assert giver_to(lab, child).state is OPEN


async def test_a_child_that_welcomes_after_it_has_said_that_it_drains_gets_nothing(lab: Lab) -> None:
    other = await lab.endpoint()
    child = await met(lab, other, balance=Policy.ROUND_ROBIN)
    await lab.connects()
    await child.takes()
    child.says(DRAINS)
    child.says(WELCOME)
    for _ in range(3):
        await lab.connects()
        await lab.accepts(other)
    await no_packet_from(child.queue)
    assert lab.front.counters.handed == 1


async def test_another_process_of_a_child_is_met_while_one_drains(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "LOOK_AGAIN_S", 0.0)
    child = await met(lab)
    await lab.connects()
    entry, _ = await child.takes()
    child.listening.close()
    child.says(DRAINS)
    await lab.until(lambda: not giver_to(lab, child).takes)
    successor = child_of(lab)
    client = await lab.connects()
    await successor.meets()
    await client.says(b"x")
    await (await successor.takes())[1].hears(b"x")
    assert host_load(lab) == (2, 0, 0)
    child.ends(entry.number)
    await lab.until(lambda: host_load(lab) == (1, 1, 0))
    assert (await packet_from(child.control)).data == b""


async def test_a_child_that_never_answers_is_not_asked_again_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it has been longer than LOOK_AGAIN_S since it was asked: its connections would go round for ever."""
    assert lab.meets_in is not None
    relayed = await lab.endpoint(name="web-1", child=True, target="below")
    child = FakeChild(MeetingPlace(lab.meets_in), "web-1", relayed.address.port)
    lab.others.append(child)
    child.spec = relayed.spec
    monkeypatch.setattr(handoff, "LOOK_AGAIN_S", 0.3)
    await edge(lab, child, forward=Forwarding.AUTO, timeouts=Timeouts(connect=0.4))
    await child.meets(b"")
    client = await lab.connects()
    voice = await relayed.accepts()
    await voice.hears_proxy_header()
    await client.says(b"x")
    await voice.hears(b"x")


@pytest.mark.parametrize("how", ["gives it back", "does not read it"])
async def test_the_last_try_is_made_once(lab: Lab, how: str) -> None:
    """Else a connection would go round between hosts that are full, and that do not read."""
    child = await met(lab)
    client = await lab.connects()
    await given_back(child)
    if how == "gives it back":
        assert (await given_back(child))[0].is_last
    else:
        await trio.lowlevel.wait_readable(child.queue)
        child.says(SHORTAGE)
    await client.hears_end()
    await no_packet_from(child.queue)
    assert (lab.front.counters.connections, lab.front.counters.errors, host_load(lab)) == (0, 1, (0, 0, 0))


async def test_hosts_that_were_tried_before_the_last_try_are_not_tried_after_it(lab: Lab) -> None:
    other = child_of(lab, "web-2", 2)
    child = child_of(lab)
    await edge(lab, child, other, balance=Policy.ROUND_ROBIN)
    for each in (child, other):
        await each.meets()
    await lab.until(lambda: lab.log.count("handoff_began") == 2)
    client = await lab.connects()
    for each in (child, other):
        assert not (await given_back(each))[0].is_last
    await trio.lowlevel.wait_readable(other.queue)
    other.says(SHORTAGE)
    await client.hears_end()
    await no_packet_from(child.queue)
    assert (lab.front.counters.connections, lab.front.counters.errors) == (0, 1)
