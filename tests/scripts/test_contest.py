import attrs
import click
import pytest

from scripts.benchmarks import contest
from scripts.benchmarks.contenders import QUALITY, Contender, Tierlb
from scripts.benchmarks.contest import Entry, chosen, curves_by_panel, standings, verdicts
from scripts.benchmarks.openloop import Result
from scripts.benchmarks.play import Course, Load, Played
from scripts.benchmarks.simulated import Tally
from scripts.benchmarks.table import Sample
from scripts.benchmarks.windows import Seen

ALL = [*QUALITY, Tierlb()]


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ("tierlb,nginx-rr", ["nginx-rr", "tierlb"]),
        ("traefik", ["traefik-p2c", "traefik-leasttime"]),
        ("", [each.name for each in ALL]),
    ],
)
def test_contenders_are_chosen_by_name_or_by_product(only: str, names: list[str]) -> None:
    assert [each.name for each in chosen(ALL, only)] == names


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(click.BadParameter, match=r"named caddy; there are nginx-rr, .*tierlb"):
        chosen(ALL, "nginx,caddy")


SAMPLES = [
    Sample("slow", "nginx", {"p99 ms": 200.0, "errors %": 0.0}),
    Sample("slow", "traefik", {"p99 ms": 60.0, "errors %": 0.0}),
    Sample("slow", "tierlb", {"p99 ms": 51.0, "errors %": 1.0}),
]


def test_the_standings_have_a_line_per_contender() -> None:
    lines = standings(SAMPLES).splitlines()
    assert lines[0] == "**slow**"
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["contender", "-" * 11, "nginx", "traefik", "tierlb"]


@pytest.mark.parametrize(("ours", "verdict"), [(51.0, "met"), (54.0, "met"), (54.1, "missed")])
def test_the_target_is_against_the_best_of_the_others(ours: float, verdict: str) -> None:
    [line] = verdicts([*SAMPLES[:2], Sample("slow", "tierlb", {"p99 ms": ours, "errors %": 0.0})], {"p99 ms": 0.9})
    assert line.split()[0] == verdict
    assert "(traefik, 60.0)" in line


def test_without_peers_or_without_tierlb_there_is_no_verdict() -> None:
    assert verdicts(SAMPLES[2:], {"p99 ms": 0.9}) == verdicts(SAMPLES[:2], {"p99 ms": 0.9}) == []


def test_a_void_sample_takes_no_part_in_the_verdict() -> None:
    void = Sample("slow", "traefik", {"p99 ms": 60.0}, "the machine was 99 % busy")
    [line] = verdicts([SAMPLES[0], void, SAMPLES[2]], {"p99 ms": 0.9})
    assert "(nginx, 200)" in line


@pytest.mark.parametrize(("ours", "verdict"), [(0.0, "met"), (0.1, "missed")])
def test_where_a_peer_made_no_error_none_is_allowed(ours: float, verdict: str) -> None:
    [line] = verdicts([SAMPLES[0], Sample("slow", "tierlb", {"p99 ms": 1.0, "errors %": ours})], {"errors %": 1.0})
    assert line.split()[0] == verdict


def test_percentiles_of_who_answered_with_errors_instead_are_no_measure() -> None:
    quick = Sample("slow", "quick", {"p99 ms": 10.0, "errors %": 40.0})
    [line] = verdicts([*SAMPLES, quick], {"p99 ms": 0.9})
    assert "(traefik, 60.0)" in line
    [line] = verdicts([quick, SAMPLES[2]], {"p99 ms": 0.9})
    assert line.startswith("no peer")
    [line] = verdicts([quick, SAMPLES[2]], {"errors %": 1.0})
    assert line.startswith("met")


def test_who_failed_long_requests_is_no_measure_for_short_ones() -> None:
    quick = Sample("slow", "quick", {"p99 ms": 10.0, "errors %": 0.0, "long errors %": 100.0})
    others = [attrs.evolve(each, values={**each.values, "long errors %": 0.0}) for each in SAMPLES]
    [line] = verdicts([*others, quick], {"p99 ms": 0.9})
    assert "(traefik, 60.0)" in line


def test_an_earlier_state_of_tierlb_is_no_peer() -> None:
    earlier = Sample("slow", "tierlb-before", {"p99 ms": 1.0, "errors %": 0.0})
    [line] = verdicts([*SAMPLES, earlier], {"p99 ms": 0.9})
    assert "(traefik, 60.0)" in line


LATE = Result([0.01], [200], late_s=0.02, waited=0, connections=1, reconnected=0, cpu_s=0.1)
FINE = attrs.evolve(LATE, late_s=0.0)
COURSE = Course((), (), (), lambda listens: ())


def played(result: Result) -> Played:
    return Played(Seen([0.0], [0.01], [200]), result, Tally([], [], 0.0, 0.1), Load(0.1, 0.1, 0.1, 0.5))


@pytest.mark.parametrize(
    ("outcomes", "problem", "void"),
    [
        ([played(FINE)], None, 0),
        ([played(LATE), played(FINE)], None, 1),
        ([played(LATE), played(LATE), played(LATE)], "the generator was 20.0 ms late at the 99th percentile", 2),
        (["OSError: it died"], "OSError: it died", 0),
        ([played(LATE), "OSError: it died"], "OSError: it died", 1),
    ],
)
async def test_what_the_harness_spoilt_is_repeated_and_a_contender_that_failed_has_failed(
    outcomes: list[Played | str], problem: str | None, void: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(outcomes)

    async def next_outcome(course: Course, contender: Contender) -> Played | str:
        return next(left)

    monkeypatch.setattr(contest, "play", next_outcome)
    [entry] = await contest.hold("slow", lambda number: COURSE, lambda _: ({"p99 ms": 1.0}, {}), [Tierlb()], 1, 3)
    assert (entry.sample.problem, len(entry.void), list(left)) == (problem, void, [])


def test_curves_are_medians_over_the_rounds_point_by_point() -> None:
    entries = [Entry(SAMPLES[0], {"p99 ms": curve}) for curve in ([1.0, 9.0], [2.0, 7.0], [3.0, 8.0])]
    assert curves_by_panel(entries) == {"slow: p99 ms": {"nginx": [2.0, 8.0]}}
