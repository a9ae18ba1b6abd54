from typing import Annotated, Any, ClassVar

import attrs
import jsonschema
import pytest

from tierlb.model.topology import Admin
from tierlb.topology import forms
from tierlb.topology.problems import path_text
from tierlb.topology.reading import TypedReading, read_typed
from tierlb.topology.schema import DEFINITIONS, Describer
from tierlb.topology.shapes import FileShape
from tierlb.topology.source import read_source
from tierlb.topology.typed import exactly_one

TIER = '{kind: l7, listen: "*:80", to: app}'
BASE = f"""
cluster: shop
tiers:
  web: {TIER}
pools:
  app: {{endpoints: [127.0.0.1:9001]}}
"""


def reading_of(text: str) -> TypedReading:
    return read_typed(FileShape, read_source(text).data)


def faults_of(text: str) -> list[str]:
    return [f"{path_text(fault.path)}: {fault.message}" for fault in reading_of(text).faults]


def test_a_right_file_is_structured_without_a_fault() -> None:
    reading = reading_of(BASE)
    assert reading.faults == ()
    assert reading.damaged == frozenset()
    assert reading.value is not None
    assert reading.value.tiers["web"].to == "app"


@pytest.mark.parametrize(
    ("tier", "fault"),
    [
        ("l7", "tiers.web: must be a mapping with the keys kind, listen,"),
        ("[l7]", "tiers.web: must be a mapping with the keys kind, listen,"),
        ("", "tiers.web: has no value: write a mapping with the keys"),
        ("{to: app}", "tiers.web: the key 'kind' is missing"),
        ("{kind: [l7], to: app}", "tiers.web.kind: must be a single value, not a list"),
        ("{kind: l7, to: }", "tiers.web.to: has no value: write a single value or a list or a mapping"),
        ("{kind: l7, to: []}", "tiers.web.to: is empty: fill it or leave the key out"),
        ("{kind: l7, to: {}}", "tiers.web.to: is empty: fill it or leave the key out"),
        ("{kind: l7, to: [App]}", "tiers.web.to[0]: 'App' is not a name"),
        ("{kind: l7, to: {app: many}}", "tiers.web.to.app: 'many' is not a weight"),
        ("{kind: l7, to: {App: 1}}", "tiers.web.to.App: 'App' is not a name"),
        ("{kind: l7, to: app, listen: }", "tiers.web.listen: has no value"),
        ("{kind: l7, to: app, replicas: [1]}", "tiers.web.replicas: must be a single value, not a list"),
        (
            "{kind: l7, to: app, timeouts: 2s}",
            "tiers.web.timeouts: must be a mapping with the keys head, idle",
        ),
        ("{kind: l7, to: app, forwards: 1}", "tiers.web.forwards: unknown key (did you mean 'forward'?)"),
        ("{kind: l4, to: app, forward: copy}", "'copy' is not known: write auto, handoff, relay or nftables"),
        ("{kind: l7, to: app, jump: auto}", "tiers.web.jump: unknown key: known here are kind, listen"),
        ("{kind: l7, to: app, lissten: ':1'}", "tiers.web.lissten: unknown key (did you mean 'listen'?)"),
        ("{kind: l7, to: app, <<: {}}", "tiers.web.'<<': unknown key"),
        ("{kind: l7, routes: {to: app}}", "tiers.web.routes: must be a list, not a mapping"),
        (
            "{kind: l7, routes: [{match: {headers: {X-A: 1, x-a: 2}}, to: app}]}",
            "tiers.web.routes[0].match.headers: 'X-A' and 'x-a' are the same: keep one of them",
        ),
        ("{kind: l7, to: app, balance: leastconn}", "tiers.web.balance: 'leastconn' is not known"),
        ("{kind: l7, to: app, hash_on: cookie}", "tiers.web.hash_on: 'cookie' is not known: write source or {header"),
        ("{kind: l7, to: app, hash_on: [source]}", "tiers.web.hash_on: must be a single value or a mapping"),
        ("{kind: l7, to: app, hash_on: {header: 'a b'}}", "tiers.web.hash_on.header: 'a b' is not a header name"),
        ("{kind: l7, to: app, client_abort: ignore}", "client_abort: 'ignore' is not known: write cancel or finish"),
        ("{kind: l7, to: app, paths: raw}", "tiers.web.paths: 'raw' is not known: write normalised or as-sent"),
        ("{kind: l7, to: app, orca: xml}", "tiers.web.orca: 'xml' is not known: write text, json or bin"),
        ("{kind: l7, to: app, agent_check: ':0'}", "tiers.web.agent_check: needs a port from 1 to 65535"),
        (
            "{kind: l7, routes: [{redirect: {status: 301}}]}",
            "routes[0].redirect: the key 'location' is missing",
        ),
    ],
)
def test_each_wrong_shape_is_one_fault_with_its_path(tier: str, fault: str) -> None:
    (found,) = faults_of(BASE.replace(TIER, tier))
    assert fault in found


def test_keys_of_later_versions_are_not_accepted_yet() -> None:
    (found,) = faults_of(BASE.replace("]}", "], zone: a}"))
    assert "unknown key" in found


@pytest.mark.parametrize(
    ("pool", "fault"),
    [
        ("{endpoints: 127.0.0.1:1}", "endpoints: must be a list or a mapping, not a single value"),
        ("{endpoints: {127.0.0.1: 1}}", "endpoints.'127.0.0.1': '127.0.0.1' is not an address"),
        ("{endpoints: {127.0.0.1:1: heavy}}", "endpoints.'127.0.0.1:1': 'heavy' is not a weight"),
        (
            "{endpoints: {127.0.0.1:1: 1, localhost:1: 2}}",
            "endpoints: '127.0.0.1:1' and 'localhost:1' are the same: keep one of them",
        ),
        ("{agents: false}", "agents: 'false' has no meaning here: write true, or leave the key out"),
        ("{agents: true, health: http}", "health: 'http' is not known: write tcp or {path: PATH}"),
        ("{agents: true, health: {pth: /}}", "health.pth: unknown key (did you mean 'path'?)"),
        ("{agents: true, health: {status: [200, 2xx]}}", "health.status[1]: '2xx' is not a status"),
        ("{agents: true, agent_check: ':80'}", "agent_check: ':80' is not a whole number"),
    ],
)
def test_each_wrong_pool_is_one_fault_with_its_path(pool: str, fault: str) -> None:
    (found,) = faults_of(BASE.replace("{endpoints: [127.0.0.1:9001]}", pool))
    assert found.startswith(f"pools.app.{fault}")


@pytest.mark.parametrize(
    ("security", "fault"),
    [
        ("", "security: has no value: write a mapping with the keys tls"),
        ("{}", "security: the key 'tls' is missing"),
        ("{tls: {certificate: a, key: b}}", "security.tls: the key 'ca' is missing"),
        ("{tls: {certificate: a, key: b, ca: ''}}", "security.tls.ca: write 1 to"),
        ("{token: x, tls: {certificate: a, key: b, ca: c}}", "security.token: unknown key"),
    ],
)
def test_each_wrong_security_is_one_fault_with_its_path(security: str, fault: str) -> None:
    (found,) = faults_of(f"{BASE}security: {security}\n")
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("store", "fault"),
    [
        ("", "store: has no value: write a single value or a mapping, or leave the key out"),
        ("[etcd://a:1]", "store: must be a single value or a mapping, not a list"),
        ("{user: ann}", "store: the key 'etcd' is missing"),
        ("{etcd: 'http://a:1'}", "store.etcd: 'http' is not offered: write etcd://HOST:PORT, or with TLS etcds://"),
        ("{etcd: 'etcds://a:1', password: secret}", "store.password: unknown key (did you mean 'password_file'?)"),
        ("{etcd: 'etcds://a:1', cert: a}", "store.cert: unknown key"),
        ("{etcd: 'etcds://a:1', ca: ''}", "store.ca: write 1 to"),
        ("{etcd: 'etcds://a:1', ca: [a]}", "store.ca: must be a single value, not a list"),
    ],
)
def test_each_wrong_store_is_one_fault_with_its_path(store: str, fault: str) -> None:
    (found,) = faults_of(f"{BASE}store: {store}\n")
    assert found.startswith(fault)


def test_all_faults_come_in_one_pass() -> None:
    text = BASE.replace("cluster", "clutser").replace("*:80", "80").replace("9001", "90010")
    assert {line.split(":")[0] for line in faults_of(text)} == {
        "",
        "clutser",
        "tiers.web.listen",
        "pools.app.endpoints[0]",
    }


def test_what_is_right_is_structured_beside_what_is_not() -> None:
    reading = reading_of(BASE.replace("*:80", "80").replace("[127", "[x, 127"))
    assert reading.value is not None
    assert reading.value.tiers["web"].to == "app"
    assert reading.damaged == {("tiers", "web", "listen"), ("pools", "app", "endpoints")}
    assert not reading.intact(("tiers", "web"))
    assert not reading.intact(("pools", "app"))
    assert reading.intact(("cluster",))


def test_a_file_without_right_tiers_has_no_shape_but_its_faults() -> None:
    reading = reading_of("cluster: x\ntiers: 3\n")
    assert reading.value is None
    assert [fault.path for fault in reading.faults] == [("tiers",)]


@attrs.frozen
class Cat:
    """It says miaow."""

    TAG: ClassVar = ("animal", "cat")
    lives: Annotated[int, forms.whole(1, 9)]


@attrs.frozen
class Dog:
    TAG: ClassVar = ("animal", "dog")
    names: dict[Annotated[str, forms.json_text(1, 5)], forms.Switch]


@attrs.frozen
class House:
    RULES: ClassVar = (exactly_one("street", "at"),)
    rent: forms.Weight
    street: Annotated[str, forms.json_text(0, 99, one_line=False)] | None = None
    at: tuple[forms.HeaderCount, forms.HeaderCount] | None = None
    pet: Cat | Dog | None = None
    state: Admin = Admin.READY


RIGHT_JSON = [
    ({"rent": 1, "street": ""}, House(1.0, "")),
    ({"rent": 1.5, "at": [1, 2.0], "state": "drain"}, House(1.5, at=(1, 2), state=Admin.DRAIN)),
    ({"rent": 1, "street": "\u00e9\n", "pet": {"animal": "cat", "lives": 9}}, House(1.0, "\u00e9\n", pet=Cat(9))),
    (
        {"rent": 1, "street": "a", "pet": {"animal": "dog", "names": {"rex": True}}},
        House(1.0, "a", pet=Dog({"rex": True})),
    ),
]
WRONG_JSON: list[tuple[Any, list[str]]] = [
    ([], [": must be a mapping with the keys rent, street, at, pet, state, not a list"]),
    ({}, [": the key 'rent' is missing"]),
    ({"rent": True, "street": ""}, ["rent: 'true' is not a weight"]),
    ({"rent": "1", "street": ""}, ["rent: '1' is not a weight"]),
    ({"rent": None, "street": ""}, ["rent: has no value: write a single value"]),
    ({"rent": float("inf"), "street": ""}, ["rent: 'inf' is not a weight"]),
    ({"rent": 10**400, "street": ""}, ["rent: "]),
    ({"rent": 1, "street": None}, ["street: has no value"]),
    ({"rent": 1, "street": 5}, ["street: write a text"]),
    ({"rent": 1, "street": "\ud800"}, ["street: half of a surrogate pair is not a text"]),
    ({"rent": 1}, [": needs one of the keys street, at"]),
    ({"rent": 1, "street": "", "at": [1, 2]}, ["at: cannot stand beside 'street'"]),
    ({"rent": 1, "at": [1]}, ["at: must be a list of 2, not of 1"]),
    ({"rent": 1, "at": [1, 2.5]}, ["at[1]: '2.5' is not a whole number"]),
    ({"rent": 1, "street": "", "state": "gone"}, ["state: 'gone' is not known: write ready, drain or maintenance"]),
    ({"rent": 1, "street": "", "state": ["ready"]}, ["state: must be a single value, not a list"]),
    ({"rent": 1, "street": "", "pet": {"animal": "cow"}}, ["pet.animal: write one of cat, dog"]),
    ({"rent": 1, "street": "", "pet": {"animal": ["cat"]}}, ["pet.animal: write one of cat, dog"]),
    ({"rent": 1, "street": "", "pet": "cat"}, ["pet: must be a mapping, not a single value"]),
    ({"rent": 1, "street": "", "pet": {"animal": "cat", "lives": 10}}, ["pet.lives: '10' is out of range"]),
    ({"rent": 1, "street": "", "pet": {"animal": "dog", "names": {}}}, ["pet.names: is empty"]),
    (
        {"rent": 1, "street": "", "pet": {"animal": "dog", "names": {"a\nb": 1}}},
        ["pet.names.'a\\nb': write one line, without control", "pet.names.'a\\nb': '1' is neither true nor false"],
    ),
    ({"rent": 1, "street": "", "Garden": 1}, ["Garden: unknown key"]),
]


@pytest.mark.parametrize(("data", "house"), RIGHT_JSON)
def test_json_is_read_as_the_schema_allows(data: Any, house: House) -> None:
    assert is_valid(data)
    assert read_typed(House, data) == TypedReading(house)


@pytest.mark.parametrize(("data", "said"), WRONG_JSON)
def test_every_fault_of_json_is_named(data: Any, said: list[str]) -> None:
    reading = read_typed(House, data)
    found = [f"{path_text(fault.path)}: {fault.message}" for fault in reading.faults]
    for text, start in zip(found, said, strict=True):
        assert text.startswith(start)


BEYOND_SCHEMAS = ("'inf'", "surrogate")
SCHEMAS_KNOW = [data for data, said in WRONG_JSON if not any(word in said[0] for word in BEYOND_SCHEMAS)]


@pytest.mark.parametrize("data", SCHEMAS_KNOW)
def test_what_is_refused_the_schema_does_not_allow(data: Any) -> None:
    assert not is_valid(data)


def is_valid(data: Any) -> bool:
    describer = Describer(DEFINITIONS, {})
    schema = {**describer.schema(House), "$defs": describer.definitions}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(data))
