"""What is counted of a process is on its page."""

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from tierlb.telemetry.exposition import expose_process
from tierlb.telemetry.log_quota import LogLosses
from tierlb.telemetry.process_metrics import ProcessFigures


def test_errors_and_lost_lines_of_a_controller_are_on_its_page() -> None:
    losses = LogLosses(3, Counter({"node_joined": 4}))
    page = expose_process(ProcessFigures("controller", {"change": 2}, losses)).decode()
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert found == {
        ("tierlb_internal_errors_total", "", "change", "controller"): 2,
        ("tierlb_log_lines_dropped_total", "", "controller"): 3,
        ("tierlb_log_lines_suppressed_total", "", "controller", "node_joined"): 4,
    }
