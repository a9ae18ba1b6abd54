import pytest

from scripts.benchmarks.table import (
    Cell,
    Row,
    Sample,
    Target,
    aligned,
    better_than,
    digits,
    markdown,
    rows,
    target_lines,
)


def samples(peer: str, *values: float, metric: str = "CPU µs") -> list[Sample]:
    return [Sample("L7", peer, {metric: value}) for value in values]


def row(ours: float | None, theirs: float | None, metric: str = "CPU µs") -> Row:
    def cell(value: float | None) -> Cell | None:
        return None if value is None else Cell(value, value, value)

    return Row("L7", metric, {"tierlb": cell(ours), "nginx": cell(theirs)})


def test_a_cell_is_the_median_with_the_extremes_of_all_rounds() -> None:
    [only] = rows(samples("nginx", 3.0, 1.0, 9.0))
    assert only.cells == {"nginx": Cell(median=3.0, low=1.0, high=9.0)}


def test_one_bad_round_makes_the_whole_cell_invalid_and_no_other() -> None:
    bad = Sample("L7", "tierlb", {"CPU µs": 0.1}, "Socket errors: read 3")
    [only] = rows([*samples("tierlb", 20.0), bad, *samples("nginx", 20.0)])
    assert only.cells == {"tierlb": None, "nginx": Cell(20.0, 20.0, 20.0)}


def test_a_peer_that_never_started_has_an_invalid_cell() -> None:
    [only] = rows([*samples("nginx", 20.0), Sample("L7", "tierlb", {}, "did not start")])
    assert only.cells["tierlb"] is None


def test_rows_keep_the_order_in_which_measures_and_figures_first_appear() -> None:
    table = rows([Sample("b", "x", {"p99 ms": 1, "CPU µs": 1}), Sample("a", "x", {"KiB": 1})])
    assert [(each.measure, each.metric) for each in table] == [("b", "p99 ms"), ("b", "CPU µs"), ("a", "KiB")]


def test_no_sample_gives_no_row() -> None:
    assert rows([]) == []
    assert markdown([]) == "nothing could be measured"


@pytest.mark.parametrize(
    ("ours", "theirs", "ratio"),
    [(22.0, 20.0, 1.1), (10.0, 20.0, 0.5), (None, 20.0, None), (20.0, None, None), (1.0, 0.0, None)],
)
def test_the_ratio_is_ours_over_theirs_where_both_are_valid(
    ours: float | None, theirs: float | None, ratio: float | None
) -> None:
    assert row(ours, theirs).ratio("nginx") == (None if ratio is None else pytest.approx(ratio))


@pytest.mark.parametrize(
    ("metric", "ours", "verdict"),
    [
        ("CPU µs", 11.0, "met"),
        ("CPU µs", 11.2, "missed"),
        ("per second", 11.0, "met"),
        ("per second", 10.9, "missed"),
        ("p99 ms", 1.0, "met"),
        ("KiB", None, "not measured"),
    ],
)
def test_a_target_is_a_cap_where_less_is_better_and_a_floor_where_more_is(
    metric: str, ours: float | None, verdict: str
) -> None:
    assert Target("L7", metric, "nginx", 1.1).verdict(row(ours, 10.0, metric)) == verdict


def test_targets_are_listed_only_where_both_sides_took_part() -> None:
    targets = [Target("L7", "CPU µs", peer, 1.1) for peer in ("nginx", "haproxy")]
    assert target_lines(targets, [row(10.0, 20.0)]) == ["met           L7, CPU µs: ≤ 1.1 × nginx, reached 0.50"]
    assert target_lines(targets, rows(samples("nginx", 1.0))) == []


def test_better_than_a_peer_asks_for_every_figure_that_the_peer_has() -> None:
    table = [row(1.0, 2.0), row(1.0, 2.0, "KiB"), row(1.0, None, "p50 ms")]
    assert better_than("nginx", table) == [
        Target("L7", "CPU µs", "nginx", 1.0),
        Target("L7", "KiB", "nginx", 1.0),
    ]


def test_the_printed_table_has_a_ratio_column_for_each_other_peer() -> None:
    lines = markdown(rows([*samples("nginx", 20.0), *samples("tierlb", 10.0, 30.0)])).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["measure", "figure", "nginx", "tierlb", "tierlb/nginx"]
    assert cells[2] == ["L7", "CPU µs", "20.0 (20.0–20.0)", "20.0 (10.0–30.0)", "1.00"]


def test_without_the_subject_there_are_no_ratio_columns() -> None:
    assert "/" not in markdown(rows([*samples("nginx", 20.0), *samples("envoy", 50.0)]))


def test_all_lines_of_a_table_are_equally_wide() -> None:
    assert {len(line) for line in aligned([["a", "bb"], ["cccc", "d"]]).splitlines()} == {13}


@pytest.mark.parametrize(
    ("value", "text"), [(0.514, "0.51"), (9.76, "9.76"), (19.84, "19.8"), (106.4, "106"), (43054.2, "43054")]
)
def test_figures_have_about_three_digits(value: float, text: str) -> None:
    assert digits(value) == text
