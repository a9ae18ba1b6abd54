"""What commands send, and how they tell what comes of it."""

import getpass
import json
import os
import signal
import threading

import pytest

from tests.cli.conftest import GOOD, run
from tierlb.cli.change import INTERRUPTED, ChangeOptions, whoami

LINES = [{"at_s": 0.0, "text": "web grows"}, {"at_s": 0.512, "text": "stage 1 of 1:\x1b[2J every node serves it"}]
RUNNING = {
    "what": "scale web=3",
    "revision": 2,
    "who": "ann",
    "stage": 1,
    "stages": 1,
    "outcome": "running",
    "reason": "",
    "lines": LINES[:1],
    "number": 7,
}
DONE = {**RUNNING, "outcome": "done", "lines": LINES}
BACK = {**DONE, "outcome": "rolled back", "reason": "not done in 1 s"}
PLAN = {"changes": [], "lines": ["web grows"], "started": {}, "stopped": {}, "unsupported": [], "stages": 1}


def answer(code, value):
    return code, json.dumps(value).encode()


@pytest.fixture
def ask(tmp_path, serve):
    """Run a command against an API that answers so in turn."""
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("s3cret\n")

    def ask(arguments, *answers):
        where = ("--admin", serve(*(answer(*each) for each in answers)), "--token-file", str(token))
        return run(*arguments, *where)

    ask.sent = lambda: [json.loads(body) for _, body in serve.sent]
    ask.asked = serve.asked
    return ask


def test_a_change_is_told_line_by_line_until_it_is_done(ask):
    result = ask(("scale", "web=3"), (202, RUNNING), (200, RUNNING), (200, DONE))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "   0.00 s  web grows",
        "   0.51 s  stage 1 of 1:�[2J every node serves it",
        "done: revision 2",
    ]
    assert ask.asked == [("POST", "/v1/edit"), ("GET", "/v1/progress/7"), ("GET", "/v1/progress/7")]


def test_one_that_is_taken_back_exits_with_1_and_says_why(ask):
    result = ask(("scale", "web=3"), (202, RUNNING), (200, BACK))
    assert result.exit_code == 1
    told = "rolled back: not done in 1 s; what was wanted is kept: `tierlb history 2` prints it\n"
    assert result.stderr == told


def test_a_restart_has_no_revision(ask):
    result = ask(("restart", "web"), (202, {**DONE, "revision": 0}))
    assert result.stdout.splitlines()[-1] == "done"
    failed = {**DONE, "revision": 0, "outcome": "failed", "reason": "web-1 does not serve"}
    result = ask(("restart", "web"), (202, failed))
    assert (result.exit_code, result.stderr) == (1, "failed: web-1 does not serve\n")


def test_programs_get_the_end_of_it(ask):
    result = ask(("scale", "web=3", "--json"), (202, RUNNING), (200, DONE))
    assert json.loads(result.stdout) == DONE
    assert ask(("scale", "web=3", "--json"), (202, BACK)).exit_code == 1


def test_where_nothing_would_change_that_is_said_and_is_well(ask):
    result = ask(("scale", "web=2"), (200, {**PLAN, "lines": [], "stages": 0}))
    assert (result.exit_code, result.stdout) == (0, "nothing would change\n")


def test_a_plan_is_told_in_words(ask, write):
    result = ask(("plan", write(GOOD)), (200, PLAN))
    assert (result.exit_code, result.stdout) == (0, "web grows\n")
    assert ask.sent() == [{"text": GOOD}]
    assert json.loads(ask(("plan", write(GOOD), "--json"), (200, PLAN)).stdout) == PLAN


def test_a_plan_that_cannot_be_carried_out_exits_with_1(ask, write):
    plan = {**PLAN, "lines": ["not possible: cluster"], "unsupported": [{"name": "cluster", "reason": "cluster"}]}
    result = ask(("plan", write(GOOD)), (200, plan))
    assert (result.exit_code, result.stdout) == (1, "not possible: cluster\n")


def test_a_file_is_sent_as_it_is_and_all_that_was_said_beside_it(ask, write):
    options = ("--why", "more", "--deadline", "1m30s", "--expected", "4", "--dry-run")
    assert ask(("apply", write(f"# é\n{GOOD}"), *options), (200, PLAN)).stdout == "web grows\n"
    said = {"why": "more", "deadline_s": 90.0, "expected": 4, "dry_run": True}
    assert ask.sent() == [{"text": f"# é\n{GOOD}", "who": getpass.getuser(), **said}]
    assert ask(("apply", write(GOOD)), (202, DONE)).exit_code == 0
    assert ask.sent()[1] == {"text": GOOD, "who": getpass.getuser()}


@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_a_bad_file_is_not_sent(ask, write, verb):
    result = ask((verb, write("cluster: shop\n")), (200, PLAN))
    assert result.exit_code == 2
    assert "shop.yaml:1:1: " in result.stderr
    assert ask.asked == []


def test_a_refusal_is_told(ask):
    busy = {"kind": "busy", "error": "revision 4 is being carried out", "problems": [], "change": RUNNING}
    result = ask(("scale", "web=3"), (409, busy))
    assert (result.exit_code, result.stderr) == (1, "Error: revision 4 is being carried out\n")


@pytest.mark.parametrize(
    ("arguments", "edit"),
    [
        (("drain", "app/127.0.0.1:9001"), {"admin": "drain"}),
        (("maintenance", "app/127.0.0.1:9001"), {"admin": "maintenance"}),
        (("ready", "app/127.0.0.1:9001"), {"admin": "ready"}),
        (("weight", "app/127.0.0.1:9001", "0.5"), {"weight": 0.5}),
        (("weight", "app/127.0.0.1:9001", "0"), {"weight": 0.0}),
    ],
)
def test_what_is_wanted_of_an_endpoint_is_an_edit_of_the_file(ask, arguments, edit):
    assert ask((*arguments, "--why", "old disk"), (202, DONE)).exit_code == 0
    expected = {"verb": "endpoint", "endpoint": "app/127.0.0.1:9001", **edit}
    assert ask.sent() == [{"edit": expected, "who": getpass.getuser(), "why": "old disk"}]


@pytest.mark.parametrize("verb", ["drain", "maintenance", "ready"])
def test_what_is_wanted_of_a_node_is_a_change_with_a_reason(ask, verb):
    assert ask((verb, "web-1", "--why", "old disk"), (202, DONE)).exit_code == 0
    expected = {"verb": "node", "node": "web-1", "admin": verb}
    assert ask.sent() == [{"edit": expected, "who": getpass.getuser(), "why": "old disk"}]


def test_the_change_under_way_can_be_followed_by_anybody(ask):
    result = ask(("progress",), (200, {"change": RUNNING}), (200, DONE))
    assert result.stdout.splitlines()[-1] == "done: revision 2"
    assert ask.sent() == []
    assert ask(("progress",), (200, {"change": None})).stdout == "nothing was changed since the start\n"
    assert ask(("progress", "--json"), (200, {"change": None})).stdout == "null\n"


def test_ctrl_c_leaves_it_running_and_says_so(ask):
    def interrupt():
        for _ in range(6000):
            if ("GET", "/v1/progress/7") in ask.asked:
                break
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    result = ask(("scale", "web=3"), (202, RUNNING), (200, RUNNING))
    assert result.exit_code == INTERRUPTED
    assert "goes on without this command: `tierlb progress` follows it" in result.stderr


def test_a_cluster_that_ends_meanwhile_is_told(ask, tmp_path):
    gone = {"kind": "unknown", "error": "there is no change 7, or none any more", "problems": [], "change": None}
    result = ask(("scale", "web=3"), (202, RUNNING), (404, gone))
    assert (result.exit_code, result.stderr) == (1, "Error: there is no change 7, or none any more\n")


@pytest.mark.parametrize(
    ("name", "shown"), [("ann", "ann"), ("a" * 99, "a" * 64), ("", "somebody"), ("\x1b", "�"), (None, "somebody")]
)
def test_who_asks_is_bounded(monkeypatch, name, shown):
    def user():
        if name is None:
            raise OSError
        return name

    monkeypatch.setattr(getpass, "getuser", user)
    assert whoami() == shown
    assert ChangeOptions().body() == {"who": shown}
