"""Controllers that run, in three kinds of clusters."""

import pytest
import trio

from tests.controller.played import TEXT, Played, Site, make
from tierlb.controller.controller import Controller
from tierlb.controller.engine import ProcessEngine
from tierlb.controller.startup import start_anew


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
    controller = Controller(topology, log, engine=ProcessEngine("{pool}:9000"))
    nursery.start_soon(controller.run)
    return controller


@pytest.fixture
async def site(tmp_path, log, nursery, autojump_clock):
    """Serves revision 1."""
    changes = make(tmp_path, log)
    await start_anew(changes, TEXT, "ann")
    nursery.start_soon(changes.controller.run)
    changes.machines = Played(changes.controller, nursery)
    changes.machines.grow(changes.controller.topology)
    await nursery.start(changes.run)
    await trio.sleep(2)
    assert changes.controller.readiness.missing() == ()
    changes.machines.happened.clear()
    yield Site(changes, changes.machines, changes.state.kept_file.file)
    await changes.state.store.close()


@pytest.fixture
async def again(tmp_path, log):
    """A controller that starts from the same state, with the file as it is then."""
    started = []

    async def start(text=None):
        file = tmp_path / "shop.yaml"
        changes = make(tmp_path, log, text or file.read_text())
        started.append(changes)
        return changes, await start_anew(changes, text or file.read_text(), "ann")

    yield start
    for changes in started:
        await changes.state.store.close()
