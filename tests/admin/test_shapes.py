"""JSON that is read, written and described alike."""

from typing import Annotated, ClassVar, Literal

import attrs
import jsonschema
import pytest

from tierlb.admin.shapes import Between, Chars, Misshapen, plain, read, sent_schema, shown_schema
from tierlb.model.address import Address
from tierlb.model.topology import Admin


@attrs.frozen
class Cat:
    """It says miaow."""

    animal: Literal["cat"]
    lives: Annotated[int, Between(1, 9)]


@attrs.frozen
class Dog:
    animal: Literal["dog"]
    names: dict[Annotated[str, Chars(1, 5)], bool]


@attrs.frozen
class House:
    ONE_OF: ClassVar = ("street", "at")
    rent: float
    street: str | None = None
    at: tuple[int, int] | None = None
    pet: Cat | Dog | None = None
    state: Admin = Admin.READY
    _secret: int = 3


@attrs.frozen
class Tag:
    name: str = attrs.field(default="tag", init=False)


GOOD = [
    {"rent": 1, "street": ""},
    {"rent": 1.5, "at": [1, 2.0], "state": "drain"},
    {"rent": 1, "street": "é\n", "pet": {"animal": "cat", "lives": 9}},
    {"rent": 1, "street": "a", "pet": {"animal": "dog", "names": {"rex": True}}},
]
BAD = [
    ([], "write an object"),
    ({}, "rent: is missing; write one of street, at"),
    ({"rent": True, "street": ""}, "rent: write a number"),
    ({"rent": "1", "street": ""}, "rent: write a number"),
    ({"rent": None, "street": ""}, "rent: write a number"),
    ({"rent": 1, "street": None}, "street: write a text"),
    ({"rent": 1, "street": "", "at": [1, 2]}, "write one of street, at"),
    ({"rent": 1, "at": [1]}, "at: write a list of 2"),
    ({"rent": 1, "at": [1, 2.5]}, "at[1]: write a whole number"),
    ({"rent": 1, "street": "", "state": "gone"}, "state: write one of ready, drain, maintenance"),
    ({"rent": 1, "street": "", "state": ["ready"]}, "state: write one of ready, drain, maintenance"),
    ({"rent": 1, "street": "", "pet": {"animal": "cow"}}, "pet.animal: write one of cat, dog"),
    ({"rent": 1, "street": "", "pet": "cat"}, "pet.animal: write one of cat, dog"),
    ({"rent": 1, "street": "", "pet": {"animal": "cat", "lives": 10}}, "pet.lives: write 1 to 9"),
    ({"rent": 1, "street": "", "pet": {"animal": "dog", "names": {}}}, "pet.names: write an object with something"),
    (
        {"rent": 1, "street": "", "pet": {"animal": "dog", "names": {"a\nb": 1}}},
        "pet.names.'a\\nb': write one line, without control characters; pet.names.'a\\nb': write true or false",
    ),
    ({"rent": 1, "street": "", "Garden": 1}, "'Garden': unknown key"),
    ({"rent": 1, "street": "", "secret": 1}, "secret: unknown key"),
]
UNSAYABLE = [
    ({"rent": float("inf"), "street": ""}, "rent: that number is too large"),
    ({"rent": 10**400, "street": ""}, "rent: that number is too large"),
    ({"rent": 1, "street": "\ud800"}, "street: half of a surrogate pair is no text"),
]
"""A schema does not know of these."""


def schema_of(describe, kind):
    definitions = {}
    schema = describe(kind, definitions)
    return {**schema, "components": {"schemas": definitions}}


def is_valid(data):
    schema = schema_of(sent_schema, House)
    return jsonschema.Draft202012Validator(schema).is_valid(data)


@pytest.mark.parametrize("data", GOOD)
def test_what_the_schema_allows_is_read(data):
    assert is_valid(data)
    house = read(House, data)
    assert plain(house).items() >= {name: plain(item) for name, item in data.items() if name != "pet"}.items()


@pytest.mark.parametrize(("data", "told"), BAD)
def test_what_it_does_not_is_refused_and_every_fault_is_named(data, told):
    assert not is_valid(data)
    with pytest.raises(Misshapen) as refused:
        read(House, data)
    assert str(refused.value).startswith(told)


@pytest.mark.parametrize(("data", "told"), UNSAYABLE)
def test_numbers_and_texts_that_are_none_are_refused(data, told):
    with pytest.raises(Misshapen, match=told):
        read(House, data)


def test_a_pet_is_of_its_class():
    assert read(House, GOOD[2]).pet == Cat("cat", 9)
    assert read(House, GOOD[3]).pet == Dog("dog", {"rex": True})


SHOWN = [House(1.0, "a", (1, 2), Cat("cat", 1)), House(2.0), House(3.0, pet=Dog("dog", {}), state=Admin.DRAIN)]


@pytest.mark.parametrize("house", SHOWN)
def test_what_is_written_is_as_described_without_what_is_private(house):
    data = plain(house)
    assert data.keys() == {"rent", "street", "at", "pet", "state"}
    schema = schema_of(shown_schema, House)
    jsonschema.validate(data, schema | {"$ref": "#/components/schemas/House"}, jsonschema.Draft202012Validator)
    assert sorted(schema["components"]["schemas"]["House"]["required"]) == sorted(data)


def test_what_a_class_always_says_is_described_so():
    assert schema_of(shown_schema, Tag)["components"]["schemas"]["Tag"]["properties"] == {"name": {"const": "tag"}}


def test_what_a_class_is_for_is_described():
    assert schema_of(shown_schema, Cat)["components"]["schemas"]["Cat"]["description"] == "It says miaow."


def test_addresses_are_text():
    assert plain({"at": (Address("127.0.0.1", 80),)}) == {"at": ["127.0.0.1:80"]}
    assert shown_schema(Address, {}) == {"type": "string"}


def test_a_bound_is_one_of_those_that_are_known():
    with pytest.raises(TypeError, match="no bound"):
        shown_schema(Annotated[str, "short"], {})
