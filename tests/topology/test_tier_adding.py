"""`tier add` as an edit of the text: exact text before and after, and every refusal."""

from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.topology.shops import BLOCK_TO, FLOW, POOLS, SHOP, TWO_WAYS, l7, tiers
from tierlb.model.topology import Policy
from tierlb.topology.edit import edited
from tierlb.topology.load import load_text
from tierlb.topology.verbs import AddTier, Edit, EditError, RemoveTier


@pytest.mark.parametrize(
    ("edit", "old", "new"),
    [
        (
            l7("mid", ("edge", "web"), replicas=2),
            "    to: web  # what else\n",
            """\
    to: mid  # what else

  mid:
    kind: l7
    replicas: 2
    to: web
""",
        ),
        (
            AddTier("outer", "l4", above="edge", policy=Policy.RANDOM),
            """\
  # The edge
  # is where clients call.
  edge:
    kind: l4
    # the public one
    listen: 127.0.0.1:8080  # for all
""",
            """\
  outer:
    kind: l4
    # the public one
    listen: 127.0.0.1:8080  # for all
    balance: random
    to: edge

  # The edge
  # is where clients call.
  edge:
    kind: l4
""",
        ),
        (
            l7("mid", above="web"),
            """\
    to: web  # what else

  # ---- inside ----

""",
            """\
    to: mid  # what else

  # ---- inside ----

  mid:
    kind: l7
    to: web

""",
        ),
        (
            l7("mid", above="app"),
            """\
      - to: 'app'  # the shop
    # timeouts: {idle: 1m}
""",
            """\
      - to: 'mid'  # the shop
    # timeouts: {idle: 1m}

  mid:
    kind: l7
    to: app
""",
        ),
        (
            l7("mid", below="edge"),
            "    to: web  # what else\n",
            """\
    to: mid

  mid:
    kind: l7
    to: web  # what else
""",
        ),
        (
            l7("mid", below="web"),
            """\
      - to: 'app'  # the shop
    # timeouts: {idle: 1m}
""",
            """\
      - to: mid
    # timeouts: {idle: 1m}

  mid:
    kind: l7
    to: 'app'  # the shop
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
        # every way to write a mention
        (
            tiers(BLOCK_TO),
            l7("mid", ("edge", "web")),
            tiers(
                BLOCK_TO.replace("- web", "- mid").replace("  web:", "  mid:\n    kind: l7\n    to: web\n  web:"),
            ),
        ),
        (
            tiers(BLOCK_TO),
            l7("mid", ("web", "b")),
            tiers(BLOCK_TO.replace("b: 90", "mid: 90") + "  mid:\n    kind: l7\n    to: b\n"),
        ),
        (
            tiers(BLOCK_TO),
            l7("mid", below="web"),
            tiers(
                BLOCK_TO.replace(
                    "    to:\n      # by share",
                    "    to: mid\n  mid:\n    kind: l7\n    to:\n      # by share",
                )
            ),
        ),
        (
            tiers(BLOCK_TO),
            l7("mid", below="edge"),
            tiers(
                BLOCK_TO.replace(
                    "    to:  # together\n",
                    "    to: mid\n  mid:\n    kind: l7\n    to:  # together\n",
                )
            ),
        ),
        # everything in braces
        (
            FLOW,
            l7("mid", ("web", "b"), replicas=2),
            FLOW.replace("[a, b]}", "[a, mid]}, mid: {kind: l7, replicas: 2, to: b}"),
        ),
        (
            FLOW,
            l7("mid", above="edge"),
            FLOW.replace(
                "edge: {kind: l7, listen: '127.0.0.1:8080', to",
                "mid: {kind: l7, listen: '127.0.0.1:8080', to: edge}, edge: {kind: l7, to",
            ),
        ),
        (
            FLOW,
            l7("mid", below="web"),
            FLOW.replace("web: {kind: l7, to: [a, b]}", "web: {kind: l7, to: mid}, mid: {kind: l7, to: [a, b]}"),
        ),
        # names that YAML could take for something else
        (
            tiers("  edge: {kind: l7, listen: ':0', to: a}\n", "a"),
            l7("1e3", ("edge", "a")),
            tiers('  edge: {kind: l7, listen: \':0\', to: "1e3"}\n  "1e3":\n    kind: l7\n    to: a\n', "a"),
        ),
        # line ends, and a last line without one
        (
            SHOP.replace("\n", "\r\n"),
            l7("mid", ("edge", "web")),
            edited(SHOP, l7("mid", ("edge", "web"))).replace("\n", "\r\n"),
        ),
        (
            POOLS[:-1].replace("pools", "cluster: x\npools")
            + "\ntiers:\n  edge:\n    kind: l7\n    listen: ':0'\n    to: [a, b, c]",
            l7("mid", ("edge", "c")),
            POOLS[:-1].replace("pools", "cluster: x\npools")
            + "\ntiers:\n  edge:\n    kind: l7\n    listen: ':0'\n    to: [a, b, mid]\n  mid:\n    kind: l7\n    to: c",
        ),
        # aliases: the mention itself may change, what it stands for may not
        (
            tiers("  edge: {kind: l7, listen: ':0', to: &x a}\n  web: {kind: l7, listen: ':0', to: *x}\n", "a"),
            l7("mid", ("web", "a")),
            tiers(
                "  edge: {kind: l7, listen: ':0', to: &x a}\n  web: {kind: l7, listen: ':0', to: mid}\n"
                "  mid:\n    kind: l7\n    to: a\n",
                "a",
            ),
        ),
    ],
)
def test_every_way_to_write_a_file_can_be_edited(before: str, edit: Edit, after: str) -> None:
    assert edited(before, edit) == after


@pytest.mark.parametrize(
    ("text", "edit", "said"),
    [
        (SHOP, l7("Mid", ("edge", "web")), "'Mid' is not a name: write at most 40 of a-z, 0-9 and - (not first)"),
        (
            SHOP,
            l7("web", ("edge", "web")),
            "there is a tier named 'web' already: choose another name, such as 'web-2'",
        ),
        (
            SHOP,
            l7("app", ("edge", "web")),
            "there is a pool named 'app' already: choose another name, such as 'app-2'",
        ),
        (
            SHOP.replace("web", "a" * 40),
            l7("a" * 40, above="app"),
            f"there is a tier named {'a' * 40!r} already: choose another name, such as '{'a' * 35}-2'",
        ),
        (
            SHOP,
            l7("mid"),
            "choose where the tier goes: --between ABOVE BELOW, --above NAME or --below NAME, one of them",
        ),
        (
            SHOP,
            l7("mid", ("edge", "web"), above="web"),
            "choose where the tier goes: --between ABOVE BELOW, --above NAME or --below NAME, one of them",
        ),
        (SHOP, l7("mid", ("edgy", "web")), "no tier or pool named 'edgy' (did you mean 'edge'?)"),
        (SHOP, l7("mid", ("edge", "wbe")), "no tier or pool named 'wbe' (did you mean 'web'?)"),
        (SHOP, l7("mid", above="xyz"), "no tier or pool named 'xyz': there are 'edge', 'web' and 'app'"),
        (SHOP, l7("mid", below="ap"), "no tier or pool named 'ap' (did you mean 'app'?)"),
        (
            SHOP,
            l7("mid", ("app", "web")),
            "'app' is a pool, which sends nowhere: name a tier here ('edge' and 'web')",
        ),
        (SHOP, l7("mid", below="app"), "'app' is a pool, which sends nowhere: name a tier here ('edge' and 'web')"),
        (
            SHOP,
            l7("mid", ("edge", "app")),
            "tier 'edge' sends to 'web', not to 'app': write --between edge web",
        ),
        (
            TWO_WAYS,
            l7("mid", ("front", "c")),
            "tier 'front' sends to 'a' and 'b', not to 'c': choose one of these",
        ),
        (
            TWO_WAYS,
            l7("mid", ("idle", "c")),
            "tier 'idle' sends nowhere: it answers by itself; choose a tier that sends to 'c'",
        ),
        (
            TWO_WAYS,
            l7("mid", below="idle"),
            "tier 'idle' sends nowhere: it answers by itself; choose a tier that sends to others",
        ),
        (
            TWO_WAYS,
            l7("mid", below="front"),
            "the routes of tier 'front' send to 'a' and 'b', and one tier below cannot distinguish them: "
            "write --between front and one of them",
        ),
    ],
)
def test_an_edit_that_does_not_apply_says_what_to_do(text: str, edit: Edit, said: str) -> None:
    load_text(text, "f")
    with pytest.raises(EditError) as caught:
        edited(text, edit)
    assert str(caught.value) == said


def test_tls_of_listeners_does_not_move_to_a_tier_that_would_end_it_otherwise(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue()
    tls = f"{{certificates: [{{certificate: {files.certificate}, key: {files.key}}}]}}"
    text = f"cluster: x\ntiers:\n  web: {{kind: l7, listen: {{address: ':443', tls: {tls}}}, to: app}}\n"
    text += "pools: {app: {agents: true}}\n"
    with pytest.raises(EditError, match="write tls at the tier itself, which stays there, or --kind l7"):
        edited(text, AddTier("edge", "l4", above="web"))
    assert text.count("tls") == edited(text, l7("edge", above="web")).count("tls")


def test_tls_of_a_tier_moves_with_its_listeners_to_one_that_ends_it_in_the_same_way(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue()
    tls = f"{{certificates: [{{certificate: {files.certificate}, key: {files.key}}}]}}"
    listen = "[':443', {address: ':80', tls: off}]"
    text = f"cluster: x\ntiers:\n  web:\n    kind: l7\n    listen: {listen}\n    tls: {tls}\n    to: app\n"
    text += "pools: {app: {agents: true}}\n"
    tiers = load_text(edited(text, l7("front", above="web")), "f").tiers
    assert (tiers["front"].tls is None, tiers["web"].tls) == (False, None)
    assert (len(tiers["front"].listen), tiers["web"].listen) == (2, ())
    back = load_text(edited(edited(text, l7("front", above="web")), RemoveTier("front")), "f").tiers["web"]
    assert (len(back.listen), back.tls is None) == (2, False), "and back"
    plain = text.replace(", {address: ':80', tls: off}", "")
    tiers = load_text(edited(plain, AddTier("edge", "l4", above="web")), "f").tiers
    assert (tiers["edge"].tls, tiers["web"].tls is None) == (None, False)


def test_a_new_tier_can_go_by_the_weights_below_it() -> None:
    text = tiers("  edge: {kind: l7, listen: ':0', to: w}\n", "")
    text += "  w: {endpoints: {127.0.0.1:9009: 2}}\n"
    after = edited(text, l7("mid", ("edge", "w"), policy=Policy.WEIGHTED))
    assert load_text(after, "f").tiers["mid"].balance is Policy.WEIGHTED
