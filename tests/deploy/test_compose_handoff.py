"""Which containers share the volume in which connections are handed over."""

import pytest

from tests.deploy.compose_files import everything, option, rendered
from tierlb.topology.load import load_text

TEXT = """\
cluster: shop
tiers:
  edge: {{kind: l4, listen: "127.0.0.1:443", to: web{edge}}}
  web: {{kind: l7, to: app}}
  names: {{kind: l4, protocol: udp, listen: "127.0.0.1:53", to: app}}
pools:
  app: {{run: {{command: "tierlb demo-backend --host {{host}} --port {{port}}"}}}}
"""


def test_all_tiers_over_tcp_share_it_and_nobody_else():
    file = rendered(load_text(TEXT.format(edge=""), "shop.yaml"))
    sharing = [name for name, each in file["services"].items() if "handoff:/run/tierlb" in each.get("volumes", ())]
    assert sharing == ["edge", "web"]
    assert {option(file["services"][name], "--handoff") for name in sharing} == {"/run/tierlb"}
    assert [name for name, each in file["services"].items() if "--handoff" in each["command"]] == sharing
    assert file["volumes"]["handoff"]["driver_opts"]["o"].startswith("uid=10001,gid=10001,mode=0700")


@pytest.mark.parametrize(
    ("edge", "shared"),
    [(", forward: handoff", True), (", forward: relay", False)],
)
def test_it_is_there_if_a_tier_may_hand_over(edge: str, shared: bool):
    file = rendered(load_text(TEXT.format(edge=edge), "shop.yaml"))
    assert ("handoff" in file["volumes"]) is shared
    assert any("--handoff" in service["command"] for service in file["services"].values()) is shared


def test_tiers_that_send_to_pools_alone_have_none():
    topology = load_text(TEXT.format(edge="").replace("to: web", "to: app", 1).replace("  web", "  #", 1), "shop.yaml")
    assert "handoff" not in rendered(topology)["volumes"]
    assert "handoff" in rendered(everything())["volumes"]
