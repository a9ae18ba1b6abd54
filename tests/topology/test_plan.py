"""What a change does, in words."""

import json

import attrs
import pytest

from tests.topology.clusters import ALONE, API, APP, EDGE, MID, RUN, WEB, shop
from tierlb.model.topology import Topology
from tierlb.topology.diff import AdminChanged
from tierlb.topology.plan import Plan, Processes, describe

POLITELY = (
    "l7 nodes close kept connections politely after their answers; what is under way has up to 30s, then what is "
    "left is cut"
)


def test_an_inserted_tier_in_words() -> None:
    plan = describe(shop(EDGE % "web", WEB), shop(EDGE % "mid", MID, WEB))
    assert plan.lines == (
        "edge sends to mid instead of web: connections stay where they are until they end, "
        "new ones go by the new targets",
        "tier mid (l7) is added: starts mid-1, sends to web",
        "in all 1 process starts, none stop, in 3 stages",
    )
    assert (plan.started, plan.stopped) == (Processes(("mid-1",), 0), Processes((), 0))
    assert (plan.stages, plan.unsupported) == (3, ())


def test_an_entrance_that_goes_in_words() -> None:
    edge = EDGE.replace("to:", "replicas: 2, drain: 1m30s, to:") % "web"
    plan = describe(shop(edge, WEB), shop(ALONE))
    assert plan.lines == (
        "tier edge is removed once nothing sends there",
        "edge no longer listens on 127.0.0.1:8080: web listens there by then",
        "edge-1 and edge-2 stop: their connections drain for up to 1m30s, then what is left is cut",
        "web listens on 127.0.0.1:8080",
        "in all no processes start, 2 stop, in 3 stages",
    )
    assert plan.stopped == Processes(("edge-1", "edge-2"), 0)


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (
            "web: {kind: l7, listen: ':80', replicas: 3, to: app}",
            "web: {kind: l7, listen: ':80', replicas: 2, to: app}",
            ["web shrinks from 3 to 2 nodes", f"web-3 stops: {POLITELY}"],
        ),
        (
            "web: {kind: l4, listen: ':80', replicas: 2, to: app}",
            "web: {kind: l4, listen: ':80', to: app}",
            [
                "web shrinks from 2 to 1 node",
                "web-2 stops: its connections drain for up to 30s, then what is left is cut",
            ],
        ),
        (
            "web: {kind: l4, protocol: udp, listen: ':80', replicas: 2, to: app}",
            "web: {kind: l4, protocol: udp, listen: ':81', to: app}",
            [
                "web shrinks from 2 to 1 node",
                "web-2 stops: its sessions drain for up to 30s, then what is left is cut",
                "web listens on 0.0.0.0:81/udp",
                "web no longer listens on 0.0.0.0:80/udp: sessions made there stay until they end, new ones are "
                "refused",
            ],
        ),
        (
            "web: {kind: l7, listen: ':80', to: app}",
            "web: {kind: l7, listen: ':80', replicas: 8, to: app}",
            [
                "web grows from 1 to 8 nodes: starts web-2 … web-8 (7); connections stay where they are, "
                "new ones go to the new nodes too"
            ],
        ),
        (
            "web: {kind: l7, listen: ':80', to: app}",
            "web: {kind: l7, listen: ':80', to: [app, api]}",
            [
                "web sends to api too: requests under way finish where they are, the next ones go by the new routes",
                "pool api is added: 1 endpoint",
            ],
        ),
        (
            "web: {kind: l4, listen: ':80', to: {app: 1, api: 3}}",
            "web: {kind: l4, listen: ':80', to: {app: 3, api: 1}}",
            [
                "web divides anew, {app: 1, api: 3} → {app: 3, api: 1}: connections stay where they are until they "
                "end, new ones go by the new targets"
            ],
        ),
        (
            "web: {kind: l7, listen: ':80', to: [app, api]}",
            "web: {kind: l7, listen: ':80', to: [api, app]}",
            [
                "web divides anew, [app, api] → [api, app]: requests under way finish where they are, the next ones "
                "go by the new routes"
            ],
        ),
        (
            "web: {kind: l4, listen: ':80', routes: [{match: {sni: a}, to: app}]}",
            "web: {kind: l4, listen: ':80', routes: [{match: {sni: b}, to: app}]}",
            [
                "web has other routes to the same targets: connections stay where they are until they end, new ones go "
                "by the new routes"
            ],
        ),
        (
            "web: {kind: l7, listen: ':80', routes: [{match: {path: /a}, to: app}]}",
            "web: {kind: l7, listen: ':80', routes: [{match: {path: /b}, to: app}]}",
            [
                "web has other routes to the same targets: requests under way finish where they are, the next ones go "
                "by the new routes"
            ],
        ),
        (
            "web: {kind: l7, listen: ':80', to: app}",
            "web: {kind: l7, listen: ':81', routes: [{respond: {}}]}",
            [
                "web no longer sends to app: requests under way finish where they are, the next ones go by the new "
                "routes",
                "web listens on 0.0.0.0:81",
                "web no longer listens on 0.0.0.0:80: connections made there stay until they end, new ones are refused",
                "pool app is removed once nothing sends there: 1 endpoint",
            ],
        ),
        (
            "web: {kind: l7, listen: ':80', routes: [{respond: {}}]}",
            "web: {kind: l7, listen: ':80', to: app}",
            [
                "web sends to app: requests under way finish where they are, the next ones go by the new routes",
                "pool app is added: 1 endpoint",
            ],
        ),
        (
            "web: {kind: l7, listen: ':80', to: app, timeouts: {idle: 5s}}",
            "web: {kind: l7, listen: ':80', to: app, orca: text}",
            [
                "web: orca not set → text, from then on; what is under way goes on as it began",
                "web: timeouts.idle 5s → 1m15s, from then on; what is under way goes on as it began",
            ],
        ),
        (
            ALONE,
            ALONE.replace("replicas", "resources: {cpus: 0.5}, replicas"),
            [
                "web: resources.cpus not set → 0.5, for containers that start from then on; what runs is left as it is",
            ],
        ),
        (
            "web: {kind: l7, listen: ':80', to: app}",
            "web: {kind: l7, listen: ':80', to: app}\n  hi: {kind: l7, listen: ':81', routes: [{respond: {}}]}",
            ["tier hi (l7) is added: starts hi-1, listens on 0.0.0.0:81, answers requests itself"],
        ),
    ],
)
def test_what_tiers_do_in_words(old: str, new: str, lines: list[str]) -> None:
    def used(tier: str) -> tuple[str, ...]:
        return tuple(pool for name, pool in (("app", APP), ("api", API)) if name in tier)

    assert list(describe(shop(old, pools=used(old)), shop(new, pools=used(new))).lines[:-1]) == lines


def pool_plan(old: str, new: str) -> Plan:
    return describe(*(shop(ALONE, pools=(f"app: {{{keys}}}",)) for keys in (old, new)))


@pytest.mark.parametrize(
    ("old", "new", "lines", "counts"),
    [
        (RUN % ("a", 2), RUN % ("a", 5), ["pool app grows from 2 to 5 processes: starts 3"], (3, 0)),
        (
            RUN % ("a", 3),
            RUN % ("a", 1),
            ["pool app shrinks from 3 to 1 process: stops 2 once nothing new is sent there"],
            (0, 2),
        ),
        (
            RUN % ("a", 3),
            RUN % ("b", 2),
            [
                "pool app shrinks from 3 to 2 processes: stops 1 once nothing new is sent there",
                "pool app: run.command a {port} → b {port}: its processes are replaced, the new ones start first",
            ],
            (2, 3),
        ),
        (
            "run: {command: 'a {port}'}",
            "run: {command: 'a {port}', image: 'a:2', resources: {memory: 64MiB}}",
            [
                "pool app: run.image not set → a:2, for containers that start from then on; what runs is left as it is",
                "pool app: run.resources.memory not set → 64MiB, for containers that start from then on; what runs is "
                "left as it is",
            ],
            (0, 0),
        ),
        (
            "dns: a.internal:80",
            "dns: b.internal:80",
            ["pool app: dns a.internal:80 → b.internal:80: what was found stays until the new name is found"],
            (0, 0),
        ),
        (
            "endpoints: [127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3]",
            "endpoints: [127.0.0.1:4, 127.0.0.1:3], health: {path: /up, interval: 5s}",
            [
                "pool app: health not set → {path: /up, interval: 5s, timeout: 1s, healthy: 2, unhealthy: 3, "
                "status: [200-399]}, from then on",
                "pool app: 127.0.0.1:4 joins",
                "pool app: 127.0.0.1:1 and 127.0.0.1:2 leave: what is under way there finishes, kept connections are "
                "closed",
            ],
            (0, 0),
        ),
    ],
)
def test_what_pools_do_in_words(old: str, new: str, lines: list[str], counts: tuple[int, int]) -> None:
    plan = pool_plan(old, new)
    assert list(plan.lines[:-1]) == lines
    assert (plan.started.count, plan.stopped.count) == counts


def test_pools_come_and_go_in_words() -> None:
    old = shop(ALONE.replace("app", "[app, run]"), pools=(APP, f"run: {{{RUN % ('a', 2)}}}"))
    new = shop(ALONE.replace("app", "[app, join, far]"), pools=(APP, "join: {agents: true}", "far: {dns: a.b:80}"))
    plan = describe(old, new)
    assert plan.lines[1:-1] == (
        "pool run is removed once nothing sends there: stops 2 processes",
        "pool join is added: agents join by themselves",
        "pool far is added: endpoints are the addresses of a.b:80 in DNS",
    )
    assert plan.stopped == Processes((), 2)


def test_no_change_has_no_words() -> None:
    plan = describe(shop(ALONE), shop(ALONE))
    assert plan == Plan((), (), Processes((), 0), Processes((), 0), (), 0)


def test_a_plan_is_plain_data() -> None:
    plan = describe(shop(EDGE % "web", WEB), shop(ALONE))
    plain = json.loads(json.dumps(attrs.asdict(plan)))
    assert [change["change"] for change in plain["changes"]] == ["tier-removed", "tier-changed"]
    assert plain["stopped"] == {"nodes": ["edge-1"], "endpoints": 0}


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (
            (EDGE % "web", WEB),
            (EDGE % "mid", MID, WEB),
            [
                "edge sends to mid instead of web: connections stay where they are until they end, new ones go by the "
                "new targets",
                "tier mid (l7) is added: waits for 1 node, sends to web",
            ],
        ),
        (
            (EDGE % "web", WEB),
            (EDGE % "web", WEB.replace("2", "5")),
            [
                "web grows from 2 to 5 nodes: waits for 3 more; connections stay where they are, new ones go to the "
                "new nodes too"
            ],
        ),
        (
            (EDGE % "web", WEB.replace("2", "5")),
            (EDGE % "web", WEB),
            [
                "web shrinks from 5 to 2 nodes",
                "3 nodes of web can be stopped then: each has up to 30s to drain",
            ],
        ),
    ],
    ids=["tier added", "grows", "shrinks"],
)
def test_nodes_that_somebody_else_starts_have_no_names_yet(
    old: tuple[str, ...], new: tuple[str, ...], lines: list[str]
) -> None:
    plan = describe(shop(*old), shop(*new), starts=False)
    assert sorted(plan.lines) == sorted(lines)
    assert plan.started == plan.stopped == Processes((), 0)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (AdminChanged("web", "web-1", "drain", "ready"), "web-1: drain → ready: it takes its share again"),
        (
            AdminChanged("web", "web-1", "ready", "maintenance"),
            "web-1: ready → maintenance: it gets nothing new; what is under way has up to 5s, then what is left is cut",
        ),
        (AdminChanged("app", "app-1", "ready", "drain"), "app-1: ready → drain: what is under way there finishes"),
    ],
)
def test_what_is_wanted_of_a_node_or_agent_is_said_and_takes_no_stage(change: AdminChanged, line: str) -> None:
    topology = shop(EDGE % "web", WEB.replace("kind: l7", "kind: l7, drain: 5s"))
    plan = describe(topology, topology, wanted=(change,))
    assert (plan.changes, plan.lines, plan.stages) == ((change,), (line,), 0)


def with_web(replicas: int, per_core: bool) -> Topology:
    before = shop(EDGE % "web", WEB)
    web = attrs.evolve(before.tiers["web"], replicas=replicas, per_core=per_core)
    return attrs.evolve(before, tiers={**before.tiers, "web": web})


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ((2, False), (4, True), "web grows from 2 to 4 nodes, one per core: starts web-3 and web-4; "),
        ((4, True), (2, True), "web shrinks from 4 to 2 nodes, one per core"),
        ((2, False), (2, True), "web stays at 2 nodes, one per core"),
        ((1, True), (1, False), "web stays at 1 node, whatever the number of cores"),
    ],
)
def test_how_many_nodes_one_per_core_are_is_said(before: tuple[int, bool], after: tuple[int, bool], line: str) -> None:
    plan = describe(with_web(*before), with_web(*after))
    assert plan.lines[0].startswith(line)
    assert plan.stages == 1
