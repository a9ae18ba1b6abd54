"""The verbs that change a running cluster, as values: one class for the command line, the admin API and `edit`.

As JSON a verb is its class's keys and the key `verb`, which names it. What depends on the active topology (whether
there is such a tier) is checked when the verb is carried out.
"""

from typing import Annotated, Any, ClassVar

import attrs

from tierlb.model.address import Address, read_address
from tierlb.model.topology import Admin, Kind, Policy
from tierlb.topology import forms
from tierlb.topology.typed import Scalar, exactly_one, form_of, plain
from tierlb.topology.units import shown

GivenName = Annotated[str, forms.json_text(1, 100)]
"""A name as a client sends it, right or not."""


class EditError(ValueError):
    """The edit does not apply to this file; the message says what to do."""


def read_value(kind: Any, text: str, subject: str = "") -> Any:
    """Read a value as the file's loader does. Raises EditError, with the subject before the sentence."""
    form = form_of(kind)
    assert form is not None
    try:
        return form.read(Scalar(text))
    except ValueError as error:
        raise EditError(f"{subject}{error}") from None


def _as_kind(value: Kind | str) -> Kind:
    return read_value(Kind, value) if isinstance(value, str) else value


def _as_policy(value: Policy | str) -> Policy:
    return read_value(Policy, value) if isinstance(value, str) else value


@attrs.frozen
class AddTier:
    """A new tier: between a tier and what it sends to, above a tier or pool, or below a tier."""

    TAG: ClassVar = ("verb", "tier-add")
    RULES: ClassVar = (exactly_one("between", "above", "below"),)
    name: GivenName
    kind: Kind = attrs.field(converter=_as_kind)
    between: tuple[GivenName, GivenName] | None = None
    above: GivenName | None = None
    """All that send to this tier or pool send to the new tier then."""
    below: GivenName | None = None
    """This tier sends to the new tier then."""
    replicas: forms.NodeCount = 1
    policy: Policy | None = attrs.field(default=None, converter=attrs.converters.optional(_as_policy))


@attrs.frozen
class RemoveTier:
    """What sent to the tier sends to what it sent to."""

    TAG: ClassVar = ("verb", "tier-remove")
    name: GivenName


@attrs.frozen
class Scale:
    """The number of nodes of tiers (auto: one per core), and of processes of pools with `run`."""

    TAG: ClassVar = ("verb", "scale")
    replicas: dict[GivenName, forms.NodeCount]


@attrs.frozen
class SetPolicy:
    """How the nodes of a tier choose among hosts."""

    TAG: ClassVar = ("verb", "policy")
    tier: GivenName
    policy: Policy = attrs.field(converter=_as_policy)


@attrs.frozen
class SetEndpoint:
    """The admin state or weight of one endpoint that the file lists or DNS finds: `endpoint` is POOL/HOST:PORT."""

    TAG: ClassVar = ("verb", "endpoint")
    RULES: ClassVar = (exactly_one("admin", "weight"),)
    endpoint: GivenName
    admin: Admin | None = None
    weight: forms.Weight | None = None

    def place(self) -> tuple[str, Address]:
        """The pool and the address. Raises EditError."""
        pool, _, address = self.endpoint.partition("/")
        try:
            return pool, read_address(address)
        except ValueError as error:
            said = f"{shown(self.endpoint)}: {error}: write POOL/HOST:PORT, such as app/127.0.0.1:9001"
            raise EditError(said) from None


@attrs.frozen
class SetNode:
    """The admin state of one node or agent, by its name."""

    TAG: ClassVar = ("verb", "node")
    node: GivenName
    admin: Admin


Edit = AddTier | RemoveTier | Scale | SetPolicy | SetEndpoint
"""The verbs that change the text of the topology file."""
Verb = AddTier | RemoveTier | Scale | SetPolicy | SetEndpoint | SetNode


def command_of(verb: Verb) -> str:
    """The verb as it is typed, in short."""
    match verb:
        case AddTier(name=name):
            return f"tier add {name}"
        case RemoveTier(name=name):
            return f"tier remove {name}"
        case Scale(replicas=replicas):
            return f"scale {' '.join(f'{name}={number}' for name, number in replicas.items())}"
        case SetPolicy(tier=tier, policy=policy):
            return f"policy {tier}={policy.value}"
        case SetEndpoint(endpoint=name, admin=None, weight=weight):
            return f"weight {name} {weight:g}"
        case SetEndpoint(endpoint=name, admin=Admin() as admin) | SetNode(node=name, admin=admin):
            return f"{admin.value} {name}"
    raise AssertionError(verb)


def verb_json(verb: Verb) -> dict[str, Any]:
    """The verb as the admin API takes it; what is not given is left out."""
    key, word = verb.TAG
    return {key: word, **{name: value for name, value in plain(verb).items() if value is not None}}


def parse_scale(*words: str) -> Scale:
    """Read `web=5` or `web=auto`, once or more. Raises EditError."""
    replicas: dict[str, int | str] = {}
    for word in words:
        name, number = _pair(word, "web=5")
        if name in replicas:
            raise EditError(f"{shown(name)} is given twice: write it once")
        replicas[name] = read_value(forms.NodeCount, number, f"{name}: ")
    return Scale(replicas)


def parse_policy(word: str) -> SetPolicy:
    """Read `web=round-robin`. Raises EditError."""
    tier, policy = _pair(word, "web=round-robin")
    return SetPolicy(tier, read_value(Policy, policy, f"{tier}: "))


def _pair(word: str, example: str) -> tuple[str, str]:
    name, _, value = (part.strip() for part in word.partition("="))
    if not name or not value:
        raise EditError(f"{shown(word)} is not complete: write NAME=VALUE, such as {example}")
    return name, value
