"""What is known of one node, as values."""

import attrs
import pytest

from tierlb.controller.node_record import Assignment, Link, NodeRecord
from tierlb.controller.status import State
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Kind
from tierlb.wire.frames import Hello, Watch

HELLO = Hello(1, "web-1", "web", "one", 7)
PRESENT = NodeRecord("web-1", "web", hello=HELLO)


@pytest.mark.parametrize(
    ("record", "state"),
    [
        (NodeRecord("web-1", "web", assignment=Assignment(served=3)), State.GONE),
        (PRESENT, State.STARTING),
        (attrs.evolve(PRESENT, assignment=Assignment(served=3)), State.SERVING),
        (attrs.evolve(PRESENT, agent=True), State.SERVING),
        (attrs.evolve(PRESENT, assignment=Assignment(served=3), draining=True), State.DRAINING),
        (attrs.evolve(PRESENT, assignment=Assignment(served=3), leaving=True), State.DRAINING),
    ],
)
def test_how_far_a_node_is(record, state):
    assert record.state is state


CONTENT = Snapshot(0, "shop", "web", Kind.L7, (), ())
WANTED = attrs.evolve(CONTENT, revision=7, accepted=3)
OTHER = attrs.evolve(CONTENT, data_key="another")


@pytest.mark.parametrize(
    ("assignment", "content", "is_same", "serves", "is_outdated"),
    [
        (Assignment(), CONTENT, False, False, True),
        (Assignment(WANTED), CONTENT, True, False, False),
        (Assignment(WANTED, served=6), CONTENT, True, False, False),
        (Assignment(WANTED, served=7), CONTENT, True, True, False),
        (Assignment(WANTED, served=7), OTHER, False, False, True),
        (Assignment(WANTED, ask_again=True), CONTENT, True, False, True),
    ],
)
def test_what_a_node_serves_is_compared_without_numbers(assignment, content, is_same, serves, is_outdated):
    found = assignment.is_same(content), assignment.serves(content), assignment.is_outdated(content)
    assert found == (is_same, serves, is_outdated)


@pytest.mark.parametrize(
    ("number", "content", "ask_again", "refusal"),
    [(7, OTHER, False, ""), (7, CONTENT, True, "port taken"), (7, OTHER, True, ""), (6, CONTENT, True, "")],
)
def test_a_refusal_of_what_is_wanted_stays_until_something_else_is_wanted(number, content, ask_again, refusal):
    assignment = Assignment(WANTED, ask_again=ask_again)
    assignment.note_refusal(number, "port taken", 10.0)
    assignment.assign(content, 8, 4)
    assert (assignment.refusal, assignment.ask_again) == (refusal, False)
    assert (assignment.wanted.revision, assignment.wanted.accepted) == (8, 4)


@pytest.mark.parametrize(
    ("record", "lack"),
    [
        (NodeRecord("web-1", "web"), "web-1 has not joined"),
        (attrs.evolve(PRESENT, assignment=Assignment(WANTED, served=7)), ""),
        (attrs.evolve(PRESENT, assignment=Assignment(WANTED)), "web-1 does not serve its latest configuration yet"),
        (
            attrs.evolve(PRESENT, assignment=Assignment(WANTED, refusal="port taken")),
            "web-1 refused its configuration: port taken",
        ),
    ],
)
def test_what_a_node_lacks_is_a_phrase(record, lack):
    assert record.lack(CONTENT) == lack


async def test_a_link_that_is_not_read_keeps_the_latest_watches_only():
    link = Link()
    link.watch(*(Watch(float(n)) for n in range(100)))
    assert [watch.ttl_s for watch in link.watches] == list(range(84, 100))


async def test_a_link_that_is_replaced_wakes_up():
    link = Link()
    link.replace()
    assert (link.replaced, link.wake.is_set()) == (True, True)
