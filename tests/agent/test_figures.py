import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.agent.figures import AppFigures, BadFigures, read_figures
from tierlb.agent.reporter import Counts
from tierlb.wire.orca_report import OrcaReport


@pytest.mark.parametrize(
    ("body", "figures"),
    [
        (b'{"in_flight": 2}', AppFigures(2, arrivals=2)),
        (b'{"in_flight": 2, "done": 10}', AppFigures(2, arrivals=12, done=10)),
        (b'{"in_flight": 0, "arrivals": 30, "done": 10, "other": [1]}', AppFigures(0, arrivals=30, done=10)),
        (b'{"in_flight": 1, "slots": 4, "busy_s": 1.5, "boot": "a"}', AppFigures(1, 1, slots=4, busy_s=1.5, boot="a")),
        (b'{"cpu_utilization": 0.5, "rps_fractional": 20}', OrcaReport(cpu=0.5, rps=20.0)),
        (b"{}", OrcaReport()),
    ],
)
def test_both_forms_are_read(body, figures):
    assert read_figures(body) == figures


def test_what_the_reporter_writes_is_read():
    counts = Counts(4)
    counts.begin()
    written = counts.figures()
    read = read_figures(json.dumps(written).encode())
    assert (read.in_flight, read.arrivals, read.slots, read.boot) == (1, 1, 4, written["boot"])
    assert (read.uptime_s, read.cpu_s) == (written["uptime_s"], written["cpu_s"])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"[1]", "ORCA"),
        (b'{"in_flight": "2"}', "in_flight is not a number"),
        (b'{"in_flight": true}', "in_flight is not a number"),
        (b'{"in_flight": NaN}', "in_flight is not a number"),
        (b'{"in_flight": -1}', "in_flight is negative"),
        (b'{"in_flight": 1, "done": 1e30}', "done is negative or huge"),
        (b'{"in_flight": 1, "busy_s": Infinity}', "busy_s is not a number"),
        (b'{"done": 1}', "neither has it in_flight"),
        (b"[" * 60_000, "not JSON"),
        (b" " * 70_000, "longer than"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(body, why):
    with pytest.raises(BadFigures, match=why):
        read_figures(body)


@given(
    st.binary(max_size=200)
    | st.dictionaries(st.sampled_from(["in_flight", "done", "slots"]), st.floats()).map(
        lambda document: json.dumps(document).encode()
    )
)
def test_any_answer_is_read_or_refused(body):
    try:
        figures = read_figures(body)
    except BadFigures:
        return
    if isinstance(figures, AppFigures):
        assert figures.in_flight >= 0
        assert figures.arrivals >= figures.done + figures.in_flight
