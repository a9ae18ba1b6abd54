"""Why something was not done, as an HTTP status and a value: the one table from errors to statuses."""

import errno

import attrs

from tierlb.channel.durable import StoreError
from tierlb.controller.change_runner import ChangeUnderWay
from tierlb.controller.history import Conflict, UnknownRevision
from tierlb.controller.progress import Progress
from tierlb.controller.proposals import NotPossible
from tierlb.topology.problems import Problem, TopologyError
from tierlb.topology.verbs import EditError

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


class RequestRefused(Exception):  # noqa: N818 (a verdict on the request)
    """A request is refused; `status` is HTTP's, `fields` go into the head of the answer."""

    def __init__(self, status: int, kind: str, error: str, fields: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.fields = status, fields or {}
        self.refusal = Refusal(kind, error)


REFUSALS = (ChangeUnderWay, Conflict, EditError, NotPossible, StoreError, TopologyError, UnknownRevision)


def refusal_of(problem: Exception, change: Progress | None) -> tuple[int, Refusal]:
    """The status and the refusal for one of REFUSALS; `change` is the latest one."""
    text = str(problem)
    match problem:
        case ChangeUnderWay():
            return 409, Refusal("busy", text, change=change)
        case Conflict():
            return 409, Refusal("conflict", text)
        case TopologyError(problems=problems):
            count = len(problems)
            text = f"the topology has {count} {'problem' if count == 1 else 'problems'}: nothing was changed"
            return 422, Refusal("topology", text, problems)
        case EditError():
            return 422, Refusal("edit", text)
        case NotPossible():
            return 422, Refusal("not-possible", text)
        case UnknownRevision():
            return 404, Refusal("unknown", text)
        case StoreError(__cause__=OSError(errno=number)) if number in NO_ROOM:
            return 507, Refusal("storage", text)
        case _:
            return 503, Refusal("storage", text)
