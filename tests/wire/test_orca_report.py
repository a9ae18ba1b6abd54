"""What a report is worth, which figures it may hold, and how a node makes its own."""

import math

import attrs
import pytest

from tierlb.model.load import SubtreeLoad
from tierlb.model.topology import Orca
from tierlb.wire.orca import encode_orca, parse_orca
from tierlb.wire.orca_report import (
    HUGE,
    MAX_METRIC_CHARACTERS,
    BadOrca,
    OrcaReport,
    checked_entry,
    checked_load,
    finished_report,
    metric_name,
    node_report,
)


@pytest.mark.parametrize(
    ("report", "busy", "slots"),
    [
        (OrcaReport(), 0.0, 0),
        (OrcaReport(cpu=0.4), 0.4, 0),
        (OrcaReport(cpu=0.4, application=0.9, named={"slots": 4.0}), 0.9, 4),
        (OrcaReport(named={"slots": -4.0}), 0.0, 0),
    ],
)
def test_the_applications_own_figure_counts_before_the_processors(report, busy, slots):
    assert (report.busy, report.slots) == (busy, slots)


@pytest.mark.parametrize(
    ("load", "rps", "report"),
    [
        (SubtreeLoad(capacity=400.0, utilisation=0.9), 100.0, OrcaReport(application=0.25, rps=100.0, eps=2.0)),
        (SubtreeLoad(utilisation=0.33333333), 100.0, OrcaReport(application=0.3333, rps=100.0, eps=2.0)),
        (SubtreeLoad(in_flight=3), 0.0, OrcaReport(eps=2.0, named={"in_flight": 3.0})),
    ],
)
def test_a_nodes_rate_over_its_utilisation_is_its_capacity(load, rps, report):
    assert node_report(load, rps, 2.0) == report
    for form in Orca:
        assert parse_orca(encode_orca(report, form)) == report


def test_a_node_of_next_to_no_capacity_says_a_use_that_can_be_read():
    report = node_report(SubtreeLoad(capacity=5e-324), 1e3, 0.0)
    assert parse_orca(encode_orca(report, Orca.TEXT)) == report
    assert report.application == HUGE


def test_a_node_tells_of_its_queue_without_what_is_parked() -> None:
    load = SubtreeLoad(capacity=100.0, in_flight=30, parked=20)
    assert node_report(load, 50.0, 0.0) == node_report(attrs.evolve(load, in_flight=10, parked=0), 50.0, 0.0)
    assert node_report(attrs.evolve(load, in_flight=20), 50.0, 0.0).named == {}


@pytest.mark.parametrize("value", [0.0, 0.5, 7.0, HUGE])
def test_a_load_is_any_number_that_is_neither_negative_nor_huge(value: float) -> None:
    assert checked_load(value, "eps") == value
    assert checked_entry("utilization", value, "disk") == value


@pytest.mark.parametrize("value", [-1.0, 2 * HUGE, math.inf, math.nan])
def test_a_load_that_is_none_is_refused(value: float) -> None:
    for name in ("eps", b"eps"):
        with pytest.raises(BadOrca, match=r"^eps is negative, huge or not a number"):
            checked_load(value, name)
    with pytest.raises(BadOrca, match=r"^disk is negative"):
        checked_entry("utilization", value, "disk")


@pytest.mark.parametrize("attribute", ["named", "request_cost"])
def test_figures_of_the_application_need_only_be_finite(attribute: str) -> None:
    assert [checked_entry(attribute, value, "x") for value in (-3.0, 2 * HUGE)] == [-3.0, 2 * HUGE]
    for value in (math.inf, math.nan):
        with pytest.raises(BadOrca, match=r"^x is not a number"):
            checked_entry(attribute, value, "x")


def test_the_name_of_a_metric_is_utf_8_of_limited_length() -> None:
    assert metric_name("é".encode()) == "é"
    assert metric_name(b"a" * MAX_METRIC_CHARACTERS)
    for key, why in ((b"", "empty"), (b"a" * (MAX_METRIC_CHARACTERS + 1), "too long"), (b"\xff", "UTF-8")):
        with pytest.raises(BadOrca, match=why):
            metric_name(key)


@pytest.mark.parametrize(
    ("fields", "rps"),
    [
        ({}, 0.0),
        ({"rps_whole": 7.0}, 7.0),
        ({"rps": 7.5, "rps_whole": 7.0}, 7.5),
        ({"rps": 0.0, "rps_whole": 7.0}, 7.0),
    ],
)
def test_the_whole_rate_counts_where_there_is_no_other(fields: dict[str, float], rps: float) -> None:
    assert finished_report(fields) == OrcaReport(rps=rps)
