"""A node's uplink and a controller over a real websocket; the data plane is a fake."""

import os
import random
import signal
from functools import partial

import pytest
import trio

from tierlb.controlplane.link import serve_child
from tierlb.controlplane.node import Identity, Uplink, run_node
from tierlb.controlplane.status import EndpointStatus, State
from tierlb.model.address import Address
from tierlb.net.websocket import serve

DEADLINE_S = 5


@pytest.fixture
def make_uplink(plane, declined, log):
    def make(url, token="secret"):
        identity = Identity("web-1", "web", url, token, "boot", os.getpid())
        return Uplink(identity, plane, declined, log, random.Random(1))

    return make


class Parent:
    """A controller's listening side that can be taken away and put back."""

    def __init__(self, controller, nursery):
        self.controller, self.nursery = controller, nursery
        self.address = Address("127.0.0.1", 0)
        self.scope = trio.CancelScope()

    @property
    def url(self):
        return f"ws://{self.address}"

    async def start(self):
        self.scope = trio.CancelScope()

        async def run(*, task_status):
            with self.scope:
                handler = partial(serve_child, self.controller)
                await serve(handler, "secret", self.address, task_status=task_status)

        self.address = await self.nursery.start(run)


@pytest.fixture
async def parent(controller, nursery):
    nursery.start_soon(controller.run)
    parent = Parent(controller, nursery)
    await parent.start()
    return parent


async def until(controller, condition):
    with trio.fail_after(DEADLINE_S):
        while not condition():
            with trio.move_on_after(0.01):
                await controller.wait_progress()


async def test_a_node_serves_what_its_parent_wants_and_says_where(parent, make_uplink, nursery, plane):
    nursery.start_soon(make_uplink(parent.url).run)
    seat = parent.controller.seats
    await until(parent.controller, lambda: seat["web-1"].served)
    assert seat["web-1"].addresses == plane.addresses
    assert [snapshot.revision for snapshot in plane.applied] == [1]


async def test_a_change_reaches_the_node(parent, make_uplink, nursery, plane):
    nursery.start_soon(make_uplink(parent.url).run)
    controller = parent.controller
    await until(controller, lambda: controller.seats["web-1"].served == 1)
    endpoint = Address("127.0.0.1", 20001)
    controller.note_endpoint("demo", EndpointStatus(endpoint, State.SERVING, 9))
    await until(controller, lambda: controller.seats["web-1"].served == 2)
    (destination,) = plane.applied[-1].rules[0].action.destinations
    assert [member.address for member in destination.members] == [endpoint]


async def test_a_node_reports_its_load_at_the_interval_it_was_given(parent, make_uplink, nursery, plane):
    nursery.start_soon(make_uplink(parent.url).run)
    controller = parent.controller
    await until(controller, lambda: controller.seats["web-1"].items_per_s is not None)
    assert controller.seats["web-1"].load == plane.load()


async def test_a_refused_snapshot_is_told_with_its_reason(parent, make_uplink, nursery, plane):
    plane.reason = "port 80 is taken"
    nursery.start_soon(make_uplink(parent.url).run)
    controller = parent.controller
    await until(controller, lambda: controller.seats["web-1"].refusal)
    assert controller.seats["web-1"].refusal == "port 80 is taken"
    assert controller.seats["web-1"].served == 0


async def test_a_lost_parent_is_found_again_and_traffic_is_not_touched(parent, make_uplink, nursery, plane):
    controller = parent.controller
    nursery.start_soon(make_uplink(parent.url).run)
    await until(controller, lambda: controller.seats["web-1"].served)
    parent.scope.cancel()
    await until(controller, lambda: controller.seats["web-1"].link is None)
    await parent.start()
    await until(controller, lambda: controller.seats["web-1"].link is not None)
    await until(controller, lambda: controller.missing()[1].startswith("web-2"))
    assert len(plane.applied) == 1


async def test_a_wrong_token_is_refused(parent, make_uplink, nursery, log):
    nursery.start_soon(make_uplink(parent.url, "guess").run)
    await until(parent.controller, lambda: log.events)
    event, fields = log.events[0]
    assert event == "parent lost"
    assert "refused the connection with status 401" in fields["reason"]
    assert parent.controller.seats["web-1"].hello is None


async def test_sigterm_drains_after_the_parent_was_told(parent, make_uplink, nursery, plane):
    controller = parent.controller
    ended = trio.Event()

    async def run():
        await run_node(make_uplink(parent.url))
        ended.set()

    nursery.start_soon(run)
    await until(controller, lambda: controller.seats["web-1"].served)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(controller, lambda: controller.seats["web-1"].draining)
    assert not plane.draining.is_set()
    with trio.fail_after(DEADLINE_S):
        await ended.wait()
    assert plane.draining.is_set()


async def test_a_plane_that_does_not_finish_is_left_at_the_deadline(make_uplink, plane, autojump_clock, nursery):
    plane.drain = lambda: None

    async def terminate():
        await trio.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    nursery.start_soon(terminate)
    started_s = trio.current_time()
    await run_node(make_uplink("ws://127.0.0.1:1"))
    assert 11 <= trio.current_time() - started_s < 12
