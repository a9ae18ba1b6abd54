"""A host whose errors are compared with its siblings' (`upstream.outliers`), and what is on record of it for that."""

from tierlb.balance.availability import Availability
from tierlb.balance.counted_host import CountedHost
from tierlb.balance.kinds import Kinds
from tierlb.balance.load_estimate import LoadEstimate
from tierlb.balance.outlier import AnswerCounts, RecentAnswers, Runs
from tierlb.dataplane.upstream.condition import HostEvent
from tierlb.model.snapshot import HostSpec


class Standing:
    """One endpoint's record. `until` is 0 while it is not ejected, `reason` is why it was. `calm_at`: when its
    earlier ejections begin to be forgotten. `before` and `last` are its counts at the last two starts of an interval,
    `surveyed` those of the latest survey, `recent` the fading ones."""

    __slots__ = (
        "before",
        "calm_at",
        "ejected_at",
        "last",
        "reason",
        "recent",
        "runs",
        "surveyed",
        "times",
        "until",
    )

    def __init__(self) -> None:
        self.runs = Runs()
        self.until = self.ejected_at = self.calm_at = 0.0
        self.times = 0
        self.reason = ""
        self.before = self.last = self.surveyed = AnswerCounts()
        self.recent = RecentAnswers()

    @property
    def ejected(self) -> bool:
        return self.until > 0


class JudgedHost(CountedHost):
    """`errors` counts items that are over and were errors."""

    __slots__ = ("availability", "errors", "spec", "standing")

    def __init__(self, spec: HostSpec, estimate: LoadEstimate, kinds: Kinds) -> None:
        super().__init__(estimate, kinds)
        self.spec = spec
        self.errors = 0
        self.standing = Standing()
        self.availability = Availability.AVAILABLE

    def assess(self, event: HostEvent | None = None) -> None:
        """Work out its availability again, for this reason."""
        raise NotImplementedError

    def restore(self, now: float) -> None:
        """It may be sent to again, and begins slowly."""
        raise NotImplementedError
