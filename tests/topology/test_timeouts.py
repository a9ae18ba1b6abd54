"""Which timeouts along a tree are worth a warning, and that the defaults are not."""

import pytest

from tierlb.topology.load import check_text

POOL = "\npools: {p: {agents: true}}"


def warnings_of(*tiers: str) -> list[str]:
    text = "cluster: x\ntiers:\n" + "\n".join(f"  {tier}" for tier in tiers) + POOL
    return [f"{warning.path}: {warning.message}" for warning in check_text(text, "f.yaml").warnings]


EDGE = "edge: {kind: l4, listen: ':80', to: web}"
WEB = "web: {kind: l7, to: p}"


@pytest.mark.parametrize(
    "tiers",
    [
        (EDGE, WEB),
        ("edge: {kind: l4, listen: ':80', to: web, timeouts: {idle: 75s}}", WEB),
        ("edge: {kind: l4, listen: ':80', to: p, timeouts: {idle: 1s}}",),
        ("a: {kind: l7, listen: ':80', to: web, timeouts: {response: 2m}, drain: 2m}", WEB),
        ("a: {kind: l7, listen: ':80', to: web, timeouts: {response: 60s}}", WEB),
        ("web: {kind: l7, listen: ':80', to: p, timeouts: {response: 20s}}",),
        ("web: {kind: l7, listen: ':80', to: p, drain: 10s}",),
    ],
)
def test_what_agrees_is_no_warning(tiers: tuple[str, ...]) -> None:
    assert warnings_of(*tiers) == []


@pytest.mark.parametrize(
    ("tiers", "warning"),
    [
        (
            ("edge: {kind: l4, listen: ':80', to: web, timeouts: {idle: 30s}}", WEB),
            "tiers.edge.timeouts.idle: is shorter than the idle timeout of tier 'web' (1m15s): connections are cut "
            "between requests",
        ),
        (
            (EDGE, "web: {kind: l7, to: p, timeouts: {response: 10m}, drain: 10m}"),
            "tiers.edge.timeouts.idle: is shorter than the response timeout of tier 'web' (10m): connections are cut "
            "while it waits for an answer; write at least 10m",
        ),
        (
            (
                "top: {kind: l4, listen: ':80', to: mid, timeouts: {idle: 2m}}",
                "mid: {kind: l4, to: web, timeouts: {idle: 1h}}",
                "web: {kind: l7, to: p, timeouts: {stream: 150s}}",
            ),
            "tiers.top.timeouts.idle: is shorter than the stream timeout of tier 'web' (2m30s): connections are cut in",
        ),
        (
            ("a: {kind: l7, listen: ':80', to: web, timeouts: {response: 5s}}", WEB),
            "tiers.a.timeouts.response: is shorter than that of tier 'web' (1m): this tier answers 504",
        ),
        (
            ("web: {kind: l7, listen: ':80', to: p, timeouts: {response: 5m}}",),
            "tiers.web.drain: is shorter than timeouts.response (5m): answers that take longer are cut",
        ),
        (
            ("web: {kind: l7, listen: ':80', to: p, timeouts: {response: 20s}, drain: 1500ms}",),
            "tiers.web.drain: is shorter than timeouts.response (20s)",
        ),
    ],
)
def test_a_tier_that_gives_up_before_one_below_is_a_warning(tiers: tuple[str, ...], warning: str) -> None:
    (found,) = warnings_of(*tiers)
    assert found.startswith(warning)


def test_the_warning_stands_where_the_timeout_is_written() -> None:
    text = "cluster: x\ntiers:\n  edge: {kind: l4, listen: ':80', to: web, timeouts: {idle: 30s}}\n  " + WEB + POOL
    (warning,) = check_text(text, "f.yaml").warnings
    assert (warning.line, warning.warning) == (3, True)
