from contextlib import asynccontextmanager

import pytest
import trio

from tests.controller.leading import parts_of
from tierlb.controller.election import Election
from tierlb.controller.etcd_access import Denied
from tierlb.controller.turns import Turns
from tierlb.model.topology import SharedStore

SHARED = SharedStore("etcd://127.0.0.1:1")


class Failing:
    """A controller on which the program fails."""

    async def lead(self, store, lost):
        await trio.lowlevel.checkpoint()
        raise ExceptionGroup("of a nursery", [ZeroDivisionError()])


async def test_a_turn_on_which_the_program_fails_is_no_end_of_the_process(autojump_clock):
    parts = parts_of("shop.yaml")
    with trio.fail_after(60):
        await Turns(parts, Failing()).try_to_lead(None, trio.Event())
    assert parts.errors.counts == {"active controller": 1}


async def test_an_election_on_which_the_program_fails_is_no_end_of_the_process(autojump_clock, monkeypatch):
    failures = [ZeroDivisionError(), OSError("no descriptor is free")]

    class FailingElection(Election):
        @asynccontextmanager
        async def lead(self):
            await trio.lowlevel.checkpoint()
            raise failures.pop() if failures else Denied("etcd refused")
            yield

    monkeypatch.setattr("tierlb.controller.election.Election", FailingElection)
    parts = parts_of("shop.yaml")
    with trio.fail_after(60), pytest.raises(Denied, match="etcd refused"):
        await Turns(parts, Failing()).compete(SHARED, "one", "ws://one")
    assert parts.errors.counts == {"election": 2}
    assert set(parts.admin.reasons) == {"this controller is on standby: none is the active one"}
