"""`tier remove` as an edit of the text: exact text before and after, and every refusal."""

import re

import pytest

from tests.topology.shops import ANCHORS, BLOCK_TO, FLOW, LOWER, SHARES, SHOP, TWO_WAYS, UPPER, l7, tiers
from tierlb.topology.edit import edited
from tierlb.topology.load import load_text
from tierlb.topology.verbs import Edit, EditError, RemoveTier


@pytest.mark.parametrize(
    ("edit", "old", "new"),
    [
        (
            RemoveTier("edge"),
            SHOP[SHOP.index("  # The edge") : SHOP.index("    replicas: 3")],
            """\
  # ---- inside ----

  web:  # reads HTTP
    kind: l7
    # the public one
    listen: 127.0.0.1:8080  # for all
""",
        ),
    ],
    ids=str,
)
def test_an_edit_changes_its_own_lines_and_no_others(edit: Edit, old: str, new: str) -> None:
    assert SHOP.count(old) == 1
    assert edited(SHOP, edit) == SHOP.replace(old, new)


@pytest.mark.parametrize(
    ("before", "edit", "after"),
    [
        (
            FLOW,
            RemoveTier("edge"),
            FLOW.replace("edge: {kind: l7, listen: '127.0.0.1:8080', to: web}, ", "").replace(
                "{kind: l7, to: [a", "{kind: l7, listen: '127.0.0.1:8080', to: [a"
            ),
        ),
        (FLOW, RemoveTier("web"), FLOW.replace(", web: {kind: l7, to: [a, b]}", "").replace("to: web", "to: [a, b]")),
    ],
)
def test_every_way_to_write_a_file_can_be_edited(before: str, edit: Edit, after: str) -> None:
    assert edited(before, edit) == after


@pytest.mark.parametrize(
    ("text", "edit", "said"),
    [
        (SHOP, RemoveTier("wbe"), "no tier or pool named 'wbe' (did you mean 'web'?)"),
        (SHOP, RemoveTier("app"), "'app' is a pool, which sends nowhere: name a tier here ('edge' and 'web')"),
        (
            TWO_WAYS,
            RemoveTier("front"),
            "tier 'front' decides by its routes, which 'edge' cannot do for it: write one `to` in it instead of "
            "routes, or let nothing send to it, then remove it",
        ),
        (
            tiers(
                "  up: {kind: l7, listen: ':0', routes: [{match: {path: /x}, to: low}]}\n" + LOWER.format(to="a"), "a"
            ),
            RemoveTier("up"),
            "tier 'up' decides by its routes, which 'low' cannot do for it: write one `to` in it instead of "
            "routes, or let nothing send to it, then remove it",
        ),
        (
            tiers(UPPER.format(to="[low, c]") + LOWER.format(to="{a: 2, b: 1}")),
            RemoveTier("low"),
            "tier 'low' splits by shares, and a list in tier 'up' that names it cannot: write tiers.low.to as a list, "
            "or the list in tier 'up' as shares, then remove it",
        ),
        (
            tiers(UPPER.format(to="{low: 1, c: 1}") + LOWER.format(to="[a, b]")),
            RemoveTier("low"),
            "tier 'low' sends to 'a' and 'b' together, and shares in tier 'up' that name it cannot: "
            "write tiers.low.to as shares, then remove it",
        ),
        (
            SHARES,
            RemoveTier("low"),
            "the 1 parts of 'low' in tier 'up' cannot be divided by its own shares: "
            "multiply all shares there by 3, then remove it",
        ),
        (
            ANCHORS.replace("two: *x", "? two\n  : *x"),
            RemoveTier("two"),
            "line 4: write the key 'two' plainly, as key: value, and try again",
        ),
    ],
)
def test_an_edit_that_does_not_apply_says_what_to_do(text: str, edit: Edit, said: str) -> None:
    load_text(text, "f")
    with pytest.raises(EditError) as caught:
        edited(text, edit)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("upper", "lower", "after"),
    [
        ("low", "a", "a"),
        ("low", "[a, b]", "[a, b]"),
        ("low", "{a: 2, b: 1}", "{a: 2, b: 1}"),
        ("{low: 5}", "[a, b]", "[a, b]"),
        ("{low: 5}", "{a: 2, b: 1}", "{a: 2, b: 1}"),
        ("{low:  9, c: &x 1}", "a", "{a:  9, c: &x 1}"),
        ("[c, low]", "a", "[c, a]"),
        ("[low, c]", "[a, b]", "[a, b, c]"),
        ("[low, a, c]", "[a, b]", "[b, a, c]"),
        ("[low, a, c]", "a", "[a, c]"),
        ("[c, low]", "{a: 5}", "[c, a]"),
        ("{c: 10, low: 90}", "a", "{c: 10, a: 90}"),
        ("{c: 10, low: 90}", "{a: 2, b: 1}", "{c: 10, a: 60, b: 30}"),
        ("{c: 1, low: 1}", "{a: 3, b: 1}", "{c: 1, a: 0.75, b: 0.25}"),
        ("{c: 1, low: 4}", "{a: .1, b: .3}", "{c: 1, a: 1, b: 3}"),
        ("{c: 1, low: 0}", "{a: 3, b: 1}", "{c: 1, a: 0, b: 0}"),
        ("{a: 10, low: 90}", "a", "{a: 100}"),
        ("{a: 10, low: 90}", "{a: 2, b: 1}", "{a: 70, b: 30}"),
        ("{low: 1.5, a: .5}", "{a: 2, b: 1}", "{b: 0.5, a: 1.5}"),
    ],
)
def test_what_a_removed_tier_sent_to_takes_its_place(upper: str, lower: str, after: str) -> None:
    used = "".join(name for name in "abc" if re.search(rf"\b{name}\b", f"{upper} {lower}"))
    before = tiers(UPPER.format(to=upper) + LOWER.format(to=lower), used)
    assert edited(before, RemoveTier("low")) == tiers(UPPER.format(to=after), used)


def test_block_forms_move_up_as_they_are_written() -> None:
    before = tiers(BLOCK_TO.replace("- a\n      - web", "web"), "bc")
    assert edited(before, RemoveTier("web")) == tiers(
        """\
  edge:
    kind: l7
    listen: 127.0.0.1:8080
    to:
      # by share
      b: 90
      c: 10  # few  # new
""",
        "bc",
    )


def test_lists_in_lines_take_more_lines() -> None:
    before = tiers(BLOCK_TO.replace("      # by share\n      b: 90\n      c: 10  # few", "      [b, c]"))
    assert edited(before, RemoveTier("web")) == tiers(
        """\
  edge:
    kind: l7
    listen: 127.0.0.1:8080
    to:  # together
      - a
      - b
      - c  # new
"""
    )


def test_routes_that_all_do_the_same_are_one_forward() -> None:
    low = "  low: {kind: l7, routes: [{match: {path: /x}, to: [a, b]}, {to: [a, b]}]}\n"
    before = tiers(UPPER.format(to="low") + low, "ab")
    assert edited(before, RemoveTier("low")) == tiers(UPPER.format(to="[a, b]"), "ab")
    assert edited(before, l7("mid", below="low")) == tiers(
        UPPER.format(to="low") + low.replace("[a, b]", "mid") + "  mid:\n    kind: l7\n    to: [a, b]\n", "ab"
    )


def test_an_address_that_nothing_can_take_over_goes() -> None:
    text = tiers("  old: {kind: l7, listen: ':0', to: a}\n  new: {kind: l7, listen: ':0', to: a}\n", "a")
    assert edited(text, RemoveTier("old")) == tiers("  new: {kind: l7, listen: ':0', to: a}\n", "a")


def test_shares_multiplied_as_told_can_be_divided() -> None:
    after = edited(SHARES.replace("{low: 1, c: 1}", "{low: 3, c: 3}"), RemoveTier("low"))
    assert "{a: 2, b: 1, c: 3}" in after
