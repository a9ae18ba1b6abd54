"""What is known of one node, as values."""

import attrs
import pytest

from tierlb.controller.node_record import Link, NodeRecord
from tierlb.controller.status import State
from tierlb.wire.frames import Hello, Watch

HELLO = Hello(1, "web-1", "web", "one", 7)
PRESENT = NodeRecord("web-1", "web", hello=HELLO)


@pytest.mark.parametrize(
    ("record", "state"),
    [
        (NodeRecord("web-1", "web", served=3), State.GONE),
        (PRESENT, State.STARTING),
        (attrs.evolve(PRESENT, served=3), State.SERVING),
        (attrs.evolve(PRESENT, agent=True), State.SERVING),
        (attrs.evolve(PRESENT, served=3, draining=True), State.DRAINING),
        (attrs.evolve(PRESENT, served=3, leaving=True), State.DRAINING),
    ],
)
def test_how_far_a_node_is(record, state):
    assert record.state is state


async def test_a_link_that_is_not_read_keeps_the_latest_watches_only():
    link = Link()
    link.watch(*(Watch(float(n)) for n in range(100)))
    assert [watch.ttl_s for watch in link.watches] == list(range(84, 100))


async def test_a_link_that_is_replaced_wakes_up():
    link = Link()
    link.replace()
    assert (link.replaced, link.wake.is_set()) == (True, True)
