"""Names in a text and in its topology."""

import pytest

from tests.topology.shops import SHOP
from tierlb.topology.load import load_text
from tierlb.topology.mentions import check_known, holders_of, listed, text_of, tier_named
from tierlb.topology.rewrite import Sheet
from tierlb.topology.verbs import EditError

TOPOLOGY = load_text(SHOP, "f")


@pytest.mark.parametrize(
    ("names", "text"), [(["a"], "'a'"), (["a", "b"], "'a' and 'b'"), (["a", "b", "c"], "'a', 'b' and 'c'")]
)
def test_names_are_listed(names: list[str], text: str) -> None:
    assert listed(names) == text


def test_a_tier_is_found_by_its_name() -> None:
    assert tier_named(TOPOLOGY, "web").name == "web"
    check_known(TOPOLOGY, "app")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("app", "'app' is a pool, which sends nowhere: name a tier here"),
        ("wep", "no tier or pool named 'wep' .did you mean 'web'.."),
        ("zzz", "no tier or pool named 'zzz': there are 'edge', 'web' and 'app'"),
    ],
)
def test_a_name_that_is_no_tier_is_refused(name: str, said: str) -> None:
    with pytest.raises(EditError, match=said):
        tier_named(TOPOLOGY, name)


def test_a_tier_and_its_routes_hold_what_it_sends_to() -> None:
    sheet = Sheet(SHOP)
    assert [
        [text_of(holder.entries["to"].value) for holder in holders_of(sheet, name)] for name in ("edge", "web")
    ] == [
        ["web"],
        ["app"],
    ]
