"""What is kept of a host's checks, its agent and its reports, and what becomes of it."""

import pytest

from tests.dataplane.registries import child, host_spec
from tierlb.balance.availability import Availability
from tierlb.balance.cost import ParentShare
from tierlb.balance.received_reports import ReceivedReports
from tierlb.dataplane.upstream.condition import AgentState, Condition, HostEvent
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.model.topology import Admin
from tierlb.wire.agent_check import parse_reply

NOW = 100.0

WORDS = [
    # lines, one after the other -> what is kept
    ([], AgentState()),
    (["up"], AgentState(up=True)),
    (["drain 50%"], AgentState(Admin.DRAIN, weight=0.5)),
    (["drain 50%", "down"], AgentState(Admin.DRAIN, up=False, weight=0.5)),
    (["maint maxconn:7", "ready"], AgentState(Admin.READY, maxconn=7)),
    (["maxconn:7", "maxconn:0 75%"], AgentState(weight=0.75)),
    (["nonsense"], AgentState()),
]


@pytest.mark.parametrize(("lines", "kept"), WORDS)
def test_what_an_answer_does_not_mention_stays_as_it_was(lines: list[str], kept: AgentState) -> None:
    state = AgentState()
    for line in lines:
        state = state.after(parse_reply(line.encode() + b"\n"))
    assert state == kept


def test_weight_and_maxconn_do_not_change_whether_it_is_admitted() -> None:
    assert AgentState(weight=0.5, maxconn=3).admits_as(AgentState())
    assert not AgentState(Admin.DRAIN).admits_as(AgentState())
    assert not AgentState(up=False).admits_as(AgentState(up=True))


def received(**load: int | bool) -> ReceivedReports:
    """Of a child that has reported this, if anything."""
    reports = ReceivedReports(ParentShare(1))
    if load:
        reports.receive(NOW, SubtreeLoad(**load), Echo(), by_connection=False)  # type: ignore[arg-type]
    return reports


def condition(healthy: bool | None = None, awaited_until: float = 0.0, agent: AgentState | None = None) -> Condition:
    made = Condition(awaited_until)
    made.healthy = healthy
    made.agent = agent or AgentState()
    return made


CONDITIONS = [
    # condition, spec, reports, ejected -> availability
    (condition(), host_spec("a"), received(), False, "available"),
    (condition(True), host_spec("a"), received(), False, "available"),
    (condition(False), host_spec("a"), received(), False, "unhealthy"),
    (condition(), host_spec("a"), received(), True, "ejected"),
    (condition(agent=AgentState(up=False)), host_spec("a"), received(), False, "unhealthy"),
    (condition(True, agent=AgentState(up=False)), host_spec("a"), received(), False, "unhealthy"),
    (condition(agent=AgentState(Admin.DRAIN)), host_spec("a"), received(), False, "draining"),
    (condition(agent=AgentState(weight=0.0)), host_spec("a"), received(), False, "weight 0"),
    (condition(agent=AgentState(Admin.READY)), host_spec("a", admin=Admin.DRAIN), received(), False, "draining"),
    (condition(), child("a"), received(leaves=2, ready_leaves=0), False, "unhealthy"),
    (condition(), child("a"), received(leaves=2, ready_leaves=1), False, "available"),
    (condition(), child("a"), received(draining=True), False, "draining"),
    (condition(awaited_until=NOW + 1), child("a"), received(), False, "awaited"),
    (condition(awaited_until=NOW), child("a"), received(), False, "available"),
    (condition(awaited_until=NOW + 1), child("a"), received(leaves=1, ready_leaves=1), False, "available"),
]


@pytest.mark.parametrize(("made", "spec", "reports", "ejected", "expected"), CONDITIONS)
def test_its_availability_as_a_table(
    made: Condition, spec: object, reports: ReceivedReports, ejected: bool, expected: str
) -> None:
    found = made.availability(spec, reports, NOW, ejected=ejected)  # type: ignore[arg-type]
    assert found is Availability(expected)


def test_a_child_that_reports_no_more_is_silent_and_an_endpoint_is_not() -> None:
    for spec, expected in ((child("a"), Availability.SILENT), (host_spec("a"), Availability.AVAILABLE)):
        reports = received(leaves=1, ready_leaves=1)
        reports.silent = True
        assert condition().availability(spec, reports, NOW, ejected=False) is expected


def test_events_are_logged_as_they_are_called_and_some_are_trouble() -> None:
    assert [event for event in HostEvent if event.is_trouble] == ["ejected", "unhealthy", "silent"]
    assert f"host_{HostEvent.REPORTING_AGAIN}" == "host_reporting_again"
