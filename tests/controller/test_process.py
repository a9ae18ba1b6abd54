import socket

import pytest
import trio

from tests.controller.leading import RUNS, parts_of
from tierlb.controller.process import ControllerProcess, ControllerSettings, reachable
from tierlb.model.address import Address
from tierlb.telemetry.log_quota import LogLosses


@pytest.mark.parametrize(
    ("bound", "known"),
    [(Address("127.0.0.1", 7901), "127.0.0.1:7901"), (Address("0.0.0.0", 7901), f"{socket.gethostname()}:7901")],
)
def test_others_know_it_by_an_address_that_they_can_reach(bound, known):
    assert reachable(bound) == known


@pytest.mark.parametrize("posts", [True, False])
async def test_credentials_are_posted_while_it_runs_if_no_operator_gave_them(tmp_path, posts):
    file, state = tmp_path / "shop.yaml", tmp_path / "state"
    file.write_text(RUNS)
    settings = ControllerSettings(
        Address("127.0.0.1", 0), state, posts_join_credentials=posts, admin_token="token" if posts else ""
    )
    process = ControllerProcess(settings, parts_of(file), LogLosses())
    posted = []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.run)
            while not process.parts.admin.served:  # noqa: ASYNC110 (real files)
                await trio.sleep(0.005)
            posted = sorted(path.name for path in state.iterdir())
            nursery.cancel_scope.cancel()
    assert (len([name for name in posted if "token" in name or "join" in name]) > 0) is posts
    events = [event for event, _ in process.parts.log.events]
    assert events[:2] == ["control_port_opened", "controller_activated"]


async def test_a_state_that_cannot_be_used_ends_it_with_the_reason(tmp_path):
    file, state = tmp_path / "shop.yaml", tmp_path / "state"
    file.write_text(RUNS)
    state.write_text("no directory")
    process = ControllerProcess(ControllerSettings(Address("127.0.0.1", 0), state), parts_of(file), LogLosses())
    with trio.fail_after(60):
        assert str(state) in await process.run()
