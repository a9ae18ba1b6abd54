"""Controllers that run, in three kinds of clusters."""

import pytest

from tierlb.controller.controller import Controller
from tierlb.controller.engine import Engine


@pytest.fixture
async def running(controller, nursery):
    nursery.start_soon(controller.run)
    return controller


@pytest.fixture
async def with_agents(shop_with_agents, log, nursery):
    controller = Controller(shop_with_agents, log)
    nursery.start_soon(controller.run)
    return controller


@pytest.fixture
async def open_to_all(topology, log, nursery):
    controller = Controller(topology, log, engine=Engine("{pool}:9000"))
    nursery.start_soon(controller.run)
    return controller
