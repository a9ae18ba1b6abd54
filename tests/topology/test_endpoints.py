"""Verbs on single endpoints as edits of the text, and what the text then says."""

import pytest

from tierlb.model.address import parse_address
from tierlb.model.topology import Admin, Override
from tierlb.topology.diff import PoolChanged, differences
from tierlb.topology.edit import edited
from tierlb.topology.load import load_text
from tierlb.topology.plan import describe
from tierlb.topology.problems import TopologyError
from tierlb.topology.stages import transition
from tierlb.topology.verbs import EditError, SetEndpoint

ONE, TWO = parse_address("127.0.0.1:9001"), parse_address("127.0.0.1:9002")
TEXT = """\
cluster: shop
tiers:
  web: {kind: l7, listen: "127.0.0.1:8080", to: app}
pools:
  app:
%s
"""
FLOW = TEXT % "    endpoints: [127.0.0.1:9001, 127.0.0.1:9002]  # both"
BLOCK = TEXT % "    endpoints:\n      # the old one\n      - 127.0.0.1:9001  # here\n      - '127.0.0.1:9002'"
FLAT = TEXT % "    endpoints:\n    - 127.0.0.1:9001\n    - 127.0.0.1:9002"
WEIGHTS = TEXT % "    endpoints: {127.0.0.1:9001: 50, 127.0.0.1:9002: 10}"
LONG = TEXT % "    endpoints:\n      127.0.0.1:9001:\n        weight: 3\n        admin: drain\n      127.0.0.1:9002: 1"
DNS = TEXT % '    dns: "api.internal:8000"'
NEW = parse_address("10.0.0.5:8000")


def after(text, address=ONE, **what):
    return edited(text, SetEndpoint(f"app/{address}", **what))


CASES = [
    (FLOW, {"admin": Admin.DRAIN}, "endpoints: {127.0.0.1:9001: {admin: drain}, 127.0.0.1:9002: 1}  # both\n"),
    (FLOW, {"weight": 0.5}, "endpoints: {127.0.0.1:9001: 0.5, 127.0.0.1:9002: 1}  # both\n"),
    (
        BLOCK,
        {"admin": Admin.MAINTENANCE},
        "      # the old one\n      127.0.0.1:9001: {admin: maintenance}  # here\n      '127.0.0.1:9002': 1\n",
    ),
    (FLAT, {"admin": Admin.DRAIN}, "    endpoints:\n      127.0.0.1:9001: {admin: drain}\n      127.0.0.1:9002: 1\n"),
    (WEIGHTS, {"admin": Admin.DRAIN}, "{127.0.0.1:9001: {weight: 50, admin: drain}, 127.0.0.1:9002: 10}"),
    (WEIGHTS, {"weight": 0.0}, "{127.0.0.1:9001: 0, 127.0.0.1:9002: 10}"),
    (FLOW, {"weight": 0.12345678}, "endpoints: {127.0.0.1:9001: 0.12345678, 127.0.0.1:9002: 1}"),
    (WEIGHTS.replace("50", "999999.5"), {"admin": Admin.DRAIN}, "{127.0.0.1:9001: {weight: 999999.5, admin: drain}"),
    (LONG, {"admin": Admin.READY}, "      127.0.0.1:9001: 3\n      127.0.0.1:9002: 1\n"),
    (LONG, {"weight": 4.0}, "      127.0.0.1:9001: {weight: 4, admin: drain}\n      127.0.0.1:9002: 1\n"),
]


@pytest.mark.parametrize(("text", "what", "found"), CASES)
def test_one_endpoint_is_set_and_the_rest_of_the_text_stays(text, what, found):
    assert found in after(text, **what)


@pytest.mark.parametrize("text", [FLOW, BLOCK, FLAT, WEIGHTS, DNS])
def test_what_was_set_is_what_the_text_says_until_it_is_taken_back(text):
    address = NEW if text is DNS else ONE
    drained = after(text, address, admin=Admin.DRAIN)
    assert load_text(drained, "f").pools["app"].overrides == (Override(address, None, Admin.DRAIN),)
    ready = load_text(after(drained, address, admin=Admin.READY), "f").pools["app"]
    assert ready.overrides == ()
    assert ready.endpoints == load_text(text, "f").pools["app"].endpoints


def test_what_dns_finds_is_set_by_address_beside_the_name():
    one = after(DNS, NEW, admin=Admin.DRAIN)
    assert one == DNS + '    overrides: {"10.0.0.5:8000": {admin: drain}}\n'
    two = after(one, NEW, weight=1.0)
    assert '{"10.0.0.5:8000": {weight: 1, admin: drain}}' in two
    more = after(two, parse_address("10.0.0.6:8000"), weight=0.5)
    assert '{"10.0.0.5:8000": {weight: 1, admin: drain}, "10.0.0.6:8000": 0.5}' in more


def test_what_is_so_already_changes_nothing():
    assert after(FLOW, admin=Admin.READY) == FLOW
    assert after(WEIGHTS, weight=50.0) == WEIGHTS


REFUSED = [
    (FLOW, SetEndpoint(f"ap/{ONE}", Admin.DRAIN), "there is no pool ap: there are app"),
    (FLOW, SetEndpoint(f"app/{NEW}", Admin.DRAIN), "has no endpoint 10.0.0.5:8000: it lists 127.0.0.1:9001"),
    (TEXT % "    run: {command: 'x {port}'}", SetEndpoint(f"app/{ONE}", Admin.DRAIN), "`tierlb scale app=N`"),
    (TEXT % "    agents: true", SetEndpoint(f"app/{ONE}", Admin.DRAIN), "name the agent"),
    (LONG, SetEndpoint(f"app/{TWO}", Admin.DRAIN), "127.0.0.1:9002 is the last one of pool app that takes anything"),
    (LONG, SetEndpoint(f"app/{TWO}", weight=0.0), "is the last one of pool app"),
]


@pytest.mark.parametrize(("text", "edit", "said"), REFUSED)
def test_what_cannot_be_says_what_to_do(text, edit, said):
    with pytest.raises(EditError, match=said):
        edited(text, edit)


def test_an_endpoint_behind_an_alias_is_refused_with_its_line():
    text = TEXT % "    endpoints: [&a 127.0.0.1:9001, 127.0.0.1:9002]\n  other: {endpoints: [*a, 127.0.0.1:9003]}"
    text = text.replace("to: app", "to: [app, other]")
    with pytest.raises(EditError, match="line 7: write the item out"):
        edited(text, SetEndpoint(f"other/{ONE}", Admin.DRAIN))


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ("endpoints: {127.0.0.1:9001: {admin: drained}}", "did you mean 'drain'"),
        ("endpoints: {127.0.0.1:9001: {wait: 1}}", "unknown key"),
        ("endpoints: [127.0.0.1:9001]\n    overrides: {127.0.0.1:9001: 5}", "overrides"),
    ],
)
def test_wrong_values_have_their_place(pool, said):
    with pytest.raises(TopologyError, match=said):
        load_text(TEXT % f"    {pool}", "f")


def test_a_drain_is_a_change_like_any_other_in_words_and_in_one_stage():
    before, now = load_text(FLOW, "f"), load_text(after(FLOW, admin=Admin.DRAIN), "f")
    assert [type(change) for change in differences(before, now)] == [PoolChanged]
    (change,) = differences(before, now)
    assert [(field.before, field.after) for field in change.fields] == [("ready", "drain")]
    assert len(transition(before, now)) == 1
    assert "ready → drain: what is under way there finishes" in describe(before, now).lines[0]
    assert "drain → ready: it takes its share again" in describe(now, before).lines[0]
    cut = load_text(after(FLOW, admin=Admin.MAINTENANCE), "f")
    assert "drain → maintenance: what is under way there has the drain time" in describe(now, cut).lines[0]


def test_while_a_pool_changes_what_is_to_go_stays_as_it_was_wanted():
    """An endpoint that leaves the list is a host until the last stage."""
    gone = TEXT % "    endpoints: [127.0.0.1:9002]"
    for stage in transition(load_text(LONG, "f"), load_text(gone, "f"))[:-1]:
        pool = stage.pools["app"]
        if ONE in pool.endpoints:
            assert pool.overrides == (Override(ONE, None, Admin.DRAIN),)
