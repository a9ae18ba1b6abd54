"""Edits of topology files: exact text before and after, every refusal, and a second, obvious implementation on the
model that the edited text must load to."""

import re
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.topology.shops import ANCHORS, FLOW, LOWER, SHOP, TWO_WAYS, l7, tiers
from tierlb.model.topology import AUTO, Forward, Kind, Match, Policy, Route, Share, Tier, Topology
from tierlb.topology.cores import available_cores
from tierlb.topology.edit import edited
from tierlb.topology.load import load_text
from tierlb.topology.problems import TopologyError
from tierlb.topology.verbs import AddTier, Edit, EditError, RemoveTier, Scale, SetPolicy

TEXTS = [path.read_text() for path in sorted((Path(__file__).parents[2] / "topology").glob("*.yaml"))]


@pytest.mark.parametrize(
    ("edit", "old", "new"),
    [
        (Scale({"web": 5}), "    replicas: 3\n", "    replicas: 5\n"),
        (Scale({"web": "auto"}), "    replicas: 3\n", "    replicas: auto\n"),
        (Scale({"edge": 2}), "8080  # for all\n", "8080  # for all\n    replicas: 2\n"),
        (Scale({"app": 2}), '{port}"', '{port}", replicas: 2'),
        (SetPolicy("web", Policy.ROUND_ROBIN), "    replicas: 3\n", "    replicas: 3\n    balance: round-robin\n"),
    ],
    ids=str,
)
def test_an_edit_changes_its_own_lines_and_no_others(edit: Edit, old: str, new: str) -> None:
    assert SHOP.count(old) == 1
    assert edited(SHOP, edit) == SHOP.replace(old, new)


@pytest.mark.parametrize("edit", [Scale({"web": 3, "edge": 1, "app": 1}), Scale({}), SetPolicy("web", "load-aware")])
def test_what_is_so_already_is_left_alone(edit: Edit) -> None:
    assert edited(SHOP, edit) == SHOP


@pytest.mark.parametrize("edit", [Scale({"web": 7, "edge": 2, "app": 2}), SetPolicy("edge", "random")])
def test_setting_the_same_twice_is_setting_it_once(edit: Edit) -> None:
    once = edited(SHOP, edit)
    assert once != SHOP
    assert edited(once, edit) == once


@pytest.mark.parametrize(
    ("before", "edit", "after"),
    [
        (FLOW, Scale({"web": 2}), FLOW.replace("web: {kind: l7", "web: {kind: l7, replicas: 2")),
        # a command over several lines
        (
            "cluster: x\ntiers: {e: {kind: l7, listen: ':0', to: p}}\npools:\n  p:\n    run:\n      command: >\n"
            "        serve\n        {port}\n\n# end\n",
            Scale({"p": 3}),
            "cluster: x\ntiers: {e: {kind: l7, listen: ':0', to: p}}\npools:\n  p:\n    run:\n      command: >\n"
            "        serve\n        {port}\n      replicas: 3\n\n# end\n",
        ),
    ],
)
def test_every_way_to_write_a_file_can_be_edited(before: str, edit: Edit, after: str) -> None:
    assert edited(before, edit) == after


def test_a_number_and_auto_are_different_even_where_they_are_the_same_number_of_nodes() -> None:
    auto = SHOP.replace("replicas: 3", "replicas: auto", 1)
    here = load_text(auto, "f").tiers["web"].replicas
    fixed = auto.replace("replicas: auto", f"replicas: {here}")
    assert edited(fixed, Scale({"web": "auto"})) == edited(auto, Scale({"web": "auto"})) == auto
    assert edited(auto, Scale({"web": here})) == edited(fixed, Scale({"web": here})) == fixed


@pytest.mark.parametrize(
    ("text", "edit", "said"),
    [
        (SHOP, Scale({"wbe": 2}), "no tier or pool named 'wbe' (did you mean 'web'?)"),
        (
            TWO_WAYS,
            Scale({"a": 2}),
            "pool 'a' starts nothing: only tiers, and pools with run, have replicas",
        ),
        (
            SHOP,
            Scale({"app": "auto"}),
            "pool 'app' runs as many processes as its file says: write a number; auto is for tiers",
        ),
        (SHOP, SetPolicy("wbe", "random"), "no tier or pool named 'wbe' (did you mean 'web'?)"),
        (
            SHOP,
            SetPolicy("app", "random"),
            "'app' is a pool, which sends nowhere: name a tier here ('edge' and 'web')",
        ),
        (
            ANCHORS,
            Scale({"two": 2}),
            "line 3: the edit changes what &x shares with another place: "
            "write it out in both places, without &x, and try again",
        ),
    ],
)
def test_an_edit_that_does_not_apply_says_what_to_do(text: str, edit: Edit, said: str) -> None:
    load_text(text, "f")
    with pytest.raises(EditError) as caught:
        edited(text, edit)
    assert str(caught.value) == said


HINT = "; the file would be so without tier {!r}: change this first, then remove the tier"


@pytest.mark.parametrize(
    ("text", "edit", "said"),
    [
        (
            SHOP + "zones: 1\n",
            Scale({"web": 2}),
            ["28:1: zones: unknown key: known here are cluster, admin, store, security, t"],
        ),
        (SHOP, Scale({"web": 0}), ["17:15: tiers.web.replicas: '0' is out of range: write 1 to 1000"]),
        (SHOP, Scale({"app": 1001}), ["27:50: pools.app.run.replicas: '1001' is out of range: write 1 to 1000"]),
        (
            SHOP,
            l7("mid", above="web", replicas=-1),
            ["17:15: tiers.mid.replicas: '-1' is out of range: write 1 to 100"],
        ),
        (
            tiers("  edge: {kind: l7, listen: ':0', to: [a, low]}\n" + LOWER.format(to="b"), "ab"),
            RemoveTier("edge"),
            [
                "3:3: tiers.low: nothing reaches this tier: give it a listen address or name it in another tier's to"
                + HINT.format("edge"),
                "5:3: pools.a: no tier sends to this pool" + HINT.format("edge"),
            ],
        ),
        (
            tiers("  edge: {kind: l7, listen: ':0', to: a}\n", "a"),
            RemoveTier("edge"),
            [
                "2:1: tiers: has no value: write a mapping by name, or leave the key out" + HINT.format("edge"),
            ],
        ),
        (
            tiers("  edge: {kind: l7, listen: ':0', balance: weighted, to: w}\n", "")
            + "  w: {endpoints: {127.0.0.1:9009: 2}}\n",
            l7("mid", ("edge", "w")),
            ["3:43: tiers.edge.balance: nothing that it sends to ('mid') has weights: weights belong"],
        ),
    ],
)
def test_what_the_loader_finds_is_raised_as_it_says_it(text: str, edit: Edit, said: list[str]) -> None:
    with pytest.raises(TopologyError) as caught:
        edited(text, edit)
    for problem, start in zip(caught.value.problems, said, strict=True):
        assert str(problem).startswith(f"FILE:{start}")


def test_problems_are_reported_under_the_name_of_the_file() -> None:
    with pytest.raises(TopologyError, match=r"^shop\.yaml:17:15: "):
        edited(SHOP, Scale({"web": 0}), "shop.yaml")


# The obvious implementation: on the model, with no text.


def expected(topology: Topology, edit: Edit) -> Topology:
    """What the edited text must load to, if the edit applies."""
    match edit:
        case Scale(replicas):
            tiers = {name: scaled(tier, replicas.get(name)) for name, tier in topology.tiers.items()}
            pools = {
                name: attrs.evolve(pool, run=scaled(pool.run, replicas.get(name)))
                for name, pool in topology.pools.items()
            }
            return attrs.evolve(topology, tiers=tiers, pools=pools)
        case SetPolicy(name, policy):
            return with_tiers(topology, attrs.evolve(topology.tiers[name], balance=policy))
        case RemoveTier(name):
            return without_tier(topology, topology.tiers[name])
        case AddTier():
            return with_new_tier(topology, edit)


def scaled(thing: Any, replicas: Any) -> Any:
    if replicas == AUTO:
        return attrs.evolve(thing, replicas=available_cores(), per_core=True)
    return attrs.evolve(thing, replicas=replicas) if replicas else thing


def with_tiers(topology: Topology, *changed: Tier) -> Topology:
    return attrs.evolve(topology, tiers=topology.tiers | {tier.name: tier for tier in changed})


def with_new_tier(topology: Topology, edit: AddTier) -> Topology:
    kind_default = load_text(tiers(f"  t: {{kind: {edit.kind.value}, listen: ':0', to: a}}\n", "a"), "f").tiers["t"]
    new = attrs.evolve(kind_default, name=edit.name, listen=None, replicas=edit.replicas)
    new = attrs.evolve(new, balance=edit.policy or new.balance)
    if edit.below:
        old = topology.tiers[edit.below]
        forward = next(route.action for route in old.routes if isinstance(route.action, Forward))
        to_new = Forward((Share(1.0, (edit.name,)),))
        routes = tuple(
            attrs.evolve(route, action=to_new) if isinstance(route.action, Forward) else route for route in old.routes
        )
        new = attrs.evolve(new, routes=(Route(Match(), forward),))
        return with_tiers(topology, attrs.evolve(old, routes=routes), new)
    senders, target = ((edit.between[0],), edit.between[1]) if edit.between else (tuple(topology.tiers), edit.above)
    assert target is not None
    changed = [bypassed(topology.tiers[name], target, Forward((Share(1.0, (edit.name,)),))) for name in senders]
    new = attrs.evolve(new, routes=(Route(Match(), Forward((Share(1.0, (target,)),))),))
    if edit.above in topology.tiers and not topology.parents(edit.above):
        entrance = topology.tiers[edit.above]
        new = attrs.evolve(new, listen=entrance.listen)
        changed = [attrs.evolve(tier, listen=None) if tier.name == edit.above else tier for tier in changed]
    return with_tiers(topology, *changed, new)


def without_tier(topology: Topology, tier: Tier) -> Topology:
    forward = tier.routes[-1].action
    left = {name: other for name, other in topology.tiers.items() if name != tier.name}
    if isinstance(forward, Forward):
        left = {name: bypassed(other, tier.name, forward) for name, other in left.items()}
    heir = left.get(tier.targets[0]) if len(tier.targets) == 1 else None
    if heir and not heir.listen:
        left[heir.name] = attrs.evolve(heir, listen=tier.listen)
    return attrs.evolve(topology, tiers=left)


def bypassed(tier: Tier, name: str, forward: Forward) -> Tier:
    """The tier as it sends to what `forward` says wherever it sent to `name`."""
    routes = [
        attrs.evolve(route, action=Forward(tuple(shares_without(route.action, name, forward))))
        if isinstance(route.action, Forward)
        else route
        for route in tier.routes
    ]
    return attrs.evolve(tier, routes=tuple(routes))


def shares_without(action: Forward, name: str, forward: Forward) -> list[Share]:
    if all(name not in share.targets for share in action.shares):
        return list(action.shares)
    if len(action.shares) == 1 and action.shares[0].targets == (name,):
        return list(forward.shares)
    if len(action.shares) == len(forward.shares) == 1:
        names = action.shares[0].targets
        at = names.index(name)
        new = [target for target in forward.shares[0].targets if target not in names]
        return [Share(action.shares[0].weight, (*names[:at], *new, *names[at + 1 :]))]
    weights: dict[str, Fraction] = {}
    total = sum(Fraction(share.weight) for share in forward.shares)
    for share in action.shares:
        (target,) = share.targets
        parts = [(target, Fraction(1))]
        if target == name:
            parts = [(part.targets[0], Fraction(part.weight) / total) for part in forward.shares]
        for to, part in parts:
            weights[to] = weights.get(to, Fraction(0)) + Fraction(share.weight) * part
    return [Share(float(weight), (to,)) for to, weight in weights.items()]


def with_inherited(topology: Topology, edit: Edit, loaded: Topology) -> Topology:
    """What a new tier takes over from its neighbour is tested elsewhere (test_inherit.py)."""
    if not isinstance(edit, AddTier):
        return topology
    names = ("protocol", "responses", "timeouts", "limits", "trusted_peers", "paths", "drain_s")
    taken = {name: getattr(loaded.tiers[edit.name], name) for name in names}
    return with_tiers(topology, attrs.evolve(topology.tiers[edit.name], **taken))


def comparable(topology: Topology) -> Topology:
    """Equal where shares are in another order, and where one share has another weight: it takes everything anyway."""

    def ordered(forward: Forward) -> Forward:
        if len(forward.shares) == 1:
            return Forward((attrs.evolve(forward.shares[0], weight=1.0),))
        return Forward(tuple(sorted(forward.shares, key=lambda share: share.targets)))

    tiers = {
        name: attrs.evolve(
            tier,
            routes=tuple(
                attrs.evolve(route, action=ordered(route.action)) if isinstance(route.action, Forward) else route
                for route in tier.routes
            ),
        )
        for name, tier in topology.tiers.items()
    }
    return attrs.evolve(topology, tiers=tiers)


def random_edit(topology: Topology, random: Random, number: int) -> Edit:
    """Any edit with names that exist; not all of them apply."""
    tier = random.choice(list(topology.tiers.values()))
    name = random.choice([*topology.tiers, *topology.pools])
    kind = random.choice([Kind.L4, Kind.L7, tier.kind])
    replicas = random.choice([1, 2, 7])
    return random.choice(
        [
            AddTier(f"n{number}", kind, between=(tier.name, random.choice(tier.targets or (name,))), replicas=replicas),
            AddTier(f"n{number}", kind, above=name, replicas=replicas),
            AddTier(f"n{number}", kind, below=tier.name, replicas=replicas, policy=random.choice([None, *Policy])),
            RemoveTier(tier.name),
            Scale({name: random.choice([1, 2, 7])}),
            SetPolicy(tier.name, random.choice(list(Policy))),
        ]
    )


def comments(text: str) -> list[str]:
    return sorted(re.findall(r"#\d+\b", text))


def check_edits(text: str, random: Random, count: int = 6) -> int:
    """Carry out random edits; each result must be what the obvious implementation gives. How many could be."""
    done = 0
    for number in range(count):
        topology = load_text(text, "f")
        edit = random_edit(topology, random, number)
        try:
            after = edited(text, edit)
        except (EditError, TopologyError):
            continue
        loaded = load_text(after, "f")
        assert comparable(loaded) == comparable(with_inherited(expected(topology, edit), edit, loaded))
        if not isinstance(edit, RemoveTier):
            assert comments(after) == comments(text)
        if isinstance(edit, AddTier):
            assert comparable(load_text(edited(after, RemoveTier(edit.name)), "f")) == comparable(topology)
        text = after
        done += 1
    return done


@pytest.mark.parametrize("text", TEXTS)
def test_random_edits_are_not_all_refused(text: str) -> None:
    assert sum(check_edits(text, Random(seed)) for seed in range(4)) > 4


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(TEXTS), st.randoms(use_true_random=False))
def test_random_edits_of_the_examples_load_to_what_they_say(text: str, random: Random) -> None:
    check_edits(text, random)


@settings(deadline=None)
@given(st.sampled_from(TEXTS), st.data())
def test_a_tier_added_to_an_example_and_removed_again_leaves_the_text_as_it_was(text: str, data: st.DataObject) -> None:
    topology = load_text(text, "f")
    tier = data.draw(st.sampled_from([tier for tier in topology.tiers.values() if tier.targets]))
    target = data.draw(st.sampled_from(tier.targets))
    place = data.draw(
        st.sampled_from(
            [{"between": (tier.name, target)}, {"above": target}, {"above": tier.name}, {"below": tier.name}]
        )
    )
    try:
        added = edited(text, AddTier("added", tier.kind, policy=tier.balance, **place))
    except EditError:
        assert "below" in place
        assert len({route.action for route in tier.routes}) > 1
        return
    except TopologyError as error:
        if not any(reason in str(error) for reason in (") has weights: ", " takes datagrams (", " sends datagrams: ")):
            raise
        return
    assert edited(added, RemoveTier("added")) == text


class Writer:
    """Writes random topologies in random styles: in braces or in lines, quoted or not, with comments (#1, #2...)
    everywhere, spaced or not."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.comments = 0
        self.anchored = 0
        self.anchors: dict[str, str] = {}

    def text(self) -> str:
        names = [f"t{number}" for number in range(self.random.randint(1, 5))]
        pools = [f"p{number}" for number in range(self.random.randint(1, 3))]
        targets: dict[str, list[str]] = {name: [] for name in names}
        for index, name in enumerate([*names, *pools]):
            above = names[:index]
            senders = self.random.sample(above, min(len(above), self.random.choice([1, 1, 2])))
            for sender in senders:
                targets[sender].append(name)
        tiers = {name: self.tier(targets[name] or pools[:1], first=name == "t0") for name in names}
        whole = {"cluster": "x", "tiers": tiers, "pools": {name: {"run": {"command": "x {port}"}} for name in pools}}
        return self.head() + "\n".join(self.block(whole, 0)) + self.random.choice(["", "\n", "\n\n"])

    def head(self) -> str:
        return self.random.choice(["", "---\n", "# head\n\n"])

    def tier(self, targets: list[str], *, first: bool) -> dict[str, Any]:
        tier: dict[str, Any] = {"kind": "l7"}
        if first or self.random.random() < 0.2:
            tier["listen"] = "127.0.0.1:0"
        if self.random.random() < 0.4:
            tier["replicas"] = "3"
        if self.random.random() < 0.6:
            return tier | {"to": self.to(targets)}
        routes = [{"match": {"path": f"/{name}"}, "to": self.to([name])} for name in targets[1:]]
        return tier | {"routes": [*routes, {"to": self.to(targets[:1])}]}

    def to(self, names: list[str]) -> Any:
        if self.random.random() < 0.4:
            return {name: str(self.random.choice([1, 2, 4, 5, 10])) for name in names}
        return names[0] if len(names) == 1 and self.random.random() < 0.7 else names

    def comment(self, chance: float = 0.3) -> str:
        if self.random.random() > chance:
            return ""
        self.comments += 1
        return f"#{self.comments}"

    def scalar(self, text: str) -> str:
        if re.fullmatch("[0-9]+", text) or self.random.random() < 0.7:
            return f'"{text}"' if "{" in text else text
        return self.random.choice(["'{}'", '"{}"']).format(text)

    def flow(self, value: Any) -> str:
        """On one line; now and then with an anchor, or as an alias where one is there."""
        if repr(value) in self.anchors and self.random.random() < 0.2:
            return f"*{self.anchors[repr(value)]} "
        text = self.unshared(value)
        if self.random.random() > 0.1:
            return text
        self.anchored += 1
        self.anchors[repr(value)] = f"a{self.anchored}"
        return f"&{self.anchors[repr(value)]} {text}"

    def unshared(self, value: Any) -> str:
        if isinstance(value, dict):
            space = self.random.choice(["", " "])
            pairs = (f"{self.scalar(key)}: {self.flow(item)}" for key, item in value.items())
            return "{" + space + self.random.choice([", ", ",", " ,  "]).join(pairs) + space + "}"
        if isinstance(value, list):
            return "[" + self.random.choice([", ", ","]).join(map(self.flow, value)) + "]"
        return self.scalar(value)

    def block(self, value: Any, column: int) -> list[str]:
        lines: list[str] = []
        spaced = self.random.random() < 0.3
        step = self.random.choice([1, 2, 4])
        for index, item in enumerate(value.items() if isinstance(value, dict) else value):
            if spaced and index:
                lines.append("")
            if above := self.comment():
                lines += [" " * column + above] + [""] * self.random.randint(0, 1)
            head = f"{self.scalar(item[0])}:" if isinstance(value, dict) else "-"
            inner = item[1] if isinstance(value, dict) else item
            lines += self.entry(head, inner, column, step)
            if below := self.comment(0.1):
                lines.append(" " * (column + 1) + below)
        return lines

    def entry(self, head: str, value: Any, column: int, step: int) -> list[str]:
        margin = " " * column
        behind = f"  {comment}" if (comment := self.comment()) else ""
        if isinstance(value, str) or self.random.random() < 0.3:
            return [f"{margin}{head} {self.flow(value)}{behind}"]
        lines = self.block(value, column + step)
        if head != "-":
            return [f"{margin}{head}{behind}", *lines]
        plain = step > 1 and not lines[0].lstrip().startswith("#")
        return [f"{margin}-{lines[0][column + 1 :]}", *lines[1:]] if plain else [f"{margin}-", *lines]


@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False))
def test_random_edits_of_files_in_any_style_load_to_what_they_say(random: Random) -> None:
    check_edits(Writer(random).text(), random)


def test_edits_leave_the_store_and_its_files_alone(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    store = "store: {etcd: etcd://a:1/x, user: ann, password_file: password}  # theirs\n"
    text, file = store + SHOP, str(tmp_path / "shop.yaml")
    before = load_text(text, file)
    for edit in (Scale({"web": 9}), AddTier("mid", Kind.L4, between=("edge", "web"))):
        after = edited(text, edit, file)
        assert after.startswith(store)
        assert load_text(after, file).store == before.store
    assert before.store is not None
    assert before.store.files == {"password_file": f"{tmp_path}/password"}


def test_balancers_above_move_with_the_address_where_clients_call() -> None:
    text = """cluster: x
tiers:
  web:
    kind: l7
    listen: ':80'
    proxy_protocol: {accept_from: [10.0.0.0/8]}
    to: a
pools:
  a: {endpoints: ['10.0.0.1:1']}
"""
    topology = load_text(text, "f")
    above = edited(text, AddTier("edge", Kind.L4, above="web"))
    (listener,) = load_text(above, "f").tiers["edge"].listen
    assert listener == topology.tiers["web"].listen[0]
    assert load_text(edited(above, RemoveTier("edge")), "f") == topology
