import json
from base64 import b64decode

import attrs
import pytest

from tierlb.controller.status import (
    CertificateStatus,
    ClusterStatus,
    EndpointStatus,
    NodeStatus,
    PoolStatus,
    State,
    TierStatus,
    as_json,
    certificates_of,
    observed,
)
from tierlb.model.address import Address
from tierlb.model.load import CertificateExpiry, HostLoad, NodeLoad, SubtreeLoad
from tierlb.telemetry.sketch import Sketch, decode_sketch

WHERE = "127.0.0.1:4000"
LOAD = NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5, (HostLoad("web-1", 1, 2, 3),))
NODE = NodeStatus("edge-1", State.SERVING, True, 42, 3, (Address("127.0.0.1", 80),), LOAD, 1.5, 0.1, control=WHERE)


def test_a_status_is_plain_json_with_addresses_and_states_as_text():
    tier = TierStatus("l4", Address("::1", 80), ("web",), (NODE,))
    seen_by = {"web-1": HostLoad("app/127.0.0.1:9", 1, 2, 3)}
    pool = PoolStatus((EndpointStatus(Address("127.0.0.1", 9), State.GONE, seen_by=seen_by),))
    status = ClusterStatus("shop", 3, True, ("x",), {"edge": tier}, {"app": pool})
    plain = json.loads(json.dumps(as_json(status)))
    assert plain["tiers"]["edge"]["listen"] == ["[::1]:80"]
    node = plain["tiers"]["edge"]["nodes"][0]
    assert (node["state"], node["addresses"], node["control"]) == ("serving", ["127.0.0.1:80"], WHERE)
    assert node["load"]["members"][0]["name"] == "web-1"
    (endpoint,) = plain["pools"]["app"]["endpoints"]
    assert (endpoint["address"], endpoint["state"], endpoint["pid"]) == ("127.0.0.1:9", "gone", None)
    assert endpoint["seen_by"]["web-1"]["done"] == 2


def test_a_latency_is_its_quantiles_and_the_sketch_for_those_who_merge():
    sketch = Sketch()
    for hundredths in range(1, 101):
        sketch.add(hundredths / 100)
    node = attrs.evolve(NODE, latency=sketch.encode(), subtree=SubtreeLoad(capacity=9.5))
    tier = TierStatus("l4", None, (), (node, NODE))
    plain = json.loads(json.dumps(as_json(ClusterStatus("shop", 3, True, (), {"edge": tier}, {}))))
    told, untold = plain["tiers"]["edge"]["nodes"]
    assert told["latency"]["p50_s"] == pytest.approx(0.5, rel=0.03)
    assert told["latency"]["p99_s"] == pytest.approx(0.99, rel=0.03)
    assert decode_sketch(b64decode(told["latency"]["sketch"])) == sketch
    assert told["subtree"]["capacity"] == 9.5
    assert untold["latency"] is None


@pytest.mark.parametrize(
    ("availabilities", "word"),
    [
        ([], ""),
        (["available", "available"], "available"),
        (["available", "ejected", "available"], "ejected 1/3"),
        (["unhealthy", "unhealthy"], "unhealthy"),
        (["unhealthy", "ejected", "unhealthy"], "unhealthy 2/3"),
    ],
)
def test_what_nodes_observe_of_an_endpoint_is_told_in_a_word(availabilities, word):
    seen_by = {f"web-{n}": HostLoad("a", 0, 0, 0, availability=each) for n, each in enumerate(availabilities)}
    assert observed(seen_by) == word


def test_certificates_are_told_with_what_shows_them_and_the_days_that_are_left() -> None:
    shop = CertificateExpiry("/shop.pem", ("shop.example",), 10 * 86_400.0, "clients")
    old = attrs.evolve(shop, expires=2.5 * 86_400.0)
    first, second = certificates_of((("web-1", (shop,)), ("web-2", (old,)), ("web-3", (shop,))), 86_400.0)
    assert first == CertificateStatus("/shop.pem", ("shop.example",), old.expires, "clients", 1.5, ("web-2",))
    assert (second.days_left, second.nodes) == (9.0, ("web-1", "web-3"))
