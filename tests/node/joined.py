"""Nodes that join a controller over real sockets; for the tests of this folder."""

import os

import pytest
import trio

from tests.control_plane import LOCAL, controller_port, node_of
from tests.joining import identity_of

DEADLINE_S = 30
NOWHERE = "ws://127.0.0.1:1"


class ControllerPort:
    """A controller's listening side that can be taken away and put back at the same address."""

    def __init__(self, controller, nursery):
        self.controller, self.nursery = controller, nursery
        self.address = LOCAL
        self.scope = trio.CancelScope()

    @property
    def url(self):
        return f"ws://{self.address}"

    async def start(self):
        self.scope = trio.CancelScope()

        async def run(*, task_status):
            with self.scope:
                async with trio.open_nursery() as nursery:
                    admit = self.controller.admission.admit
                    task_status.started(await controller_port(nursery, self.controller, admit, self.address))

        self.address = await self.nursery.start(run)


@pytest.fixture
async def parent(controller, nursery):
    nursery.start_soon(controller.run)
    parent = ControllerPort(controller, nursery)
    await parent.start()
    return parent


@pytest.fixture
def make_node(controller, plane, declined, log):
    def make(url, state=None, token=None):
        more = {"token": token} if token else {}
        identity = identity_of(controller.admission, "web-1", url, pid=os.getpid(), **more)
        return node_of(identity, plane, declined, log, state=state)

    return make


async def until(controller, condition):
    with trio.fail_after(DEADLINE_S):
        while not condition():
            with trio.move_on_after(0.01):
                await controller.signals.wait_progress()
