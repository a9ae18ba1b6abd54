import json
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import pytest
from ruamel.yaml import YAML

from tierlb.topology import route_shapes, shapes
from tierlb.topology.schema import Describer, json_schema

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "topology").glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def plain(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def test_it_is_a_schema_and_plain_json() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json.loads(json.dumps(json_schema())) == json_schema()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(path: Path) -> None:
    VALIDATOR.validate(plain(path.read_text()))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


def test_every_key_of_every_shape_is_described() -> None:
    definitions = json_schema()["$defs"]
    for name, shape in (vars(shapes) | vars(route_shapes)).items():
        if name.endswith("Shape"):
            properties = definitions[name.removesuffix("Shape").lower()]["properties"]
            assert list(properties) == [field.name for field in attrs.fields(shape)]
            assert all(entry["description"] for entry in properties.values())


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "{cluster: x}",
        "{cluster: X, tiers: {a: {kind: l7, to: p}}}",
        "{cluster: x, tiers: {}}",
        "{cluster: x, tiers: {A: {kind: l7, to: p}}}",
        "{cluster: x, tiers: {a: {to: p}}}",
        "{cluster: x, tiers: {a: {kind: l5, to: p}}}",
        "{cluster: x, tiers: {a: {kind: l7}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, routes: [{to: p}]}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, timeouts: {head: 1s}}}}",
        "{cluster: x, tiers: {a: {kind: l4, routes: [{respond: {}}]}}}",
        "{cluster: x, tiers: {a: {kind: l4, routes: [{match: {path: /}, to: p}]}}}",
        "{cluster: x, tiers: {a: {kind: l7, routes: [{match: {sni: a}, to: p}]}}}",
        "{cluster: x, tiers: {a: {kind: l4, routes: [{match: {sni: 'a:80'}, to: p}]}}}",
        "{cluster: x, tiers: {a: {kind: l4, routes: [{match: {port: 0}, to: p}]}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, limits: {body: 1MB}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, timeouts: {head: 1}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, replicas: 0}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, health: {}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: {p: -1}}}}",
        "{cluster: x, tiers: {a: {kind: l7, routes: [{match: {path: /, path_prefix: /}, to: p}]}}}",
        "{cluster: x, tiers: {a: {kind: l7, routes: [{to: p, respond: {}}]}}}",
        "{cluster: x, tiers: {a: {kind: l7, routes: [{redirect: {status: 301}}]}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {dns: 'x'}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {dns: 'x:1', agents: true}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, resources: {memory: much}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, resources: {gpus: 1}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, store: 'file:///x'}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, store: {user: ann, password_file: a}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, store: {etcd: 'etcd://a:1', password: a}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, store: {etcd: 'etcd://a:1', user: ann}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, store: {etcd: 'etcd://a:1', password_file: a}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, store: {etcd: 'etcds://a:1', certificate: a}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, store: {etcd: 'etcd://a:1', ca: a}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, store: {etcd: 'etcd://a:1', certificate: a, key: b}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {run: {command: '{port}', image: 'A B'}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {run: {command: serve}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, hash_on: source}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, balance: random, hash_on: source}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, balance: maglev, hash_on: cookie}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, balance: maglev, hash_on: {header: x}}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, orca: text}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, protocol: udp}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, protocol: quic}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, responses: 1}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, protocol: udp, responses: 0}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, protocol: udp, timeouts: {connect: 1s}}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, paths: as-sent}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, paths: raw}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, client_abort: finish}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, forward: relay}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, forward: copy}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, client_abort: ignore}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, orca: xml}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, replicas: 2, agent_check: ':9'}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, replicas: auto, agent_check: ':9'}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, replicas: all}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {run: {command: '{port}', replicas: auto}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {agents: false}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {agents: true, agent_check: 9}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {agents: true, endpoints: ['a:1']}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {endpoints: {'a:1': heavy}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {agents: true, health: http}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {agents: true, health: {host: a}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {agents: true, health: {path: /, status: 2xx}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {agents: true, health: {outlier: {max_ejected: 50}}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, security: {}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, security: {tls: {certificate: a, key: b}}}",
    ],
)
def test_wrong_files_are_invalid(text: str) -> None:
    assert not VALIDATOR.is_valid(plain(text))


@pytest.mark.parametrize(
    "text",
    [
        "{cluster: x, tiers: {a: {kind: l4, to: p, balance: maglev, hash_on: source, agent_check: ':9'}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, balance: maglev, hash_on: {header: X-A}, orca: bin}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, forward: relay}}}",
        "{cluster: x, tiers: {a: {kind: l4, timeouts: {head: 1s}, routes: [{match: {sni: '*.A', alpn: h2}, to: p}]}}}",
        "{cluster: x, tiers: {a: {kind: l4, routes: [{match: {source: ['::1'], port: [1, 2]}, to: p}, {to: p}]}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, protocol: udp, responses: 1, timeouts: {idle: 5s}}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p, protocol: tcp, timeouts: {connect: 1s}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, paths: as-sent}, b: {kind: l7, to: p, client_abort: finish}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {agents: true, health: tcp}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {endpoints: {'127.0.0.1:1': 0.5}, agent_check: 9}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {agents: true, health: {path: /, status: 204}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {agents: true, health: {path: /, status: [200-204]}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {agents: true, health: {outlier: {max_ejected: 9%}}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {agents: true, health: {outlier: 'off'}}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, security: {tls: {certificate: a, key: b, ca: c}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p, resources: {cpus: 0.5, memory: 64MiB}}}, store: 'etcd://a:1,b:2/c'}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, store: 'etcds://a:1,b:2/c'}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, store: {etcd: 'etcd://a:1', user: ann, password_file: a}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, store: {etcd: 'etcds://a:1/x', ca: a, certificate: b, key: c}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {dns: 'A.x:1', health: tcp, agent_check: 9}}}",
        "{cluster: x, tiers: {a: {kind: l7, to: p}}, pools: {p: {dns: _http._tcp.a.x}}}",
        "{cluster: x, tiers: {a: {kind: l4, to: p}}, pools: {p: {run: {command: '{port}', image: 'a/b:1'}}}}",
    ],
)
def test_right_files_are_valid(text: str) -> None:
    VALIDATOR.validate(plain(text))


@attrs.frozen
class Cat:
    """It says miaow."""

    lives: int
    _secret: int = 3


@attrs.frozen
class Tag:
    name: str = attrs.field(default="tag", init=False)


def written(kind: Any) -> dict[str, Any]:
    describer = Describer("#/$defs/", {}, reads=False, simple={int: {"type": "integer"}, str: {"type": "string"}})
    describer.schema(kind)
    return describer.definitions


def test_what_is_written_has_all_its_keys_but_private_ones() -> None:
    assert written(Cat)["Cat"] == {
        "type": "object",
        "additionalProperties": False,
        "properties": {"lives": {"type": "integer"}},
        "description": "It says miaow.",
        "required": ["lives"],
    }


def test_a_field_that_is_always_the_same_is_described_so() -> None:
    assert written(Tag)["Tag"]["properties"] == {"name": {"const": "tag"}}
