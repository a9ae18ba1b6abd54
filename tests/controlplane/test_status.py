import json

from tierlb.controlplane.status import (
    ClusterStatus,
    EndpointStatus,
    NodeStatus,
    PoolStatus,
    State,
    TierStatus,
    as_json,
)
from tierlb.model.address import Address
from tierlb.model.load import MemberLoad, NodeLoad

LOAD = NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5, (MemberLoad("web-1", 1, 2, 3, False),))
NODE = NodeStatus("edge-1", State.SERVING, True, 42, 3, (Address("127.0.0.1", 80),), LOAD, 1.5, 0.1)


def test_a_status_is_plain_json_with_addresses_and_states_as_text():
    tier = TierStatus("l4", Address("::1", 80), ("web",), (NODE,))
    pool = PoolStatus((EndpointStatus(Address("127.0.0.1", 9), State.GONE),))
    status = ClusterStatus("shop", 3, True, ("x",), {"edge": tier}, {"app": pool})
    plain = json.loads(json.dumps(as_json(status)))
    assert plain["tiers"]["edge"]["listen"] == "[::1]:80"
    node = plain["tiers"]["edge"]["nodes"][0]
    assert (node["state"], node["addresses"]) == ("serving", ["127.0.0.1:80"])
    assert node["load"]["members"][0]["name"] == "web-1"
    assert plain["pools"]["app"]["endpoints"] == [{"address": "127.0.0.1:9", "state": "gone", "pid": None}]
