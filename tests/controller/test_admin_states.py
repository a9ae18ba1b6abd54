"""What is wanted of nodes and agents: how it changes, and when it ends."""

import pytest

from tierlb.controller.admin_states import AdminState, changes_between, meanwhile, states_kept, with_state
from tierlb.model.topology import Admin
from tierlb.topology.diff import AdminChanged
from tierlb.topology.load import load_text

SHOP = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web: {kind: l7, replicas: 2, to: [app, api]}
pools:
  app: {agents: true}
  api: {endpoints: ["127.0.0.1:9001"]}
"""
WEB_1 = AdminState("web", "web-1", Admin.DRAIN)
WEB_2 = AdminState("web", "web-2", Admin.MAINTENANCE)
WEB_3 = AdminState("web", "web-3", Admin.DRAIN)
AGENT = AdminState("app", "app-1", Admin.DRAIN)


@pytest.mark.parametrize(
    ("before", "edit", "after"),
    [
        ((), ("web", "web-1", Admin.DRAIN), (WEB_1,)),
        ((WEB_2,), ("web", "web-1", Admin.DRAIN), (WEB_1, WEB_2)),
        ((WEB_1,), ("web", "web-1", Admin.MAINTENANCE), (AdminState("web", "web-1", Admin.MAINTENANCE),)),
        ((WEB_1, WEB_2), ("web", "web-1", Admin.READY), (WEB_2,)),
        ((), ("web", "web-1", Admin.READY), ()),
    ],
)
def test_a_state_replaces_the_one_before_and_ready_is_none(before, edit, after):
    assert with_state(before, *edit) == after


@pytest.mark.parametrize(
    ("states", "numbered", "left"),
    [
        ((WEB_1, WEB_3, AGENT), True, (WEB_1, AGENT)),
        ((WEB_1, WEB_3, AGENT), False, (WEB_1, WEB_3, AGENT)),
        ((AdminState("api", "api-1", Admin.DRAIN), AdminState("gone", "gone-1", Admin.DRAIN)), False, ()),
    ],
)
def test_what_the_topology_has_no_more_is_ready_when_it_comes_again(states, numbered, left):
    assert states_kept(states, load_text(SHOP, "f"), numbered=numbered) == left


def test_what_goes_stays_drained_until_it_has_gone_and_what_stays_is_as_it_is_to_be():
    topology = load_text(SHOP, "f")
    assert meanwhile((WEB_1, WEB_3), (WEB_2,), topology, numbered=True) == (WEB_3, WEB_2)


def test_differences_are_named_with_both_states():
    assert changes_between((WEB_1, AGENT), (WEB_2, AGENT)) == (
        AdminChanged("web", "web-1", "drain", "ready"),
        AdminChanged("web", "web-2", "ready", "maintenance"),
    )
    assert changes_between((WEB_1,), (WEB_1,)) == ()
