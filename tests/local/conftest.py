"""A process manager whose processes are fakes; the controller is not."""

import os
import random
from functools import partial

import pytest

from tests.local.fake_processes import (
    SHOP,
    FakeChild,
    FakeLog,
)
from tierlb.channel.join_credentials import JoinCredentials
from tierlb.controller.controller import Controller
from tierlb.local.guard import Guard
from tierlb.local.launcher import Launcher
from tierlb.local.local_endpoints import LocalEndpoints
from tierlb.local.ports import FreePorts
from tierlb.local.process_manager import ProcessManager


@pytest.fixture
def happened():
    return []


@pytest.fixture
def manager(nursery, happened):
    controller = Controller(SHOP, FakeLog())
    launcher = Launcher(nursery, Guard(), FakeLog(), controller.errors, partial(FakeChild, happened=happened))
    endpoints = LocalEndpoints(controller, launcher, FreePorts(random.Random(os.getpid())))
    join_credentials = JoinCredentials("ws://127.0.0.1:7000", "secret")
    manager = ProcessManager(controller, join_credentials, launcher, endpoints)
    nursery.start_soon(controller.run)
    yield manager
    manager.sockets.close()
