"""How long whoever stops a process has to wait before it is killed."""

from tierlb.balance.drain import STOP_MARGIN_S
from tierlb.balance.stop_times import drain_times, longest_drain_s, stop_all_s, stop_s, stop_whole_s
from tierlb.topology.load import load_text

SHOP = load_text(
    """
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web, drain: 500ms}
  web: {kind: l7, to: [app, both], drain: 2m}
  other: {kind: l7, listen: "127.0.0.1:8081", to: both}
pools:
  app: {endpoints: ["127.0.0.1:9001"]}
  both: {endpoints: ["127.0.0.1:9002"]}
""",
    "shop.yaml",
)


def test_a_pool_has_the_longest_time_of_those_that_send_to_it():
    assert drain_times(SHOP) == {"edge": 0.5, "web": 120.0, "other": 30.0, "app": 120.0, "both": 120.0}


def test_engines_are_told_whole_seconds_that_are_not_too_few():
    assert stop_whole_s(SHOP, "edge") == STOP_MARGIN_S + 1
    assert stop_whole_s(SHOP, "other") == STOP_MARGIN_S + 30


def test_a_cluster_ends_in_the_longest_times_of_its_tiers_and_of_its_pools():
    assert stop_all_s(SHOP) == 2 * stop_s(120.0)


def test_what_is_under_way_has_the_longest_drain_time_however_long_all_may_take_to_end():
    assert longest_drain_s(SHOP) == 120.0
