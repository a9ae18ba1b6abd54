"""Probes and figures on a control address."""

import pytest

from tierlb.controlplane.pages import NodePages, probe
from tierlb.model.load import NodeLoad, SubtreeLoad
from tierlb.telemetry.exposition import CONTENT_TYPE, Exposed
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


def test_a_controller_has_no_figures_there():
    assert probe("/metrics", str) is None
