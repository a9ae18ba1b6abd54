"""What counts as failed, and when a target is met."""

import pytest

from scripts.benchmarks.change import STEPS, Clients, Step, _sample, _verdicts
from scripts.benchmarks.openloop import CUT, UNANSWERED
from scripts.benchmarks.table import Sample
from scripts.benchmarks.windows import OK, Seen, Window

SEEN = Seen([0.5, 1.5, 2.5, 3.5, 4.5], [0.010, 0.020, 0.030, 0.040, 0.050], [OK, OK, CUT, 503, UNANSWERED])


@pytest.mark.parametrize(
    ("window", "requests", "failed", "cut"),
    [(Window(0, 2), 2, 0, 0), (Window(0, 3), 3, 1, 1), (Window(2, 5), 3, 3, 1), (Window(9, 10), 0, 0, 0)],
)
def test_all_that_had_another_end_than_an_answer_failed(window: Window, requests: int, failed: int, cut: int) -> None:
    values = _sample(Step("scale", window), SEEN).values
    assert (values["requests"], values["failed"], values["cut"]) == (requests, failed, cut)


def test_a_command_that_did_not_work_makes_its_sample_invalid() -> None:
    assert _sample(Step("scale", Window(0, 2), "busy"), SEEN).problem == "busy"


def sample(name: str, failed: float, p99_ms: float) -> Sample:
    return Sample(name, "tierlb", {"failed": failed, "p99 ms": p99_ms})


def test_the_targets_are_no_failure_and_three_times_the_steady_tail() -> None:
    good = _verdicts([sample("nothing", 0, 10.0), sample("scale", 0, 29.0)])
    assert [line.split()[0] for line in good] == ["met", "met"]
    bad = _verdicts([sample("nothing", 0, 10.0), sample("scale", 1, 31.0)])
    assert [line.split()[0] for line in bad] == ["missed", "missed"]


def test_the_verbs_of_the_tour_are_all_there() -> None:
    verbs = {" ".join(step[:2]) if step[0] == "tier" else step[0] for step in STEPS}
    assert verbs == {"tier add", "tier remove", "scale", "drain", "ready", "restart", "rollback"}


def test_with_tls_no_tier_is_put_between() -> None:
    assert Clients().steps == Clients(http2=True).steps == STEPS
    verbs = [step[0] for step in Clients(http2=True, renew_s=60.0).steps]
    assert "tier" not in verbs
    assert {"scale", "restart", "drain", "rollback"} <= set(verbs)
    assert Clients(http2=True, renew_s=60.0).most_s == Clients().most_s + 60.0
