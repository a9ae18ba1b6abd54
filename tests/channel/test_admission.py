"""Who may join, as what, and in whose place: tables."""

import attrs
import pytest

from tierlb.channel.admission import (
    Admission,
    Enlistment,
    address_problem,
    agent_rows,
    bound,
    by_ticket,
    mismatch,
)
from tierlb.model.load import HostLoad, NodeLoad, NodeRow, SubtreeLoad
from tierlb.wire.credentials import Principal, Role, parse_credential
from tierlb.wire.frames import Hello

NODE, AGENT = Role.NODE, Role.AGENT


def hello(name: str = "web-2", group: str = "web", boot_id: str = "boot") -> Hello:
    return Hello(1, name, group, boot_id, 7)


@pytest.mark.parametrize(
    ("principal", "said", "role", "problem"),
    [
        (Principal(NODE, "web", "web-2"), hello(), NODE, ""),
        (Principal(NODE, "web"), hello(), NODE, ""),
        (Principal(NODE, "web", "web-2", "boot"), hello(), NODE, ""),
        (Principal(NODE, "web", "web-2", "old"), hello(), NODE, "this token is for another process of web-2"),
        (Principal(NODE, "web", "web-1"), hello(), NODE, "node web-1 of tier web, not for node web-2 of tier web"),
        (Principal(NODE, "edge"), hello(), NODE, "nodes of tier edge, not for node web-2"),
        (Principal(AGENT, "web", "web-2"), hello(), NODE, "agent web-2 of pool web, not for node web-2"),
        (Principal(AGENT), hello(), NODE, "all agents, not for node web-2"),
        (Principal(NODE), hello("app-1", "app"), AGENT, "all nodes, not for agent app-1 of pool app"),
        (
            Principal(AGENT, "app", "app-1"),
            hello("app-2", "app"),
            AGENT,
            "agent app-1 of pool app, not for agent app-2",
        ),
        (Principal(AGENT, "app"), hello("app-2", "api"), AGENT, "agents of pool app, not for agent app-2 of pool api"),
        (Principal(AGENT, "app"), hello("app-2", "app"), AGENT, ""),
    ],
)
def test_a_hello_has_to_be_what_the_token_is_for(principal: Principal, said: Hello, role: Role, problem: str) -> None:
    found = mismatch(principal, said, role)
    assert problem in found
    assert bool(problem) is bool(found)
    assert len(found.encode()) <= 120, "the reason of a close is cut there"


@pytest.mark.parametrize(
    ("data", "host", "networks", "may"),
    [
        ("10.0.0.7:80", "10.0.0.7", [], True),
        ("[fd00::7]:80", "fd00::7", [], True),
        ("10.0.0.8:80", "10.0.0.7", [], False),
        ("127.0.0.1:80", "127.0.0.1", [], True),
        ("127.0.0.2:80", "127.0.0.1", [], True),
        ("[::1]:80", "127.0.0.1", [], True),
        ("127.0.0.1:80", "10.0.0.7", [], False),
        ("10.0.0.7:80", "127.0.0.1", [], False),
        ("0.0.0.0:80", "10.0.0.7", [], False),
        ("10.0.0.8:80", "10.0.0.7", ["10.0.0.0/24"], True),
        ("10.0.1.8:80", "10.0.0.7", ["10.0.0.0/24", "10.0.1.8/32"], True),
        ("10.0.2.8:80", "10.0.0.7", ["10.0.0.0/24", "fd00::/8"], False),
        ("[fd00::8]:80", "10.0.0.7", ["10.0.0.0/24", "fd00::/8"], True),
    ],
)
def test_an_application_is_where_its_agent_is_or_where_the_pool_allows(
    data: str, host: str, networks: list[str], may: bool
) -> None:
    problem = address_problem(data, host, networks, "app")
    assert (problem == "") is may
    if not may:
        assert all(part in problem for part in (data, host, "pools.app.agents.networks"))
        assert len(problem.encode()) <= 120


def test_what_travels_is_bound_to_a_name() -> None:
    admission = Admission("secret")
    for principal in (Principal(NODE), Principal(NODE, "web"), Principal(AGENT), Principal(AGENT, "app")):
        assert admission.admit(admission.credential(principal)) is None
    for principal in (Principal(NODE, "web", "web-1"), Principal(AGENT, "app", "app-1")):
        assert admission.admit(admission.credential(principal)) == principal
        assert Admission("another").admit(admission.credential(principal)) is None
    assert admission.admit("secret") is None
    assert "secret" not in repr(admission)


def test_where_a_supervisor_starts_the_nodes_only_its_processes_are_nodes_and_only_while_they_run() -> None:
    admission = Admission("secret", only_started=True)
    enlistment = Enlistment(admission, "web", "web-2")
    credential, _, reception = enlistment.begin().decode().partition("\n")
    principal = admission.admit(credential)
    assert principal is not None
    assert (principal.group, principal.name) == ("web", "web-2")
    assert bytes.fromhex(reception) == admission.reception("web", "web-2")
    again = enlistment.begin().decode().partition("\n")[0]
    assert (admission.admit(credential), again == credential) == (None, False)
    enlistment.end()
    assert admission.admit(again) is None
    for name in ("web-2", "web-3"):
        assert admission.admit(admission.credential(Principal(NODE, "web", name))) is None
        assert admission.admit(admission.credential(Principal(NODE, "web", name, "guess"))) is None
    assert admission.admit(admission.credential(Principal(AGENT, "app", "app-1"))) is not None


def test_a_ticket_is_for_one_parent_or_for_one_tier_found_by_name() -> None:
    admission, child = Admission("secret"), Principal(AGENT, "app", "app-1")
    one = by_ticket([admission.reception("web", "web-1"), admission.reception("web")])
    other = by_ticket([admission.reception("web", "web-2"), admission.reception("web")])
    edge = by_ticket([admission.reception("edge", "edge-1"), admission.reception("edge")])
    to_one, to_tier = admission.ticket("web", "web-1", child), admission.ticket("web", "", child)
    assert [admit(to_one) for admit in (one, other, edge)] == [child, None, None]
    assert [admit(to_tier) for admit in (one, other, edge)] == [child, child, None]
    assert admission.admit(to_one) is None
    assert one(admission.credential(child)) is None
    assert by_ticket([])(to_one) is None


def test_a_node_that_knows_its_own_credential_finds_the_key_that_its_tickets_are_made_with() -> None:
    admission = Admission("secret")
    given = parse_credential(admission.credential(Principal(NODE)))
    assert given is not None
    mine = given.narrowed(Principal(NODE, "web", "web-1"))
    assert by_ticket([mine.reception])(admission.ticket("web", "web-1", Principal(NODE, "mid", "mid-1"))) is not None


def test_a_ticket_is_bound_to_the_name_and_to_no_process() -> None:
    assert bound(Principal(NODE, "web", "web-1", "boot"), hello("web-1")) == Principal(NODE, "web", "web-1")
    assert bound(Principal(AGENT), hello("app-1", "app")) == Principal(AGENT, "app", "app-1")


def test_the_data_key_is_the_clusters() -> None:
    assert Admission("secret").data_key == Admission("secret").data_key != Admission("another").data_key


def test_an_agent_reports_of_itself_alone_and_of_no_members() -> None:
    plain = NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5)
    claim = attrs.evolve(plain, hosts=(HostLoad("app-2", 0, 0, 9, "ejected"),))
    rows = [NodeRow(name, "app", 0.0, claim, SubtreeLoad()) for name in ("app-1", "app-2")]
    assert agent_rows(rows, "app-1") == (NodeRow("app-1", "app", 0.0, plain, SubtreeLoad()),)
