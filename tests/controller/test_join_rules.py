"""Who may join, as what, and under which name: tables."""

import attrs
import pytest

from tests.controller.joined import A_NODE, AGENT, AN_AGENT, hello, link_of
from tierlb.controller.join_rules import name_problem, place_problem, proof_problem, takes_agents
from tierlb.controller.node_record import NodeRecord
from tierlb.wire.credentials import Principal, Role

WEB_1 = hello("web-1", "web")
NODE, AGENT_RECORD = NodeRecord("web-1", "web"), NodeRecord("app-1", "apps", agent=True)


@pytest.mark.parametrize(("name", "takes"), [("apps", True), ("web", False), ("nowhere", False)])
def test_agents_join_pools_that_are_theirs(shop_with_agents, name, takes):
    assert takes_agents(shop_with_agents, name) is takes


@pytest.mark.parametrize(
    ("principal", "said", "reason"),
    [
        (A_NODE, WEB_1, ""),
        (AN_AGENT, AGENT, ""),
        (AN_AGENT, WEB_1, "for agent app-1 of pool apps, not for node web-1"),
        (Principal(Role.NODE), AGENT, "for all nodes, not for agent app-1"),
        (A_NODE, hello("web-2", "web"), "for node web-1 of tier web, not for node web-2"),
    ],
)
def test_a_credential_is_for_what_it_names(shop_with_agents, principal, said, reason):
    problem = proof_problem(shop_with_agents, said, principal)
    assert problem.endswith(reason) if not reason else reason in problem
    assert bool(problem) is bool(reason)


@pytest.mark.parametrize(
    ("record", "said", "problem"),
    [
        (NODE, WEB_1, ""),
        (AGENT_RECORD, AGENT, ""),
        (NodeRecord("x-1", "x"), hello("x-1", "x"), "x-1 is not a node of tier x: check --name and --tier"),
        (NODE, hello("web-1", "edge"), "web-1 is not a node of tier edge: check --name and --tier"),
        (AGENT_RECORD, hello("app-1", "apps"), "app-1 joins pool apps without an address: give --address"),
        (
            AGENT_RECORD,
            attrs.evolve(AGENT, data="10.0.0.9:80"),
            "it is at 10.0.0.7, --address is 10.0.0.9:80: allow that in pools.apps.agents.networks",
        ),
        (NODE, attrs.evolve(AGENT, node="web-1", data="10.0.0.7:80"), "web-1 is not a node of tier apps"),
    ],
)
def test_the_topology_has_a_place_for_it_or_not(shop_with_agents, record, said, problem):
    said = attrs.evolve(said, data="10.0.0.7:9001") if said is AGENT else said
    found = place_problem(shop_with_agents, record, said, link_of(A_NODE))
    assert found.startswith(problem)
    assert bool(found) is bool(problem)


HELD = NodeRecord("web-1", "web", hello=hello("web-1", "web", boot_id="new"), link=link_of(A_NODE))
OLDER = NodeRecord("web-1", "web", hello=WEB_1)


@pytest.mark.parametrize(
    ("record", "replaced", "may"),
    [
        (NODE, None, True),
        (HELD, None, True),
        (HELD, OLDER, False),
        (attrs.evolve(HELD, link=None), OLDER, True),
        (attrs.evolve(HELD, link=link_of(A_NODE, "10.0.0.8")), None, False),
    ],
)
def test_a_process_that_was_replaced_stays_out_while_the_newer_one_is_connected(record, replaced, may):
    assert (name_problem(record, replaced, WEB_1, link_of(A_NODE), vouched=False) == "") is may
