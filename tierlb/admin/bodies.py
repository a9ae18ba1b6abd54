"""What may be sent to the admin API: one class for each body, with its bounds, and a class for each verb.

`who` says who asks, for the history; it is nobody's proof of anything. `expected` is the revision of the history that
the change was made from: if another one is current by now, nothing is done. With `dry_run` nothing is done either, and
the answer is what would be.
"""

from typing import Annotated, ClassVar, Literal

import attrs

from tierlb.admin.shapes import Between, Chars
from tierlb.controller.admin_states import SetAdmin
from tierlb.controller.changes import DEADLINE_S, Request
from tierlb.model.topology import Admin, Kind, Policy
from tierlb.topology import edit as verbs
from tierlb.topology.endpoints import SetEndpoint as SetOne
from tierlb.topology.forms import MAX_WEIGHT
from tierlb.topology.source import MAX_CHARS

MAX_WHY = 500
MAX_WHO = 64
SOMEBODY = "somebody"
LONGEST_S = 3600.0

Name = Annotated[str, Chars(1, 100)]
Text = Annotated[str, Chars(0, MAX_CHARS + 1, line=False)]
"""One more character than is read of a file, so that too long a text is refused in the same words."""
Who = Annotated[str, Chars(1, MAX_WHO)]
Why = Annotated[str, Chars(0, MAX_WHY)]
Number = Annotated[int, Between(1, 10**9)]
Replicas = Annotated[int, Between(1, 1000)]
Weight = Annotated[float, Between(0.0, MAX_WEIGHT)]
Deadline = Annotated[float, Between(1.0, LONGEST_S)]


@attrs.frozen
class AddTier:
    """A new tier: between a tier and what it sends to, above a tier or pool, or below a tier."""

    ONE_OF: ClassVar = ("between", "above", "below")
    verb: Literal["tier-add"]
    name: Name
    kind: Kind
    between: tuple[Name, Name] | None = None
    above: Name | None = None
    below: Name | None = None
    replicas: Replicas = 1
    policy: Policy | None = None

    def edit(self) -> verbs.Edit:
        """As an edit of the text."""
        return verbs.AddTier(
            self.name, self.kind, self.between, self.above, self.below, self.replicas, balance=self.policy
        )

    @property
    def what(self) -> str:
        return f"tier add {self.name}"


@attrs.frozen
class RemoveTier:
    """What sent to the tier sends to what it sent to."""

    verb: Literal["tier-remove"]
    name: Name

    def edit(self) -> verbs.Edit:
        """As an edit of the text."""
        return verbs.RemoveTier(self.name)

    @property
    def what(self) -> str:
        return f"tier remove {self.name}"


@attrs.frozen
class Scale:
    """The number of nodes of tiers, and of processes of pools with `run`."""

    verb: Literal["scale"]
    replicas: dict[Name, Replicas]

    def edit(self) -> verbs.Edit:
        """As an edit of the text."""
        return verbs.Scale(self.replicas)

    @property
    def what(self) -> str:
        return f"scale {' '.join(f'{name}={number}' for name, number in self.replicas.items())}"


@attrs.frozen
class SetPolicy:
    """How the nodes of a tier choose among hosts."""

    verb: Literal["policy"]
    tier: Name
    policy: Policy

    def edit(self) -> verbs.Edit:
        """As an edit of the text."""
        return verbs.SetPolicy(self.tier, self.policy)

    @property
    def what(self) -> str:
        return f"policy {self.tier}={self.policy.value}"


@attrs.frozen
class SetEndpoint:
    """What is wanted of one endpoint that the file lists or DNS finds: `endpoint` is POOL/HOST:PORT."""

    ONE_OF: ClassVar = ("admin", "weight")
    verb: Literal["endpoint"]
    endpoint: Name
    admin: Admin | None = None
    weight: Weight | None = None

    def edit(self) -> verbs.Edit:
        """As an edit of the text. Raises EditError."""
        return SetOne(*verbs.parse_endpoint(self.endpoint), self.admin, self.weight)

    @property
    def what(self) -> str:
        if self.admin is not None:
            return f"{self.admin.value} {self.endpoint}"
        return f"weight {self.endpoint} {self.weight:g}"


@attrs.frozen
class SetNode:
    """What is wanted of one node or agent, by its name."""

    verb: Literal["node"]
    node: Name
    admin: Admin

    def edit(self) -> SetAdmin:
        """As an edit of what a revision has beside its text."""
        return SetAdmin(self.node, self.admin)

    @property
    def what(self) -> str:
        return f"{self.admin.value} {self.node}"


Edit = AddTier | RemoveTier | Scale | SetPolicy | SetEndpoint | SetNode


@attrs.frozen
class PlanBody:
    """A whole topology file, or an edit of the active one."""

    ONE_OF: ClassVar = ("text", "edit")
    EXAMPLE: ClassVar = {"edit": {"verb": "scale", "replicas": {"web": 3}}}
    text: Text | None = None
    edit: Edit | None = None


@attrs.frozen(kw_only=True)
class Wanted:
    """What every change of the topology says of itself."""

    who: Who = SOMEBODY
    why: Why = ""
    expected: Number | None = None
    dry_run: bool = False
    deadline_s: Deadline = DEADLINE_S

    @property
    def request(self) -> Request:
        """For controller/changes.py."""
        return Request(self.who, self.why, self.expected, self.deadline_s)


@attrs.frozen(kw_only=True)
class ApplyBody(Wanted):
    """A whole topology file."""

    EXAMPLE: ClassVar = {"text": "cluster: shop\n…", "who": "ann", "why": "as reviewed", "expected": 7}
    text: Text


@attrs.frozen(kw_only=True)
class EditBody(Wanted):
    """A verb, carried out on the active revision."""

    EXAMPLE: ClassVar = {
        "edit": {"verb": "tier-add", "name": "cache", "kind": "l7", "between": ["edge", "web"], "replicas": 2},
        "who": "ann",
        "dry_run": True,
    }
    edit: Edit


@attrs.frozen(kw_only=True)
class RollbackBody(Wanted):
    """An old revision, whose text and admin states are applied anew."""

    EXAMPLE: ClassVar = {"number": 1, "who": "ann", "deadline_s": 30}
    number: Number


@attrs.frozen
class RestartBody:
    """A tier whose nodes get new processes, one after the other."""

    EXAMPLE: ClassVar = {"tier": "web", "who": "ann"}
    tier: Name
    who: Who = SOMEBODY

    @property
    def request(self) -> Request:
        """For controller/changes.py."""
        return Request(self.who)
