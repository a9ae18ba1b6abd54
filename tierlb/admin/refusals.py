"""Why something was not done, as an HTTP status and a value: the one place that knows which error is which."""

import errno

import attrs

from tierlb.admin.shapes import Misshapen
from tierlb.channel.durable import StoreError
from tierlb.controller.change_runner import ChangeUnderWay
from tierlb.controller.history import Conflict, UnknownRevision
from tierlb.controller.progress import Progress
from tierlb.controller.proposals import NotPossible
from tierlb.topology.edit import EditError
from tierlb.topology.problems import Problem, TopologyError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@attrs.frozen
class Refusal:
    """`kind` is for programs: access, request, topology, edit, not-possible, unknown, busy, conflict, storage, standby,
    internal.

    `error` is a sentence for people, `problems` are those of the topology file, `change` is being carried out."""

    kind: str
    error: str
    problems: tuple[Problem, ...] = ()
    change: Progress | None = None


class Refused(Exception):  # noqa: N818 (a verdict on the request)
    """A request is not heard; `status` is HTTP's, `fields` go into the head of the answer."""

    def __init__(self, status: int, kind: str, error: str, fields: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.fields = status, fields or {}
        self.refusal = Refusal(kind, error)


REFUSALS = (ChangeUnderWay, Conflict, EditError, Misshapen, NotPossible, StoreError, TopologyError, UnknownRevision)


def refusal_of(problem: Exception, change: Progress | None) -> tuple[int, Refusal]:
    """The status and what to say for one of REFUSALS; `change` is the latest one."""
    said = str(problem)
    match problem:
        case ChangeUnderWay():
            return 409, Refusal("busy", said, change=change)
        case Conflict():
            return 409, Refusal("conflict", said)
        case TopologyError(problems=problems):
            count = len(problems)
            said = f"the topology has {count} {'problem' if count == 1 else 'problems'}: nothing was changed"
            return 422, Refusal("topology", said, problems)
        case EditError():
            return 422, Refusal("edit", said)
        case NotPossible():
            return 422, Refusal("not-possible", said)
        case UnknownRevision():
            return 404, Refusal("unknown", said)
        case StoreError(__cause__=OSError(errno=number)) if number in NO_ROOM:
            return 507, Refusal("storage", said)
        case StoreError():
            return 503, Refusal("storage", said)
        case _:
            return 400, Refusal("request", said)
