"""Transitions by table, then by their promises over random pairs of topologies, walked by a slow oracle."""

import copy
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.topology.clusters import ALONE, API, APP, EDGE, MID, RUN, WEB, shop
from tierlb.model.address import Address
from tierlb.model.topology import Forward, Match, Route, Share, Tier, Topology
from tierlb.topology.allot import takes_clients
from tierlb.topology.diff import differences, listener_text
from tierlb.topology.load import load_text
from tierlb.topology.plan import describe
from tierlb.topology.problems import TopologyError
from tierlb.topology.stages import Unsupported, transition


def sent(topology: Topology, name: str, route: int = 0) -> list[tuple[float, str]]:
    """Weight and targets of each share of one of the tier's routes."""
    action = topology.tiers[name].routes[route].action
    assert isinstance(action, Forward)
    return [(share.weight, " ".join(share.targets)) for share in action.shares]


def listening(topology: Topology) -> dict[str, int]:
    return {name: tier.listen[0].address.port for name, tier in topology.tiers.items() if tier.listen}


def asked(topology: Topology) -> dict[str, int]:
    return {name: tier.agent_check.port for name, tier in topology.tiers.items() if tier.agent_check}


def test_nothing_to_do_takes_no_stage() -> None:
    assert transition(shop(EDGE % "web", WEB), shop(WEB, EDGE % "web")) == ()


def test_a_cluster_that_starts_has_one_stage() -> None:
    new = shop(EDGE % "web", WEB)
    assert transition(None, new) == (new,)


@pytest.mark.parametrize(
    "web",
    [
        "web: {kind: l7, replicas: 5, to: app}",
        "web: {kind: l7, replicas: 1, to: app}",
        "web: {kind: l7, replicas: 2, to: app, balance: random}",
        "web: {kind: l7, replicas: 2, to: app, timeouts: {idle: 5s}, limits: {connections: 5}}",
        "web: {kind: l7, replicas: 2, routes: [{match: {path: /a}, respond: {}}, {to: app}]}",
    ],
)
def test_a_change_that_takes_no_place_of_traffic_away_is_one_stage(web: str) -> None:
    new = shop(EDGE % "web", web)
    assert transition(shop(EDGE % "web", WEB), new) == (new,)


def test_a_tier_between_two_others_exists_before_traffic_moves() -> None:
    old, new = shop(EDGE % "web", WEB), shop(EDGE % "mid", MID, WEB)
    prepare, blend, last = transition(old, new)
    assert [sent(stage, "edge") for stage in (prepare, blend)] == [[(1.0, "web")], [(1.0, "mid web")]]
    assert [sent(stage, "mid") for stage in (prepare, blend)] == [[(1.0, "web")]] * 2
    assert [tier.name for tier in prepare.parents("web")] == ["edge", "mid"]
    assert last is new


def test_a_tier_that_is_removed_gets_nothing_before_it_goes() -> None:
    old, new = shop(EDGE % "mid", MID, WEB), shop(EDGE % "web", WEB)
    blend, release, last = transition(old, new)
    assert [sent(stage, "edge") for stage in (blend, release)] == [[(1.0, "web mid")], [(1.0, "web")]]
    assert release.tiers["mid"] == old.tiers["mid"]
    assert last is new


def test_what_grows_does_so_before_anything_shrinks() -> None:
    def sized(*sizes: int) -> Topology:
        edge, web, app, api = sizes
        return shop(
            f"edge: {{kind: l4, listen: ':80', replicas: {edge}, to: web}}",
            f"web: {{kind: l7, replicas: {web}, to: [app, api]}}",
            pools=(f"app: {{{RUN % ('a', app)}}}", f"api: {{{RUN % ('a', api)}}}"),
        )

    new = sized(2, 5, 1, 4)
    assert transition(sized(3, 1, 4, 2), new) == (sized(3, 5, 4, 4), new)


def test_listed_endpoints_join_before_others_leave() -> None:
    web = "web: {kind: l7, listen: ':80', balance: weighted, to: app}"
    old = shop(web, pools=("app: {endpoints: {127.0.0.1:1: 3, 127.0.0.1:2: 3}}",))
    new = shop(web, pools=("app: {endpoints: {127.0.0.1:2: 5, 127.0.0.1:3: 7}}",))
    both, last = transition(old, new)
    assert [address.port for address in both.pools["app"].endpoints] == [2, 3, 1]
    assert both.pools["app"].weights == (5.0, 7.0, 3.0)
    assert last is new


def test_a_split_gets_to_know_new_targets_by_a_share_of_nothing() -> None:
    old = shop(EDGE % "{app: 1, api: 3}", pools=(APP, API))
    new = shop(EDGE % "{api: 2, app: 1, web: 5}", "web: {kind: l7, to: app}", pools=(APP, API))
    prepare, known, last = transition(old, new)
    assert sent(prepare, "edge") == [(1.0, "app"), (3.0, "api")]
    assert sent(known, "edge") == [(1.0, "app"), (3.0, "api"), (0.0, "web")]
    assert last is new


def test_another_split_over_the_same_targets_is_one_stage() -> None:
    old, new = (shop(EDGE % split, pools=(APP, API)) for split in ("{app: 1, api: 3}", "{app: 3, api: 1}"))
    assert transition(old, new) == (new,)


def test_routes_with_the_same_conditions_blend_one_by_one() -> None:
    web = "web: {kind: l7, listen: ':80', routes: [{match: {path: /a}, to: %s}, {match: {path: /b}, %s}, {to: %s}]}"
    old = shop(web % ("app", "respond: {}", "app"), pools=(APP,))
    new = shop(web % ("[app, api]", "redirect: {location: /c}", "api"), pools=(API, APP))
    _, blend, last = transition(old, new)
    assert sent(blend, "web", 0) == [(1.0, "app api")]
    assert blend.tiers["web"].routes[1] == old.tiers["web"].routes[1]
    assert sent(blend, "web", 2) == [(1.0, "api app")]
    assert last is new


def test_routes_with_other_conditions_change_once_their_targets_are_known() -> None:
    old = shop("web: {kind: l7, listen: ':80', routes: [{to: app}]}")
    new = shop("web: {kind: l7, listen: ':80', routes: [{match: {path: /a}, to: api}, {to: app}]}", pools=(APP, API))
    prepare, known, last = transition(old, new)
    assert prepare.tiers == old.tiers
    assert sent(known, "web") == [(1.0, "app"), (0.0, "api")]
    assert last is new


def test_routes_of_an_l4_tier_change_likewise() -> None:
    edge = "edge: {kind: l4, listen: ':443', routes: [%s{to: app}]}"
    old, new = shop(edge % ""), shop(edge % "{match: {sni: a.b}, to: api}, ", pools=(APP, API))
    prepare, known, last = transition(old, new)
    assert prepare.tiers == old.tiers
    assert sent(known, "edge") == [(1.0, "app"), (0.0, "api")]
    assert last is new
    moved = shop(edge % "{match: {sni: a.b}, to: app}, ", pools=(APP,))
    blend, *_, last = transition(new, moved)
    assert sent(blend, "edge") == [(1.0, "app api")]
    assert blend.tiers["edge"].routes[0].match == Match(sni=("a.b",))
    assert last is moved


def test_a_tier_that_only_answers_gets_to_know_targets_by_a_route_that_is_never_reached() -> None:
    old = shop("web: {kind: l7, listen: ':80', routes: [{match: {path: /a}, respond: {}}]}", ALONE.replace("web", "b"))
    new = shop("web: {kind: l7, listen: ':80', routes: [{to: b}]}", ALONE.replace("web", "b"))
    known, last = transition(old, new)
    assert known.tiers["web"].routes == (
        *old.tiers["web"].routes,
        Route(Match(path="/a"), Forward((Share(1.0, ("b",)),))),
    )
    assert last is new


def test_tiers_that_trade_places_move_one_after_the_other() -> None:
    a, b = "a: {kind: l4, %sto: %s}", "b: {kind: l4, %sto: %s}"
    listen = "listen: ':80', "
    old = shop(a % (listen, "b"), b % ("", "app"))
    new = shop(b % (listen, "a"), a % ("", "app"))
    stages = transition(old, new)
    assert [(sent(stage, "a"), sent(stage, "b"), list(listening(stage))) for stage in stages] == [
        ([(1.0, "app b")], [(1.0, "app")], ["a"]),
        ([(1.0, "app")], [(1.0, "app")], ["a"]),
        ([(1.0, "app")], [(1.0, "a app")], ["a", "b"]),
        ([(1.0, "app")], [(1.0, "a")], ["b"]),
    ]


def test_a_new_entrance_opens_beside_the_old_one_which_closes_after_it() -> None:
    old, new = shop(ALONE), shop(EDGE % "web", WEB)
    prepare, blend, last = transition(old, new)
    assert [listening(stage) for stage in (prepare, blend)] == [{"web": 8080}, {"web": 8080, "edge": 8080}]
    assert [tier.name for tier in prepare.parents("web")] == ["edge"]
    assert last is new


def test_an_entrance_that_goes_hands_its_address_down_first() -> None:
    old, new = shop(EDGE % "web", WEB), shop(ALONE)
    blend, release, last = transition(old, new)
    assert [listening(stage) for stage in (blend, release)] == [{"edge": 8080, "web": 8080}, {"web": 8080}]
    assert sent(release, "edge") == [(1.0, "web")]
    assert last is new


def test_a_tier_leaves_its_address_to_another_only_when_that_listens() -> None:
    old = shop("a: {kind: l7, listen: ':80', to: app}")
    new = shop("a: {kind: l7, listen: ':81', to: app}", "b: {kind: l7, listen: '127.0.0.1:80', to: app}")
    stages = transition(old, new)
    assert [listening(stage) for stage in stages] == [{"a": 80}, {"a": 80, "b": 80}, {"a": 81, "b": 80}]


def test_ports_that_the_kernel_chooses_are_nobodys() -> None:
    old = shop("a: {kind: l7, listen: ':0', to: app}")
    new = shop("a: {kind: l7, listen: ':81', to: app}", "b: {kind: l7, listen: ':0', to: app}")
    assert [listening(stage) for stage in transition(old, new)] == [{"a": 0}, {"a": 81, "b": 0}]


def listeners(topology: Topology, name: str) -> list[str]:
    return [listener_text(each) for each in topology.tiers[name].listen] if name in topology.tiers else []


def test_listeners_are_added_and_removed_beside_those_that_stay() -> None:
    old = shop("a: {kind: l7, listen: [':80', ':81'], to: app}")
    new = shop("a: {kind: l7, listen: [':80', ':82'], to: app}", "b: {kind: l7, listen: ':81', to: app}")
    stages = transition(old, new)
    at = {number: f"0.0.0.0:{number}" for number in (80, 81, 82)}
    assert [listeners(stage, "a") for stage in stages] == [
        [at[80], at[81]],
        [at[80], at[81], at[82]],
        [at[80], at[82]],
    ]
    assert [listeners(stage, "b") for stage in stages] == [[], [at[81]], [at[81]]]


def test_a_listener_with_other_settings_stays_where_it_is() -> None:
    old = shop("a: {kind: l7, listen: 'unix:/a', to: app}")
    new = shop("a: {kind: l7, listen: {address: 'unix:/a', mode: '0600'}, to: app}")
    assert [listeners(stage, "a") for stage in transition(old, new)] == [["{address: unix:/a, mode: 0600}"]]
    lines = describe(old, new).lines
    assert lines[0] == "a: listen: unix:/a → {address: unix:/a, mode: 0600}, for connections from then on"


AGENT = "%s: {kind: l7, listen: ':%d', to: app%s}"


@pytest.mark.parametrize(
    ("old", "new", "stages"),
    [
        (["a:9"], ["a:10"], [{"a": 10}]),
        (["a", "b:9"], ["a:9", "b"], [{}, {"a": 9}]),
        (["a:10", "b:9"], ["a:9", "b:10"], [{}, {"a": 9, "b": 10}]),
        (["b:9"], ["a:9", "b"], [{}, {}, {"a": 9}]),
        (["a", "b:9"], ["a:9"], [{}, {"a": 9}]),
    ],
)
def test_agent_checks_never_ask_for_a_port_that_another_tier_has(
    old: list[str], new: list[str], stages: list[dict[str, int]]
) -> None:
    def cluster(names: list[str]) -> Topology:
        pairs = [name.partition(":") for name in names]
        return shop(*(AGENT % (n, ord(n), check and f", agent_check: ':{check}'") for n, _, check in pairs))

    found = [asked(stage) for stage in transition(cluster(old), cluster(new))]
    assert found == stages


def test_a_tier_that_shrinks_to_one_node_is_asked_only_then() -> None:
    old = shop("a: {kind: l7, listen: ':80', replicas: 2, to: app}")
    new = shop("a: {kind: l7, listen: ':80', agent_check: ':9', to: app}")
    assert [(stage.tiers["a"].replicas, asked(stage)) for stage in transition(old, new)] == [(1, {}), (1, {"a": 9})]


def test_an_entrance_waits_for_the_port_of_an_agent_check() -> None:
    old = shop("a: {kind: l7, listen: ':80', agent_check: ':9', to: app}")
    new = shop("a: {kind: l7, listen: ':80', to: app}", "b: {kind: l7, listen: ':9', to: app}")
    assert [listening(stage) for stage in transition(old, new)] == [{"a": 80}, {"a": 80, "b": 9}]


def test_what_cannot_be_done_is_refused_with_all_reasons() -> None:
    old = shop(EDGE % "web", WEB)
    new = attrs.evolve(shop(EDGE % "web", WEB.replace("l7", "l4")), cluster="fair")
    with pytest.raises(ValueError, match=r"cluster: taken up at the start only.*; web cannot turn from an l7 tier"):
        transition(old, new)
    plan = describe(old, new)
    assert plan.stages == 0
    assert [unsupported.name for unsupported in plan.unsupported] == ["cluster", "web"]
    assert plan.unsupported[0] == Unsupported("cluster", plan.lines[0].removeprefix("not possible: "))


KINDS = {"edge": "l4", "relay": "l4", "front": "l7", "web": "l7", "back": "l7"}
POOLS = ("listed", "run", "join", "far")
PORTS = tuple(range(1, 2 * len(KINDS) + 1))

Data = dict[str, Any]
Edit = Callable[[st.DrawFn, Data], None]


@st.composite
def clusters(draw: st.DrawFn) -> Data:
    """A legal topology file: tiers in a random order, each sending to some of those after it."""
    names = draw(st.permutations(list(KINDS)))[: draw(st.integers(1, len(KINDS)))]
    ports = list(draw(st.permutations(PORTS)))
    tiers: Data = {}
    reached: set[str] = set()
    for index, name in enumerate(names):
        routing, targets = draw(routings(KINDS[name], [*names[index + 1 :], *POOLS]))
        tiers[name] = {"kind": KINDS[name], "replicas": draw(st.integers(1, 3)), **routing}
        if name not in reached or (ports and draw(st.booleans())):
            tiers[name]["listen"] = f"127.0.0.1:{ports.pop()}"
        if ports and tiers[name]["replicas"] == 1 and draw(st.booleans()):
            tiers[name]["agent_check"] = f"127.0.0.1:{ports.pop(0)}"
        if draw(st.booleans()):
            tiers[name]["timeouts"] = {"idle": "7s"}
        reached.update(targets)
    pools = {name: draw(pool_data(name)) for name in POOLS if name in reached}
    return {"cluster": "x", "admin": {"listen": "127.0.0.1:7900"}, "tiers": tiers, "pools": pools}


@st.composite
def routings(draw: st.DrawFn, kind: str, below: list[str]) -> tuple[Data, list[str]]:
    """The key `to` or `routes`, and the names in it."""
    targets = draw(st.lists(st.sampled_from(below), min_size=1, max_size=3, unique=True))
    match draw(st.sampled_from(("all", "split", "routes", "answer") if kind == "l7" else ("all", "split"))):
        case "all":
            return {"to": targets}, targets
        case "split":
            return {"to": {name: draw(st.integers(index == 0, 2)) for index, name in enumerate(targets)}}, targets
        case "routes":
            first = {"match": {"path": draw(st.sampled_from(("/a", "/b")))}, "to": targets[0]}
            return {"routes": [first, {"to": targets[1:] or targets}]}, targets
        case _:
            return {"routes": [{"match": {"path": "/a"}, "respond": {"status": 204}}]}, []


@st.composite
def pool_data(draw: st.DrawFn, name: str) -> Data:
    match name:
        case "listed":
            ports = draw(st.lists(st.integers(9001, 9004), min_size=1, unique=True))
            return {"endpoints": [f"127.0.0.1:{port}" for port in ports]}
        case "run":
            return {"run": {"command": "serve {port}", "replicas": draw(st.integers(1, 3))}}
        case "far":
            return {"dns": draw(st.sampled_from(("far.internal:80", "_http._tcp.far.internal")))}
        case _:
            return {"agents": True}


def scale(draw: st.DrawFn, data: Data) -> None:
    draw(st.sampled_from(list(data["tiers"].values())))["replicas"] = draw(st.integers(1, 4))


def set_idle(draw: st.DrawFn, data: Data) -> None:
    draw(st.sampled_from(list(data["tiers"].values())))["timeouts"] = {"idle": "9s"}


def insert(draw: st.DrawFn, data: Data) -> None:
    """A tier above another one, at its listen address if it has one."""
    name = draw(st.sampled_from(list(data["tiers"])))
    below = data["tiers"][name]
    above = {"kind": "l4", "to": name}
    if "listen" in below:
        above["listen"] = below.pop("listen")
    for tier in data["tiers"].values():
        for holder in (tier, *tier.get("routes", ())):
            if "to" in holder:
                holder["to"] = renamed(holder["to"], name, "inserted")
    data["tiers"]["inserted"] = above


def remove(draw: st.DrawFn, data: Data) -> None:
    """A tier that sends to all of its targets alike: who sent to it sends there."""
    name = draw(st.sampled_from(list(data["tiers"])))
    gone = data["tiers"].pop(name)
    if isinstance(gone.get("to"), list):
        for tier in data["tiers"].values():
            if isinstance(tier.get("to"), list) and name in tier["to"]:
                tier["to"] = list(dict.fromkeys([*gone["to"], *(to for to in tier["to"] if to != name)]))


def pass_on(draw: st.DrawFn, data: Data) -> None:
    """One tier's listen address to another one."""
    giver, taker = (draw(st.sampled_from(list(data["tiers"].values()))) for _ in range(2))
    if "listen" in giver:
        taker["listen"] = giver.pop("listen")


def renamed(to: Any, old: str, new: str) -> Any:
    if isinstance(to, dict):
        return {new if name == old else name: weight for name, weight in to.items()}
    if isinstance(to, list):
        return [new if name == old else name for name in to]
    return new if to == old else to


EDITS: tuple[Edit, ...] = (scale, set_idle, insert, remove, pass_on)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Topology, Topology]:
    """Two topologies: of no relation but their names, or one made from the other by edits that are legal."""
    base = draw(clusters())
    old = loaded(base)
    new = loaded(draw(clusters())) if draw(st.booleans()) else old
    for edit in draw(st.lists(st.sampled_from(EDITS), max_size=3)) if new is old else ():
        data = copy.deepcopy(base)
        edit(draw, data)
        try:
            new, base = loaded(data), data
        except TopologyError:
            continue
    return old, new


def loaded(data: Data) -> Topology:
    return load_text(json.dumps({key: value for key, value in data.items() if value}), "f")


def passable(tier: Tier) -> Iterator[Share]:
    """The shares that get something: of routes that are reached, with a weight."""
    seen: list[Match] = []
    for route in tier.routes:
        if route.match in seen or Match() in seen:
            continue
        seen.append(route.match)
        if isinstance(route.action, Forward):
            yield from (share for share in route.action.shares if share.weight > 0)


def receivers(topology: Topology) -> set[str]:
    """The tiers and pools that connections or requests get to."""
    found: set[str] = set()
    ahead = [name for name, tier in topology.tiers.items() if tier.listen]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            if name in topology.tiers:
                ahead += [target for share in passable(topology.tiers[name]) for target in share.targets]
    return found


def has_circle(topology: Topology) -> bool:
    """By removing each tier that sends to none that is left, until none can be removed."""
    left = {name: set(tier.targets) & set(topology.tiers) for name, tier in topology.tiers.items()}
    while True:
        ends = {name for name, targets in left.items() if not targets & set(left)}
        if not ends:
            return bool(left)
        left = {name: targets for name, targets in left.items() if name not in ends}


def holders(topology: Topology, address: Address) -> set[str]:
    return {name for name, tier in topology.tiers.items() if address in {each.address for each in tier.listen}}


def follow(old: Topology, new: Topology) -> None:
    """What holds of every transition, stage by stage."""
    stages = transition(old, new)
    assert (stages[-1:] == (new,)) if old != new else stages == ()
    for before, after in pairwise([old, *stages]):
        assert before != after
        assert not has_circle(after)
        names = {*after.tiers, *after.pools}
        assert all(set(tier.targets) <= names for tier in after.tiers.values())
        assert receivers(before) <= names
        assert receivers(after) <= {*before.tiers, *before.pools}


@settings(max_examples=200, deadline=None)
@given(pairs())
def test_nothing_that_is_sent_to_has_just_come_or_just_goes(pair: tuple[Topology, Topology]) -> None:
    follow(*pair)


@settings(max_examples=50, deadline=None)
@given(pairs())
def test_there_is_a_way_back_from_every_stage(pair: tuple[Topology, Topology]) -> None:
    for stage in transition(*pair):
        follow(stage, pair[0])


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_each_share_has_targets_that_its_tier_knew_in_the_stage_before(pair: tuple[Topology, Topology]) -> None:
    for before, after in pairwise([pair[0], *transition(*pair)]):
        for tier in after.tiers.values():
            known = set(before.tiers.get(tier.name, tier).targets)
            assert all(known & set(share.targets) for share in passable(tier))


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_an_address_that_passes_on_is_open_all_the_time(pair: tuple[Topology, Topology]) -> None:
    old, new = pair
    listed = {each.address for tier in old.tiers.values() for each in tier.listen}
    addresses = {address for address in listed if holders(new, address)}
    for address in addresses:
        if not any(passes_on(pair, name) for name in holders(new, address)):
            for before, after in pairwise([old, *transition(old, new)]):
                assert holders(before, address) & holders(after, address)


def passes_on(pair: tuple[Topology, Topology], name: str) -> bool:
    """Whether the tier leaves its address to another one and takes an address itself."""
    old, new = pair
    mine = old.tiers[name].listen if name in old.tiers else ()
    return any(mine != new.tiers[name].listen and bool(holders(new, each.address)) for each in mine)


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_only_entrances_share_a_port(pair: tuple[Topology, Topology]) -> None:
    for before, after in pairwise([pair[0], *transition(*pair)]):
        for tier in after.tiers.values():
            was = before.tiers.get(tier.name)
            others = [other for stage in (before, after) for other in stage.tiers.values() if other.name != tier.name]
            assert tier.listen is None or tier.listen not in [other.agent_check for other in others]
            if tier.agent_check is not None and (was is None or tier.agent_check != was.agent_check):
                assert tier.agent_check not in [other.agent_check for other in others]
                assert tier.replicas == 1
                assert was is None or was.replicas == 1


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_what_serves_is_never_less_than_on_one_of_both_sides(pair: tuple[Topology, Topology]) -> None:
    old, new = pair
    for stage in transition(old, new):
        for name in set(old.tiers) & set(new.tiers):
            sizes = (old.tiers[name].replicas, new.tiers[name].replicas)
            assert min(sizes) <= stage.tiers[name].replicas <= max(sizes)
        for name in set(old.pools) & set(new.pools):
            one, other, now = (set(topology.pools[name].endpoints) for topology in (old, new, stage))
            assert one <= now or other <= now


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_there_are_words_and_stages_exactly_where_there_are_differences(pair: tuple[Topology, Topology]) -> None:
    plan = describe(*pair)
    assert bool(plan.lines) == bool(plan.stages) == bool(differences(*pair)) == (pair[0] != pair[1])
    assert json.dumps(attrs.asdict(plan))


KERNEL_EDGE = "edge: {kind: l4, listen: 127.0.0.1:8080, forward: nftables, to: %s}"


def ways(stages: tuple[Topology, ...]) -> list[tuple[str, bool]]:
    """How the edge forwards in each stage, and whether web takes clients' connections."""
    return [(stage.tiers["edge"].forward.value, takes_clients(stage, stage.tiers["web"])) for stage in stages]


def test_nodes_take_clients_before_the_kernel_sends_them_and_until_it_does_no_longer() -> None:
    relayed, forwarded = shop(EDGE % "web", WEB), shop(KERNEL_EDGE % "web", WEB)
    assert ways(transition(relayed, forwarded)) == [("auto", True), ("nftables", True)]
    assert ways(transition(forwarded, relayed)) == [("auto", True), ("auto", False)]
    assert transition(relayed, forwarded)[-1] == forwarded


def test_a_tier_that_comes_between_takes_clients_from_its_start() -> None:
    stages = transition(shop(KERNEL_EDGE % "web", WEB), shop(KERNEL_EDGE % "mid", MID, WEB))
    for stage in stages:
        for name in stage.tiers["edge"].targets:
            assert takes_clients(stage, stage.tiers[name]), name
    assert not takes_clients(stages[-1], stages[-1].tiers["web"])


def test_over_endpoints_the_kernel_takes_over_in_one_stage() -> None:
    new = shop(KERNEL_EDGE % "app")
    assert transition(shop(EDGE % "app"), new) == (new,)
