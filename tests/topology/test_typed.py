"""Enums as forms, conditions between keys, and what is known of a class."""

from typing import Annotated, Any, ClassVar

import attrs
import pytest

from tierlb.model.address import Address
from tierlb.model.load import JSON_KEY
from tierlb.model.topology import Admin, ClientAbort, Kind, Orca, Paths, Policy
from tierlb.topology import forms
from tierlb.topology.net_forms import Listen
from tierlb.topology.typed import (
    Scalar,
    at_most_one,
    choices_of,
    exactly_one,
    form_of,
    is_mapping,
    keys_of,
    needs,
    plain,
    rules_of,
    schema_only,
    tag_of,
)


@attrs.frozen
class House:
    TAG: ClassVar = ("what", "house")
    RULES: ClassVar = (at_most_one("street"),)
    name: forms.Name
    street: forms.Name | None = attrs.field(default=None, metadata={"field": "road"})
    _secret: int = 3


WORDS = [
    (Kind, "l7", Kind.L7),
    (Policy, "two-choices", Policy.TWO_CHOICES),
    (Policy, "load-aware", Policy.LOAD_AWARE),
    (Orca, "bin", Orca.BIN),
    (Admin, "maintenance", Admin.MAINTENANCE),
    (Paths, "as-sent", Paths.AS_SENT),
    (ClientAbort, "finish", ClientAbort.FINISH),
]


@pytest.mark.parametrize(("kind", "text", "value"), WORDS)
def test_an_enum_is_read_by_its_words(kind: Any, text: str, value: object) -> None:
    form = form_of(kind)
    assert form is not None
    assert form.read(Scalar(text)) is value
    assert form.write(value) == text
    assert text in form.schema["enum"]


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (Kind, "l8", "write l4 or l7"),
        (Policy, "round-robbin", "did you mean 'round-robin'"),
        (Orca, "txt", "did you mean 'text'"),
        (ClientAbort, "finished", "did you mean 'finish'"),
        (Admin, "drained", "did you mean 'drain'"),
        (Paths, "as_sent", "did you mean 'as-sent'"),
    ],
)
def test_another_word_is_refused_with_advice(kind: Any, text: str, said: str) -> None:
    form = form_of(kind)
    assert form is not None
    with pytest.raises(ValueError, match=said):
        form.read(Scalar(text))


@pytest.mark.parametrize(
    ("rule", "given", "faults"),
    [
        (exactly_one("a", "b"), ["a"], []),
        (exactly_one("a", "b"), ["c"], [(None, "needs one of the keys a, b")]),
        (exactly_one("a", "b"), ["b", "a"], [("b", "cannot stand beside 'a': keep one of them")]),
        (at_most_one("a", "b"), [], []),
        (at_most_one("a", "b"), ["a", "b"], [("b", "cannot stand beside 'a': keep one of them")]),
        (needs({"a": "b"}), [], []),
        (needs({"a": "b"}), ["a", "b"], []),
        (needs({"a": "b"}), ["a"], [("a", "has no effect without 'b': write both or none")]),
        (schema_only({"a": {}}), ["a"], []),
    ],
)
def test_conditions_between_keys(rule: Any, given: list[str], faults: list[tuple[str | None, str]]) -> None:
    assert list(rule.faults(given)) == faults


@pytest.mark.parametrize(
    ("kind", "choices"),
    [
        (Kind, [Kind]),
        (Kind | None, [Kind]),
        (House | forms.Name | None, [House, forms.Name]),
        (tuple[Kind, ...], [tuple[Kind, ...]]),
    ],
)
def test_choices_are_without_none(kind: Any, choices: list[Any]) -> None:
    assert choices_of(kind) == choices


@pytest.mark.parametrize(
    ("kind", "is_one"), [(House, True), (Address, True), (Listen, False), (Kind, False), (dict[str, House], False)]
)
def test_a_mapping_is_a_class_that_is_no_single_value(kind: Any, is_one: bool) -> None:
    assert is_mapping(kind) is is_one


def test_what_a_class_says_of_itself() -> None:
    keys = keys_of(House)
    assert list(keys) == ["name", "street"]
    assert [key.is_required for key in keys.values()] == [True, False]
    assert [key.model_field for key in keys.values()] == ["name", "road"]
    assert tag_of(House) == ("what", "house")
    assert tag_of(Address) is None
    assert rules_of(Address) == ()


def test_an_annotation_that_is_no_form_is_none() -> None:
    assert form_of(Annotated[str, "short"]) is None


@attrs.frozen
class Tree:
    rooms: tuple[str, ...]
    state: Admin = Admin.READY
    key: bytes = b"x"
    hosts: int = attrs.field(default=1, metadata={JSON_KEY: "members"})
    _secret: int = 3


def test_values_become_plain_without_what_is_private() -> None:
    assert plain({"at": (Address("127.0.0.1", 80),)}) == {"at": ["127.0.0.1:80"]}
    assert plain(Tree(("a",)), len) == {"rooms": ["a"], "state": "ready", "key": 1, "members": 1}
