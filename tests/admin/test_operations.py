"""What each operation does to a cluster on paper."""

import attrs
import pytest
import trio

from tests.admin.conftest import TEXT
from tierlb.admin.operations import EXPLAIN_S, LEARN_S
from tierlb.channel.durable import StoreError
from tierlb.controller.admin_states import AdminState
from tierlb.controller.status import State
from tierlb.model.topology import Admin
from tierlb.wire.frames import Hello

SCALE = {"edit": {"verb": "scale", "replicas": {"web": 3}}}
SCALED = TEXT.replace("replicas: 2", "replicas: 3")
BAD = TEXT.replace("to: app", "to: ap")


def drain(node, admin="drain"):
    return {"edit": {"verb": "node", "node": node, "admin": admin}}


async def until_over(shop):
    while not shop.changes.runner.progress.over:
        await trio.testing.wait_all_tasks_blocked()


async def test_the_status_is_the_tree_after_asking_for_figures(shop, autojump_clock):
    answer = await shop.get("/v1/status")
    assert answer.json()["cluster"] == "shop"
    assert list(answer.json()["tiers"]) == ["edge", "web"]


async def test_health_is_whether_the_tree_serves(shop):
    answer = await shop.get("/healthz")
    assert (answer.status_code, "web-1 has not joined" in answer.text) == (503, True)
    for record in shop.changes.controller.registry.records.values():
        record.hello, record.assignment.served = Hello(record.name, record.tier, "b", 1, ""), 1
    assert (await shop.get("/healthz")).text == "ok\n"


async def test_health_names_a_pool_that_the_nodes_observe_to_be_down(shop, monkeypatch):
    status = attrs.evolve(shop.changes.controller.observer.status(), serving=False, waiting=(), down=("app",))
    monkeypatch.setattr(shop.changes.controller.observer, "status", lambda: status)
    answer = await shop.get("/healthz")
    assert (answer.status_code, answer.text) == (503, "not serving\npool app: no endpoint is available\n")


async def test_a_nonce_is_given_when_nodes_have_had_a_moment_to_learn_of_it(shop, autojump_clock):
    started_s = trio.current_time()
    first, second = await shop.post("/v1/explain", None), await shop.post("/v1/explain", None)
    assert first.json() == second.json()
    assert first.json()["ttl_s"] == EXPLAIN_S
    assert trio.current_time() - started_s == pytest.approx(2 * LEARN_S)


async def test_the_active_file_is_shown_with_its_revision(shop):
    assert (await shop.get("/v1/topology")).json() == {"cluster": "shop", "revision": 1, "text": TEXT, "file": None}


async def test_an_edit_is_begun_followed_and_found_in_the_history(shop):
    begun = await shop.post("/v1/edit", {**SCALE, "who": "bob", "why": "more visitors", "expected": 1})
    assert begun.status_code == 202
    told = begun.json()
    assert (told["what"], told["revision"], told["who"], told["number"]) == ("scale web=3", 2, "bob", 1)
    assert told["lines"][0]["text"].startswith("web grows from 2 to 3 nodes")
    await until_over(shop)
    for path, key in (("/v1/progress", "change"), ("/v1/progress/1", None)):
        found = (await shop.get(path)).json()
        assert (found[key] if key else found)["outcome"] == "done"
    history = (await shop.get("/v1/history")).json()
    assert history["active"] == 2
    assert [(row["who"], row["why"], row["added"]) for row in history["revisions"]] == [
        ("ann", "the file at the start", 7),
        ("bob", "more visitors", 1),
    ]
    assert (await shop.get("/v1/history/2")).json()["text"] == SCALED, "with its comment"


async def test_a_file_is_applied(shop):
    answer = await shop.post("/v1/apply", {"text": SCALED})
    assert (answer.status_code, answer.json()["what"], answer.json()["who"]) == (202, "apply", "somebody")
    await until_over(shop)
    assert len(shop.changes.controller.registry.records) == 4


async def test_an_old_revision_is_applied_anew(shop):
    await shop.post("/v1/edit", SCALE)
    await until_over(shop)
    answer = await shop.post("/v1/rollback", {"number": 1})
    assert (answer.status_code, answer.json()["revision"], answer.json()["what"]) == (202, 3, "rollback 1")
    await until_over(shop)
    assert (shop.changes.text, shop.changes.history.current.why) == (TEXT, "back to revision 1")


async def test_a_tier_is_restarted_without_a_revision(shop):
    answer = await shop.post("/v1/restart", {"tier": "web", "who": "ann"})
    assert (answer.status_code, answer.json()["revision"]) == (202, 0)
    await until_over(shop)
    answer = await shop.post("/v1/restart", {"tier": "wed"})
    assert answer.status_code == 422
    assert "there is no tier wed" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/plan", {"text": SCALED}),
        ("/v1/plan", SCALE),
        ("/v1/apply", {"text": SCALED, "dry_run": True}),
        ("/v1/edit", {**SCALE, "dry_run": True}),
    ],
)
async def test_what_would_be_is_told_and_nothing_is_done(shop, path, body):
    answer = await shop.post(path, body)
    assert answer.status_code == 200
    assert answer.json()["started"] == {"nodes": ["web-3"], "endpoints": 0}
    assert answer.json()["changes"] == [
        {"name": "web", "before": 2, "after": 3, "auto": False, "change": "tier-scaled"}
    ]
    assert answer.json()["stages"] == 1
    assert (shop.changes.history.active, shop.changes.runner.progress) == (1, None)


async def test_a_rollback_can_be_rehearsed(shop):
    answer = await shop.post("/v1/rollback", {"number": 1, "dry_run": True})
    assert (answer.status_code, answer.json()["stages"]) == (200, 0)


@pytest.mark.parametrize("path", ["/v1/apply", "/v1/edit"])
async def test_where_nothing_would_change_nothing_is_begun(shop, path):
    body = {"text": TEXT} if path == "/v1/apply" else {"edit": {"verb": "scale", "replicas": {"web": 2}}}
    answer = await shop.post(path, body)
    assert (answer.status_code, answer.json()["lines"]) == (200, [])
    assert (shop.changes.history.active, shop.changes.runner.progress) == (1, None)


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "told"),
    [
        ("/v1/edit", {**SCALE, "expected": 7}, 409, "conflict", "the current one is 1, by ann"),
        ("/v1/edit", {**SCALE, "expected": 7, "dry_run": True}, 409, "conflict", "the current one is 1, by ann"),
        ("/v1/edit", {"edit": {"verb": "scale", "replicas": {"wed": 3}}}, 422, "edit", "did you mean 'web'?"),
        ("/v1/edit", {"edit": {"verb": "tier-remove", "name": "app"}}, 422, "edit", "'app' is a pool"),
        ("/v1/rollback", {"number": 9}, 404, "unknown", "there is no revision 9"),
        ("/v1/rollback", {"number": 9, "dry_run": True}, 404, "unknown", "there is no revision 9"),
        ("/v1/apply", {"text": TEXT.replace("shop", "mall")}, 422, "not-possible", "taken up at the start only"),
        ("/v1/edit", drain("web-9"), 422, "not-possible", "there is no node or agent web-9"),
        ("/v1/edit", {**drain("web-9"), "dry_run": True}, 422, "not-possible", "there is no node or agent web-9"),
        (
            "/v1/apply",
            {"txt": ""},
            400,
            "request",
            "txt: unknown key (did you mean 'text'?); the key ",
        ),
    ],
)
async def test_what_cannot_be_is_refused_in_a_sentence(shop, path, body, status, kind, told):
    answer = await shop.post(path, body)
    assert (answer.status_code, answer.json()["kind"]) == (status, kind)
    assert told in answer.json()["error"]
    assert (shop.changes.history.active, shop.changes.runner.progress) == (1, None)


@pytest.mark.parametrize("path", ["/v1/plan", "/v1/apply"])
async def test_a_bad_file_is_refused_with_the_places_that_check_names(shop, path):
    answer = await shop.post(path, {"text": BAD})
    assert answer.status_code == 422
    assert answer.json()["problems"] == [
        {
            "file": "FILE",
            "line": 5,
            "column": 36,
            "path": "tiers.web.to",
            "message": "no tier or pool named 'ap' (did you mean 'app'?)",
            "warning": False,
        }
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/apply", {"text": SCALED}),
        ("/v1/plan", {"text": SCALED}),
        ("/v1/edit", {**SCALE, "dry_run": True}),
        ("/v1/restart", {"tier": "web"}),
    ],
)
async def test_while_a_change_is_under_way_others_are_told_of_it(held, path, body):
    await held.post("/v1/edit", {**SCALE, "who": "bob"})
    answer = await held.post(path, body)
    assert (answer.status_code, answer.json()["kind"]) == (409, "busy")
    assert "revision 2 (scale web=3, by bob) is being carried out" in answer.json()["error"]
    assert answer.json()["change"]["revision"] == 2


async def test_what_cannot_be_stored_is_not_begun(shop):
    shop.store.problem = StoreError("state.json cannot be written")
    answer = await shop.post("/v1/edit", SCALE)
    assert (answer.status_code, answer.json()["kind"], shop.changes.runner.progress) == (503, "storage", None)


async def test_a_node_is_drained_and_made_ready_again(shop):
    for record in shop.changes.controller.registry.records.values():
        record.hello, record.assignment.served = Hello(record.name, record.tier, "b", 1, ""), 1
        assert record.state is State.SERVING
    rehearsed = await shop.post("/v1/edit", {**drain("web-1"), "dry_run": True})
    said = "web-1: ready → drain: it gets nothing new; what is under way has up to 30s, then what is left is cut"
    assert (rehearsed.status_code, rehearsed.json()["lines"], shop.changes.history.active) == (200, [said], 1)
    begun = await shop.post("/v1/edit", {**drain("web-1"), "who": "ann", "why": "old disk"})
    assert (begun.status_code, begun.json()["lines"][0]["text"]) == (202, said)
    await until_over(shop)
    assert shop.store.stored.history.admin_states == (AdminState("web", "web-1", Admin.DRAIN),)
    row = (await shop.get("/v1/history")).json()["revisions"][-1]
    assert (row["number"], row["who"], row["why"], row["active"]) == (2, "ann", "drain web-1: old disk", True)
    again = await shop.post("/v1/edit", drain("web-1"))
    assert (again.status_code, again.json()["lines"]) == (200, [])
    last = await shop.post("/v1/edit", drain("web-2", "maintenance"))
    assert "scale web first" in last.json()["error"]
    for dry_run in (True, False):
        alone = await shop.post("/v1/edit", {"edit": {"verb": "scale", "replicas": {"web": 1}}, "dry_run": dry_run})
        assert (alone.status_code, "`tierlb ready web-1` first" in alone.json()["error"]) == (422, True)
    await shop.post("/v1/edit", drain("web-1", "ready"))
    await until_over(shop)
    assert shop.changes.history.current.why == "ready web-1"
    assert (shop.store.stored.history.admin_states, shop.store.stored.history.active) == ((), 3)


async def test_the_latest_changes_are_kept_by_their_numbers(shop):
    assert (await shop.get("/v1/progress")).json() == {"change": None}
    for _ in range(20):
        await shop.post("/v1/restart", {"tier": "web"})
        await until_over(shop)
    assert (await shop.get("/v1/progress/20")).json()["outcome"] == "done"
    assert (await shop.get("/v1/progress/1")).status_code == 404


@pytest.mark.parametrize("path", ["/v1/history", "/v1/progress"])
@pytest.mark.parametrize("number", ["0", "9", "x", "-1", "1.0", "9" * 5000, "%D9%A1", "%00"])
async def test_what_is_no_number_of_one_is_not_there(shop, path, number):
    answer = await shop.get(f"{path}/{number}")
    assert (answer.status_code, answer.json()["kind"]) == (404, "unknown")
