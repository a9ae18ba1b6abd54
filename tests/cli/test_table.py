import io

import attrs
import pytest
from rich.console import Console

from tests.cli.conftest import host, node, shop, words
from tierlb.cli import status, top
from tierlb.cli.rows import StatusGroup, StatusRow, groups_of
from tierlb.cli.table import (
    STATUS_COLUMNS,
    age_text,
    count_text,
    fitting,
    natural_width,
    percent_text,
    rate_text,
    short_duration,
    shortened,
    status_table,
)
from tierlb.controller.status import CertificateStatus, TierStatus, as_json


def drawn(told, width=100, height=None, order=top.TOP_ORDER):
    console = Console(width=width, file=io.StringIO())
    console.print(status_table(told, order, width, height))
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (count_text(None), ""),
        (count_text(0), "0"),
        (count_text(12345), "12,345"),
        (rate_text(None), ""),
        (rate_text(0.0), "0/s"),
        (rate_text(0.44), "0.4/s"),
        (rate_text(3.0), "3/s"),
        (rate_text(9.96), "10/s"),
        (rate_text(1234.4), "1,234/s"),
        (rate_text(12.0, by_connection=True), "12 conn/s"),
        (percent_text(None), ""),
        (percent_text(0.0), "0 %"),
        (percent_text(0.0004), "0 %"),
        (percent_text(0.004), "0.4 %"),
        (percent_text(0.62), "62 %"),
        (percent_text(1.0), "100 %"),
        (short_duration(None), ""),
        (short_duration(0.00085), "850 µs"),
        (short_duration(0.00123), "1.2 ms"),
        (short_duration(0.00994), "9.9 ms"),
        (short_duration(0.00999), "10 ms"),
        (short_duration(0.012), "12 ms"),
        (short_duration(0.25), "0.25 s"),
        (short_duration(9.999), "10 s"),
        (age_text(None), ""),
        (age_text(0.0874), "0.09 s"),
        (age_text(12.3), "12 s"),
        (age_text(300.0), "5 min"),
        (age_text(10800.0), "3 h"),
    ],
)
def test_figures_are_written_with_their_units(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (40, (["a", "b", "c"], 2)),
        (34, (["a", "b", "c"], 2)),
        (33, (["a", "b", "c"], 1)),
        (32, (["a", "b", "c"], 1)),
        (31, (["a", "b"], 2)),
        (5, (["a", "b"], 1)),
    ],
)
def test_columns_move_together_and_then_the_least_important_goes(width, expected):
    assert fitting([("a", 10), ("b", 10), ("c", 10)], width) == expected


def group(name, *states):
    return StatusGroup(
        StatusRow(name), tuple(StatusRow(f"{name}-{number}", state) for number, state in enumerate(states, start=1))
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (9, ["a", "a-1", "b", "b-1", "b-2", "b-3", "b-4", "b-5"]),
        (8, ["a", "a-1", "b", "b-1", "b-2", "b-3", "b-4", "b-5"]),
        (7, ["a", "a-1", "b", "b-1", "b-2", "b-4", "… 2 more"]),
        (5, ["a", "a-1", "b", "b-4", "… 4 more"]),
        (4, ["a", "a-1", "b", "… 5 more"]),
        (3, ["a", "b", "… 5 more"]),
        (2, ["a", "b"]),
        (0, ["a", "b"]),
    ],
)
def test_members_that_simply_serve_give_way_first(lines, expected):
    groups = (group("a", "serving"), group("b", "serving", "serving", "serving", "ejected", "serving"))
    shown = [row.name for g in shortened(groups, lines) for row in (g.total, *g.hosts)]
    assert shown == expected


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (StatusRow("web-1", capacity=1234.0), "1,234/s"),
        (StatusRow("web-1", capacity=1234.0, capacity_age_s=9.9), "1,234/s"),
        (StatusRow("web-1", capacity=1234.0, capacity_age_s=200.0), "1,234/s (3 min)"),
        (StatusRow("edge-1", capacity=5.0, by_connection=True, capacity_age_s=12.0), "5 conn/s (12 s)"),
        (StatusRow("web-1", capacity=1234.0, capacity_age_s=200.0, guessed=True), "~1,234/s (3 min)"),
        (StatusRow("web-1", unlearnt=True), "?"),
        (StatusRow("web-1"), ""),
    ],
)
def test_a_capacity_that_was_learnt_long_ago_or_never_says_so(row, text):
    assert STATUS_COLUMNS["capacity"].text(row) == text


def test_both_commands_rank_all_columns():
    assert sorted(top.TOP_ORDER) == sorted(status.STATUS_ORDER) == sorted(STATUS_COLUMNS)


def test_at_100_columns_there_is_everything_that_top_is_for():
    lines = drawn(as_json(shop())).splitlines()
    assert max(map(len, lines)) <= 100
    assert " ".join(lines[1].split()) == "node state in flight rate capacity use p50 p99 age share errors"
    row = next(line for line in lines if "web-1" in line)
    assert " ".join(row.split()) == "web-1 serving 2 1,500/s 2,000/s 62 % 12 ms 12 ms 0.25 s 75 % 1"


def test_figures_end_below_the_end_of_their_heading():
    lines = drawn(as_json(shop())).splitlines()
    end = lines[1].index("rate") + len("rate")
    assert [line[:end].split()[-1] for line in lines if "web-" in line] == ["1,500/s", "0/s"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("order", [top.TOP_ORDER, status.STATUS_ORDER])
def test_no_line_is_longer_than_the_terminal_is_wide(width, order):
    lines = drawn(as_json(shop()), width, order=order).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == len(drawn(as_json(shop()), 200).splitlines())


@pytest.mark.parametrize("height", [7, 8, 9, 10, 40])
def test_no_more_lines_than_the_terminal_has(height):
    assert len(drawn(as_json(shop()), height=height).splitlines()) <= height


def test_the_natural_width_leaves_nothing_out():
    told = as_json(shop())
    heading = drawn(told, natural_width(told, top.TOP_ORDER)).splitlines()[1]
    assert all(column.heading in heading for column in STATUS_COLUMNS.values())


def test_many_phrases_are_cut_short():
    told = as_json(attrs.evolve(shop(), waiting=tuple(f"web-{number} has not joined" for number in range(9))))
    assert [" ".join(line) for line in words(drawn(told))[-2:]] == [
        "waiting for web-3 has not joined",
        "… 5 more",
    ]


def test_internal_errors_are_named_with_where_to_look():
    status = shop()
    web = tuple(
        attrs.evolve(each, load=attrs.evolve(each.load, internal_errors=count))
        for each, count in zip(status.tiers["web"].nodes, (3, 0), strict=True)
    )
    tiers = {**status.tiers, "web": TierStatus("l7", None, ("app",), web)}
    told = as_json(attrs.evolve(status, tiers=tiers, internal_errors=1, waiting=()))
    expected = "internal errors: 1 in the controller, 3 in web-1; see internal_error in the log of each"
    assert " ".join(words(drawn(told))[-1]) == expected
    assert "internal errors" not in drawn(as_json(shop()))


def test_what_health_checks_find_stands_below_and_is_not_cut_where_there_is_room():
    reason = "answered 503, expected 200-399, " + "which is a long story " * 20
    bad = host("app/127.0.0.1:9001", 1.0, availability="unhealthy", problem=reason)
    status = shop()
    web = (node("web-1", 7001, bad), node("web-2", 7002, bad))
    told = as_json(attrs.evolve(status, tiers={**status.tiers, "web": TierStatus("l7", None, ("app",), web)}))
    lines = drawn(told, natural_width(told, top.TOP_ORDER)).splitlines()
    assert [line.rstrip() for line in lines[-2:]] == [
        "  waiting for edge: 1 of 2 nodes serve; edge-2 has not joined",
        f"  127.0.0.1:9001: {reason}".rstrip(),
    ]


def test_square_brackets_and_escapes_from_nodes_are_only_text():
    told = as_json(attrs.evolve(shop(), waiting=("web-1 refused: [red]no[/] \x1b[2J",)))
    assert words(drawn(told))[-1] == ["waiting", "for", "web-1", "refused:", "[red]no[/]", "�[2J"]


def test_what_is_out_of_the_ordinary_has_its_colour():
    by_name = {row.name: row for group in groups_of(as_json(shop())) for row in (group.total, *group.hosts)}
    styles = {name: STATUS_COLUMNS["state"].style(row) for name, row in by_name.items()}
    assert (styles["web-1"], styles["web-2"], styles["edge-2"]) == ("green", "red", "red")
    assert (styles["edge l4 → web"], styles["app pool"]) == ("yellow", "")
    assert [STATUS_COLUMNS["use"].style(StatusRow("x", utilisation=use)) for use in (None, 0.5, 0.8, 1.2)] == [
        "",
        "",
        "yellow",
        "red",
    ]
    assert [STATUS_COLUMNS["age"].style(StatusRow("x", age_s=age)) for age in (None, 2.0, 60.0)] == ["", "", "red"]


@pytest.mark.parametrize(
    ("serving", "starting", "word"),
    [(True, False, "serving"), (False, False, "not serving"), (False, True, "starting")],
)
def test_the_first_word_is_how_far_the_cluster_is(serving, starting, word):
    told = as_json(attrs.evolve(shop(), serving=serving, starting=starting))
    assert drawn(told).splitlines()[0].split("  ")[1] == word


@pytest.mark.parametrize(
    ("use", "days", "said"),
    [
        ("clients", 60.4, "certificate /shop.pem for shop.example expires in 60 days"),
        ("clients", 14.0, "certificate /shop.pem for shop.example expires in 14 days"),
        ("pool app", 13.9, "certificate /shop.pem (pool app) for shop.example expires in 14 days: renew it, and nodes"),
        ("cluster", 1.26, "(cluster) for shop.example expires in 1.3 days: renew it, and nodes take the new file"),
        ("admin API", -3.0, "certificate /shop.pem (admin API) for shop.example has expired: renew it, and restart"),
    ],
)
def test_certificates_are_below_the_table_with_a_hint_where_they_are_to_be_renewed(use, days, said):
    certificate = CertificateStatus("/shop.pem", ("shop.example",), 0.0, use, days, ("web-1",))
    told = as_json(attrs.evolve(shop(), certificates=(certificate,)))
    text = " ".join(drawn(told, natural_width(told, top.TOP_ORDER)).split())
    assert said in text
    assert ("renew it" in text) == (days < 14)
