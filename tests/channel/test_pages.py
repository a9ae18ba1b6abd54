"""Probes and figures on a control address."""

import pytest

from tests.control_plane import KeptLog
from tierlb.channel.pages import ControllerPages, NodePages, probe
from tierlb.model.load import NodeLoad, SubtreeLoad
from tierlb.telemetry.exposition import CONTENT_TYPE, Exposed
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.telemetry.log_quota import LogLosses
from tierlb.telemetry.sketch import Sketch


def figures():
    return Exposed("web-1", "web", NodeLoad(0, 0, 7, 0, 0, 0, 0, 0.0), SubtreeLoad(), Sketch())


@pytest.mark.parametrize(
    ("path", "reason", "status", "text"),
    [
        ("/livez", "", 200, b"alive\n"),
        ("/livez", "it drains", 200, b"alive\n"),
        ("/readyz", "", 200, b"ready\n"),
        ("/readyz", "it drains", 503, b"it drains\n"),
    ],
)
def test_a_probe_says_whether_and_why_not(path, reason, status, text):
    page = NodePages(figures, lambda: reason).find(path)
    assert (page.status, page.body) == (status, text)
    assert probe(path, lambda: reason) == page


async def test_figures_are_for_prometheus():
    page = NodePages(figures, str).find("/metrics")
    assert (page.kind, page.status) == (CONTENT_TYPE, 200)
    assert b"tierlb_items_total" in page.body


@pytest.mark.parametrize("path", ["/", "/metrics/", "/readyz/", "/READYZ", ""])
def test_there_is_no_other_page(path):
    assert NodePages(figures, str).find(path) is None


async def test_a_controller_says_what_went_wrong_in_it_and_whether_it_can_be_joined():
    errors = InternalErrors(KeptLog())
    with errors.barrier("change"):
        raise ValueError
    pages = ControllerPages(errors, LogLosses(dropped=3), lambda: "another one is active")
    page = pages.find("/metrics")
    assert page.kind == CONTENT_TYPE
    assert b'tierlb_internal_errors_total{node="controller",tier="",where="change"} 1.0' in page.body
    assert b'tierlb_log_lines_dropped_total{node="controller",tier=""} 3.0' in page.body
    assert (pages.find("/readyz").status, pages.find("/livez").status, pages.find("/")) == (503, 200, None)
