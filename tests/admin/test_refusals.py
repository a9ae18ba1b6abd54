"""Each error, its status and its kind."""

import errno

import pytest

from tierlb.admin.refusals import REFUSALS, refusal_of
from tierlb.channel.durable import StoreError
from tierlb.controller.change_runner import ChangeUnderWay
from tierlb.controller.history import Conflict, UnknownRevision
from tierlb.controller.progress import Progress
from tierlb.controller.proposals import NothingToDo, NotPossible
from tierlb.controller.store import StaleError
from tierlb.topology.problems import Problem, TopologyError
from tierlb.topology.verbs import EditError

CHANGE = Progress("apply", 4, "ann")
PROBLEM = Problem("shop.yaml", 3, 5, "tiers.web.to", "no such name")


def stored(number):
    error = StoreError("cannot be written")
    error.__cause__ = OSError(number, "")
    return error


@pytest.mark.parametrize(
    ("problem", "status", "kind"),
    [
        (ChangeUnderWay("revision 4"), 409, "busy"),
        (Conflict("made from 3"), 409, "conflict"),
        (TopologyError([PROBLEM]), 422, "topology"),
        (EditError("no tier"), 422, "edit"),
        (NotPossible("no tier"), 422, "not-possible"),
        (NothingToDo("nothing"), 422, "not-possible"),
        (UnknownRevision("none"), 404, "unknown"),
        (stored(errno.ENOSPC), 507, "storage"),
        (stored(errno.EACCES), 503, "storage"),
        (StaleError("load again"), 503, "storage"),
    ],
)
def test_each_error_has_its_status_and_kind(problem, status, kind):
    assert isinstance(problem, REFUSALS)
    found, refusal = refusal_of(problem, CHANGE)
    assert (found, refusal.kind) == (status, kind)
    assert refusal.change == (CHANGE if kind == "busy" else None)
    assert refusal.problems == ((PROBLEM,) if kind == "topology" else ())
    assert refusal.error == ("the topology has 1 problem: nothing was changed" if refusal.problems else str(problem))
