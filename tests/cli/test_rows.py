import attrs
import pytest

from tests.cli.conftest import gone, host, node, shop, sketch_of
from tierlb.cli.rows import groups_of, internal_errors, parts, state_word, weights
from tierlb.controller.status import ClusterStatus, EndpointStatus, PoolStatus, State, TierStatus, as_json
from tierlb.model.address import Address
from tierlb.model.load import SubtreeLoad
from tierlb.model.topology import Admin


def groups(tiers, pools=None):
    """By tier or pool, the total and the hosts by name; `edge` is l4, and each sends to the next."""
    names = (*tiers, *(pools or {}))
    tiers = {
        name: TierStatus("l4" if name == "edge" else "l7", None, tuple(names[at : at + 1]), tuple(tiers[name]))
        for at, name in enumerate(tiers, start=1)
    }
    made = groups_of(as_json(ClusterStatus("shop", 1, True, (), tiers, pools or {})))
    return {name: (g.total, {row.name: row for row in g.hosts}) for name, g in zip(names, made, strict=True)}


def endpoint(port, *, name="", **seen_by):
    return EndpointStatus(Address("127.0.0.1", port), State.SERVING, None, name, seen_by)


@pytest.mark.parametrize(
    ("state", "availabilities", "word"),
    [
        ("serving", [], "serving"),
        ("serving", ["available", "available"], "serving"),
        ("serving", ["ejected", "ejected"], "ejected"),
        ("serving", ["available", "ejected", "available"], "ejected 1/3"),
        ("serving", ["unhealthy", "ejected", "unhealthy"], "unhealthy 2/3"),
        ("serving", ["maintenance"], "maintenance"),
        ("draining", ["available", "draining"], "draining"),
        ("gone", ["ejected"], "gone"),
    ],
)
def test_the_state_is_its_own_or_what_parents_hold_against_it(state, availabilities, word):
    assert state_word(state, availabilities) == word


@pytest.mark.parametrize(
    ("state", "admin", "word"),
    [
        (State.SERVING, Admin.READY, "serving"),
        (State.SERVING, Admin.DRAIN, "draining"),
        (State.SERVING, Admin.MAINTENANCE, "maintenance"),
        (State.GONE, Admin.DRAIN, "gone"),
    ],
)
def test_what_an_operator_wants_of_a_node_is_seen_also_where_nobody_is_above_it(state, admin, word):
    edge = attrs.evolve(node("edge-1", 8080, state=state), admin=admin)
    status = as_json(attrs.evolve(shop(), tiers={"edge": TierStatus("l4", None, (), (edge,))}))
    row = groups_of(status)[0].hosts[0]
    assert (row.state, row.counts) == (word, word == "serving")


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([], []),
        ([(0.75, 1), (0.25, 9)], [0.75, 0.25]),
        ([(1.0, 0), (0.0, 0)], [1.0, 0.0]),
        ([(0.0, 1), (0.0, 3)], [0.25, 0.75]),  # nothing new: what is held
        ([(0.0, 0), (0.0, 0)], [None, None]),
    ],
)
def test_a_parent_splits_by_its_recent_items_or_else_by_those_in_flight(hosts, expected):
    assert parts([{"share": share, "in_flight": in_flight} for share, in_flight in hosts]) == expected


@pytest.mark.parametrize(
    ("parents", "expected"),
    [
        ([], []),
        ([(300.0, 1), (100.0, 1)], [0.75, 0.25]),
        ([(300.0, 1), (None, 1)], [1.0, 0.0]),
        ([(0.0, 1), (None, 3)], [0.25, 0.75]),
        ([(0.0, 0), (0.0, 0)], [0.5, 0.5]),
    ],
)
def test_parents_weigh_by_their_rates_or_else_by_what_they_hold(parents, expected):
    told = [{"items_per_s": rate, "load": {"in_flight": in_flight}} for rate, in_flight in parents]
    assert weights(told) == expected


def test_the_share_is_of_all_that_the_parents_send_together():
    edge = [
        node("edge-1", 1, host("web-1", 0.9), host("web-2", 0.1), rate=30.0),
        node("edge-2", 2, host("web-1", 0.5), host("web-2", 0.5), rate=10.0),
    ]
    total, rows = groups({"edge": edge, "web": [node("web-1", 3), node("web-2", 4), node("web-3", 5)]})["web"]
    assert rows["web-1"].share == pytest.approx(0.8)
    assert rows["web-2"].share == pytest.approx(0.2)
    assert rows["web-3"].share is None  # nobody sends to it
    assert total.share == pytest.approx(1.0)


def test_who_is_sent_nothing_beside_busy_siblings_has_a_share_of_zero():
    edge = [node("edge-1", 1, host("web-1", 1.0), host("web-2", 0.0, in_flight=0), rate=10.0)]
    _, rows = groups({"edge": edge, "web": [node("web-1", 3), node("web-2", 4)]})["web"]
    assert (rows["web-1"].share, rows["web-2"].share) == (1.0, 0.0)


def test_a_parent_without_traffic_has_no_say_in_the_share():
    idle = [host("web-1", 0.0, in_flight=0), host("web-2", 0.0, in_flight=0)]
    edge = [node("edge-1", 1, host("web-1", 1.0), host("web-2", 0.0), rate=None), node("edge-2", 2, *idle)]
    web = [node("web-1", 3), node("web-2", 4)]
    _, rows = groups({"edge": edge, "web": web})["web"]
    assert (rows["web-1"].share, rows["web-2"].share) == (1.0, 0.0)
    _, rows = groups({"edge": edge[1:], "web": web})["web"]
    assert (rows["web-1"].share, rows["web-2"].share) == (None, None)


def test_top_tiers_have_no_share():
    total, rows = groups({"edge": [node("edge-1", 1, rate=5.0)]})["edge"]
    assert (total.share, rows["edge-1"].share) == (None, None)


def test_the_ways_of_all_parents_to_a_node_are_named_once():
    ways = {"edge-1": "handoff", "edge-2": "relay", "edge-3": "handoff", "edge-4": ""}
    edge = [
        node(name, port, attrs.evolve(host("web-1", 1.0), way=way)) for port, (name, way) in enumerate(ways.items(), 1)
    ]
    _, rows = groups({"edge": edge, "web": [node("web-1", 5), node("web-2", 6)]})["web"]
    assert (rows["web-1"].way, rows["web-2"].way) == ("handoff, relay", "")


def test_a_total_adds_up_and_merges_latencies():
    subtree = [SubtreeLoad(3000.0, utilisation=0.9, in_flight=3), SubtreeLoad(1000.0, utilisation=0.5, in_flight=4)]
    fast, slow = sketch_of(*[0.001] * 98), sketch_of(1.0, 1.0)
    web = [
        node("web-1", 1, rate=100.0, subtree=subtree[0], latency=fast),
        node("web-2", 2, rate=50.0, subtree=subtree[1], latency=slow),
        node("web-3", 3),
        gone("web-4"),
    ]
    total, rows = groups({"web": web})["web"]
    assert (total.state, total.rate, total.in_flight, total.capacity) == ("3/4", 150.0, 9, 4000.0)
    assert total.utilisation == pytest.approx(0.8)  # 2,700 and 500 of 4,000
    assert total.quantile_s(0.5) == pytest.approx(0.001, rel=0.03)
    assert total.quantile_s(0.99) == pytest.approx(1.0, rel=0.03)
    assert rows["web-3"].quantile_s(0.5) is None


def test_capacity_of_those_that_get_nothing_does_not_count():
    capacity = {"subtree": SubtreeLoad(capacity=1000.0)}
    web = [node("web-1", 3, **capacity), node("web-2", 4, **capacity), node("web-3", 5, state=State.DRAINING)]
    out = [host(name, 0.5, availability=word) for name, word in (("web-1", "available"), ("web-2", "ejected"))]
    total, rows = groups({"edge": [node("edge-1", 1, *out)], "web": web})["web"]
    assert (total.state, total.capacity, rows["web-2"].capacity) == ("1/3", 1000.0, 1000.0)


def test_what_nobody_told_is_none():
    nothing = groups({"web": [gone("web-1")]})["web"]
    for row in (nothing[0], nothing[1]["web-1"]):
        figures = (row.rate, row.in_flight, row.capacity, row.utilisation, row.age_s, row.share, row.quantile_s(0.5))
        assert figures == (None,) * 7
    unknown = groups({"web": [node("web-1", 1, subtree=SubtreeLoad())]})["web"][1]["web-1"]
    assert (unknown.capacity, unknown.unlearnt) == (None, True)
    assert not any(row.unlearnt for row in (nothing[0], nothing[1]["web-1"]))


def test_what_is_parked_and_how_old_a_capacity_is_is_told():
    seen = [
        host("app/127.0.0.1:9001", 1.0, parked=parked, capacity=9.0, capacity_age_s=age_s)
        for parked, age_s in ((2, 70), (3, 80))
    ]
    subtree = SubtreeLoad(9.0, in_flight=8, parked=6, capacity_age_s=70.0)
    web = [node(f"web-{number}", number, each, subtree=subtree) for number, each in enumerate(seen, 1)]
    endpoint = EndpointStatus(Address("127.0.0.1", 9001), State.SERVING)
    both = groups({"web": web}, {"app": PoolStatus((endpoint,))})
    total, rows = both["web"]
    assert (total.parked, total.capacity_age_s) == (12, 70.0)
    assert (rows["web-1"].parked, rows["web-1"].capacity_age_s) == (6, 70.0)
    _, endpoints = both["app"]
    (row,) = endpoints.values()
    assert (row.parked, row.capacity_age_s, row.unlearnt) == (5, 70, False)


@pytest.mark.parametrize(
    ("subtree", "of_node", "of_endpoint"),
    [
        (SubtreeLoad(9.0), True, True),
        (SubtreeLoad(9.0, slots=4.0), False, False),
        (SubtreeLoad(9.0, own_capacity=9.0), False, True),
        (SubtreeLoad(), False, True),
    ],
    ids=["slots unknown", "known", "by the node itself", "not of the node"],
)
def test_a_capacity_that_stands_on_a_guess_of_slots_is_marked(subtree, of_node, of_endpoint):
    seen = host("app/127.0.0.1:9001", 1.0, capacity=9.0)
    endpoint = EndpointStatus(Address("127.0.0.1", 9001), State.SERVING)
    both = groups({"web": [node("web-1", 1, seen, subtree=subtree)]}, {"app": PoolStatus((endpoint,))})
    total, rows = both["web"]
    assert (total.guessed, rows["web-1"].guessed) == (of_node, of_node)
    assert [row.guessed for row in both["app"][1].values()] == [of_endpoint]


def test_a_node_that_was_not_heard_of_lately_shows_nothing_of_now():
    old = node("edge-1", 1, host("web-1", 1.0), rate=5.0, report_age_s=60.0, subtree=SubtreeLoad(9.0))
    both = groups({"edge": [old], "web": [node("web-1", 2)]})
    row = both["edge"][1]["edge-1"]
    assert (row.age_s, row.capacity, row.errors) == (60.0, 9.0, 1)
    assert (row.rate, row.in_flight, row.utilisation) == (None, None, None)
    assert both["web"][1]["web-1"].share is None


def test_an_endpoint_is_as_its_parents_see_it():
    first, second = "app/127.0.0.1:1", "app/127.0.0.1:2"
    web = [
        node("web-1", 8, host(first, 0.6, in_flight=2, failed=1, capacity=800.0), host(second, 0.4), rate=300.0),
        node("web-2", 9, host(first, 0.2, in_flight=1, capacity=0.0, availability="unhealthy"), rate=100.0),
    ]
    pool = PoolStatus((endpoint(1), endpoint(2), endpoint(3)))
    total, rows = groups({"web": web}, {"app": pool})["app"]
    row = rows["127.0.0.1:1"]
    assert (row.state, row.in_flight, row.capacity, row.errors) == ("unhealthy 1/2", 3, 800.0, 1)
    assert row.rate == pytest.approx(200.0)
    assert row.share == pytest.approx(0.75 * 0.6 + 0.25 * 1.0)  # the only one that web-2 has
    assert (rows["127.0.0.1:3"].in_flight, rows["127.0.0.1:3"].share) == (None, None)
    assert total.rate == pytest.approx(320.0)


def test_what_is_wrong_with_an_endpoint_is_what_most_of_its_parents_find():
    name = "app/127.0.0.1:1"
    problems = ("", "timed out after 1s", "connection refused", "connection refused")
    web = [node(f"web-{n}", 8 + n, host(name, 1.0, problem=problem)) for n, problem in enumerate(problems)]
    _, rows = groups({"web": web}, {"app": PoolStatus((endpoint(1), endpoint(2)))})["app"]
    assert [row.problem for row in rows.values()] == ["connection refused", ""]


def test_what_a_node_lacks_is_its_problem():
    short = node("web-1", 8081)
    short = attrs.evolve(short, load=attrs.evolve(short.load, shortages=("out of local ports: add nodes",)))
    _, rows = groups({"web": [short, node("web-2", 8082)]})["web"]
    assert [row.problem for row in rows.values()] == ["out of local ports: add nodes", ""]


def test_internal_errors_are_those_of_the_controller_of_nodes_and_of_agents():
    web = node("web-1", 8081)
    web = attrs.evolve(web, load=attrs.evolve(web.load, internal_errors=2))
    agent = node("app-1", 1)
    agent = attrs.evolve(agent, load=attrs.evolve(agent.load, internal_errors=4))
    tiers = {"web": TierStatus("l7", None, (), (web, node("web-2", 8082), gone("web-3")))}
    pools = {"app": PoolStatus((), (agent,))}
    status = as_json(ClusterStatus("shop", 1, True, (), tiers, pools, internal_errors=1))
    assert internal_errors(status) == {"the controller": 1, "web-1": 2, "app-1": 4}
    assert status["tiers"]["web"]["nodes"][0]["load"]["internal_errors"] == 2


def test_items_are_connections_where_nothing_below_counts_requests():
    edge = [node("edge-1", 8, host("db/127.0.0.1:1", 1.0), rate=3.0, latency=sketch_of(60.0))]
    both = groups({"edge": edge}, {"db": PoolStatus((endpoint(1),))})
    rows = [both["edge"][0], both["edge"][1]["edge-1"], both["db"][0], both["db"][1]["127.0.0.1:1"]]
    assert [row.by_connection for row in rows] == [True] * 4
    assert rows[0].quantile_s(0.5) == pytest.approx(60.0, rel=0.03)


def test_an_l4_tier_above_an_l7_tier_counts_requests_and_shows_no_lives_of_connections():
    edge = [node("edge-1", 8, in_flight=64, latency=sketch_of(60.0), subtree=SubtreeLoad(in_flight=5))]
    total, rows = groups({"edge": edge, "web": []})["edge"]
    assert (total.by_connection, total.in_flight, rows["edge-1"].quantile_s(0.5)) == (False, 5, None)


def test_an_agent_says_more_of_its_endpoint_than_parents_can():
    web = [node("web-1", 8, host("app-1", 1.0, capacity=800.0, report_age_s=0.5), rate=300.0)]
    agent = node("app-1", 1, subtree=SubtreeLoad(capacity=900.0, utilisation=0.3), report_age_s=0.1)
    told = endpoint(1, name="app-1")
    _, rows = groups({"web": web}, {"app": PoolStatus((told,), (agent,))})["app"]
    row = rows["app-1"]
    assert (row.capacity, row.utilisation, row.age_s, row.address) == (900.0, 0.3, 0.1, "127.0.0.1:1")
    assert (row.rate, row.share) == (300.0, 1.0)
    unheard = attrs.evolve(agent, subtree=None, report_age_s=None)
    _, rows = groups({"web": web}, {"app": PoolStatus((told,), (unheard,))})["app"]
    assert (rows["app-1"].capacity, rows["app-1"].utilisation) == (800.0, None)


def test_headlines_say_what_it_is_and_where_it_sends():
    assert [group.total.name for group in groups_of(as_json(shop()))] == ["edge l4 → web", "web l7 → app", "app pool"]


def test_a_sketch_that_cannot_be_read_is_none():
    status = as_json(shop())
    status["tiers"]["web"]["nodes"][0]["latency"]["sketch"] = "AAAA"
    assert groups_of(status)[1].hosts[0].quantile_s(0.5) is None


def test_what_a_node_lacks_is_its_problem_while_its_figures_are_fresh():
    short = node("web-1", 7001)
    lacking = attrs.evolve(short, load=attrs.evolve(short.load, shortages=("full: 4 of 4 connections", "no ports")))
    stale = attrs.evolve(lacking, name="web-2", report_age_s=10.0)
    tiers = {"web": TierStatus("l7", None, (), (lacking, stale, node("web-3", 7003)))}
    (web,) = groups_of(as_json(ClusterStatus("shop", 1, True, (), tiers, {})))
    assert [row.problem for row in web.hosts] == ["full: 4 of 4 connections; no ports", "", ""]
