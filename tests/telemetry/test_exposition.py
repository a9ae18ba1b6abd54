"""The page is what Prometheus' own parser reads, and says what the values say."""

from collections import Counter

import attrs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tierlb.model.load import CertificateExpiry, HostLoad, NodeLoad, SubtreeLoad
from tierlb.telemetry.exposition import Exposed, expose
from tierlb.telemetry.log_quota import LogLosses
from tierlb.telemetry.sketch import Sketch

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def node(name: str, *durations_s: float) -> Exposed:
    latency = Sketch()
    for duration_s in durations_s:
        latency.add(duration_s)
    hosts = (
        HostLoad("app/127.0.0.1:9001", 3, 90, 1, capacity=250.0, share=0.75, parked=2, capacity_age_s=1.5),
        HostLoad('od"d\\na\nme', 0, 5, 5, availability="ejected", report_age_s=0.25),
    )
    own = NodeLoad(12, 4, 1000, 7, 2, 4096, 8192, 0.5, hosts, short_connects=3, tunnels=1, parked=3, lost_datagrams=5)
    subtree = SubtreeLoad(capacity=500, own_capacity=900, utilisation=0.6, hottest=0.8, ready_leaves=1, leaves=2)
    subtree = attrs.evolve(subtree, capacity_age_s=0.5)
    return Exposed(name, "web", own, subtree, latency)


def parsed(*nodes: Exposed) -> Samples:
    text = expose(nodes).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted({"node": "web-1", "tier": "web", **labels}.items()))]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tierlb_items_total", 1000),
        ("tierlb_errors_total", 7),
        ("tierlb_rejected_total", 2),
        ("tierlb_short_connects_total", 3),
        ("tierlb_lost_datagrams_total", 5),
        ("tierlb_received_bytes_total", 4096),
        ("tierlb_sent_bytes_total", 8192),
        ("tierlb_connections", 12),
        ("tierlb_in_flight", 4),
        ("tierlb_parked", 3),
        ("tierlb_tunnels", 1),
        ("tierlb_subtree_capacity_age_seconds", 0.5),
        ("tierlb_busy_ratio", 0.5),
        ("tierlb_subtree_capacity", 500),
        ("tierlb_own_capacity", 900),
        ("tierlb_subtree_utilisation_ratio", 0.6),
        ("tierlb_subtree_hottest_ratio", 0.8),
        ("tierlb_subtree_ready_leaves", 1),
        ("tierlb_subtree_leaves", 2),
        ("tierlb_draining", 0),
    ],
)
def test_a_nodes_figures_are_on_the_page(name: str, expected: float) -> None:
    assert value(parsed(node("web-1")), name) == expected


def test_members_have_a_label_of_their_own_whatever_they_are_called() -> None:
    samples = parsed(node("web-1"))
    plain, odd = "app/127.0.0.1:9001", 'od"d\\na\nme'
    assert value(samples, "tierlb_member_done_total", member=plain) == 90
    assert value(samples, "tierlb_member_share_ratio", member=plain) == 0.75
    assert [value(samples, "tierlb_member_parked", member=name) for name in (plain, odd)] == [2, 0]
    assert value(samples, "tierlb_member_capacity_age_seconds", member=plain) == 1.5
    assert [value(samples, "tierlb_member_available", member=name) for name in (plain, odd)] == [1, 0]
    assert value(samples, "tierlb_member_report_age_seconds", member=odd) == 0.25


def test_a_member_that_sends_no_reports_has_no_age() -> None:
    ages = [key for key in parsed(node("web-1")) if key[0] == "tierlb_member_report_age_seconds"]
    assert len(ages) == 1


def test_the_histogram_counts_exactly_and_is_cumulative() -> None:
    durations = [0.0001 * 1.3**step for step in range(60)]
    samples = parsed(node("web-1", *durations))
    buckets = {
        float(dict(labels)["le"]): count
        for (name, labels), count in samples.items()
        if name == "tierlb_item_duration_seconds_bucket"
    }
    assert len(buckets) > 20
    for bound_s, count in buckets.items():
        assert count == sum(duration <= bound_s for duration in durations)
    assert value(samples, "tierlb_item_duration_seconds_count") == 60
    assert value(samples, "tierlb_item_duration_seconds_sum") == pytest.approx(sum(durations), rel=0.02)


def test_several_nodes_share_one_page_and_each_metric_is_described_once() -> None:
    text = expose([node("web-1"), node("web-2")]).decode()
    assert text.count("# TYPE tierlb_in_flight gauge") == 1
    samples = parsed(node("web-1"), node("web-2"))
    names = {dict(labels)["node"] for _, labels in samples}
    assert names == {"web-1", "web-2"}


def test_no_nodes_are_a_page_without_samples() -> None:
    assert parsed() == {}


def test_internal_errors_are_counted_by_where_they_were_caught() -> None:
    samples = parsed(attrs.evolve(node("web-1"), internal_errors={"tick": 3, "page": 1}))
    assert value(samples, "tierlb_internal_errors_total", where="tick") == 3
    assert value(samples, "tierlb_internal_errors_total", where="page") == 1


def test_log_lines_that_were_not_written_are_counted() -> None:
    losses = LogLosses(7, Counter(child_turned_away=30))
    samples = parsed(attrs.evolve(node("web-1"), log_losses=losses))
    assert value(samples, "tierlb_log_lines_dropped_total") == 7
    assert value(samples, "tierlb_log_lines_suppressed_total", event="child_turned_away") == 30


def test_the_expiry_of_each_certificate_is_a_timestamp() -> None:
    shown = (
        CertificateExpiry("/etc/shop.pem", ("shop.example",), 1_800_000_000.0, "clients"),
        CertificateExpiry("/etc/node.pem", (), 1_700_000_000.0, "pool app"),
    )
    web = node("web-1")
    samples = parsed(attrs.evolve(web, own=attrs.evolve(web.own, certificates=shown)))
    name = "tierlb_certificate_expiry_timestamp_seconds"
    assert value(samples, name, certificate="/etc/shop.pem", use="clients") == 1_800_000_000
    assert value(samples, name, certificate="/etc/node.pem", use="pool app") == 1_700_000_000
    assert not any(key[0] == name for key in parsed(web))
