"""Verbs with `--compose`: what is asked of the controller, what of the engine, and in which order. For real they are
driven by tests/cluster/test_compose_engine.py."""

import json
import os

import pytest

from tests.cli.conftest import run
from tests.deploy.fake_docker import FakeDocker
from tierlb.deploy.compose import compose_document
from tierlb.deploy.project import Project, lay_out, rendering
from tierlb.topology.edit import AddTier, Scale, edited
from tierlb.topology.load import load_text

TEXT = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web: {kind: l7, replicas: 2, to: app}
pools:
  app: {run: {command: "tierlb demo-backend --host {host} --port {port}"}}
"""
MID = edited(TEXT, AddTier("mid", "l7", between=("edge", "web")))
MORE = edited(TEXT, Scale({"web": 5}))
PLAN = {"lines": [], "unsupported": []}
AGAIN = "tierlb compose FILE"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Its directory, and the engine in which the cluster of TEXT runs."""
    directory = tmp_path / "shop"
    project = Project(directory, "shop", "tierlb:1")
    topology = load_text(TEXT, "shop.yaml")
    lay_out(project, topology, TEXT)
    docker = FakeDocker(tmp_path / "bin")
    docker.hold(compose_document(rendering(project, topology, TEXT)))
    monkeypatch.setenv("PATH", f"{docker.directory}:{os.environ['PATH']}")
    return directory, docker


def said(**answer):
    return 200, json.dumps(answer).encode()


def topology(text=TEXT, cluster="shop"):
    return said(cluster=cluster, revision=7, text=text, file=None)


def change(outcome, revision=8, reason=""):
    return {"number": 1, "revision": revision, "outcome": outcome, "reason": reason, "lines": []}


def begun(outcome="running"):
    return 202, json.dumps(change(outcome)).encode()


def compose_up(docker):
    return [line for line in docker.told() if line.startswith("compose up")]


def test_containers_come_while_the_change_is_under_way_and_the_file_is_what_counts_in_the_end(site, serve):
    directory, docker = site
    url = serve(topology(), topology(), begun(), said(text=MORE), said(**change("done")), topology(MORE))
    result = run("scale", "web=5", "--compose", str(directory), "--admin", url)
    assert result.exit_code == 0, result.output
    assert serve.asked == [
        ("GET", "/v1/topology"),
        ("GET", "/v1/topology"),
        ("POST", "/v1/edit"),
        ("GET", "/v1/history/8"),
        ("GET", "/v1/progress/1"),
        ("GET", "/v1/topology"),
    ]
    (fields, sent) = serve.sent[0]
    assert json.loads(sent)["expected"] == 7
    token = (directory / "secrets" / "admin-token").read_text().strip()
    assert fields["Authorization"] == f"Bearer {token}"
    assert compose_up(docker)[0] == "compose up --detach --no-deps --no-recreate --scale=web=5 web"
    assert (directory / "topology.yaml").read_text() == MORE
    assert "scale: 5" in (directory / "compose.yaml").read_text()


def test_what_is_taken_back_is_taken_back_in_the_directory_too(site, serve):
    directory, _ = site
    rolled_back = said(**change("rolled back", reason="no node of mid has joined"))
    url = serve(topology(), topology(), begun(), said(text=MID), rolled_back, topology())
    add = ("tier", "add", "mid", "--kind", "l7", "--between", "edge", "web")
    result = run(*add, "--compose", str(directory), "--admin", url)
    assert (result.exit_code, "rolled back: no node of mid has joined" in result.stderr) == (1, True)
    assert (directory / "topology.yaml").read_text() == TEXT
    assert "mid" not in (directory / "compose.yaml").read_text()


def test_an_engine_that_fails_is_said_at_once_and_the_change_followed_all_the_same(site, serve):
    directory, docker = site
    docker.fail("no space left on device")
    url = serve(topology(), topology(), begun(), said(text=MORE), said(**change("rolled back")), topology())
    result = run("scale", "web=5", "--compose", str(directory), "--admin", url)
    assert result.exit_code == 1
    assert "failed: no space left on device\nWithout it the change is taken back at its deadline." in result.stderr
    assert ("GET", "/v1/progress/1") in serve.asked


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("tier", "add", "top", "--kind", "l4", "--above", "edge"), 1, "which the container of edge does"),
        (("scale", "edge=2"), 2, "tiers.edge.replicas: one port cannot be published by 2 containers"),
    ],
)
def test_what_compose_cannot_have_is_refused_before_anybody_is_asked(site, serve, arguments, code, told):
    directory, docker = site
    url = serve(topology())
    result = run(*arguments, "--compose", str(directory), "--admin", url)
    assert result.exit_code == code
    assert told in result.stderr
    assert {method for method, _ in serve.asked} == {"GET"}
    assert docker.told() == []


def test_a_conflict_says_how_to_have_it_with_a_cut(site, serve):
    directory, _ = site
    add = ("tier", "add", "top", "--kind", "l4", "--above", "edge")
    result = run(*add, "--compose", str(directory), "--admin", serve(topology()))
    assert f"Nothing was changed. To do it all the same, with a cut of all connections there: {AGAIN}" in result.stderr
    assert f"tierlb compose FILE --output {directory}, and there docker compose up -d --remove-orphans" in result.stderr


def test_a_dry_run_touches_no_container(site, serve):
    directory, docker = site
    url = serve(topology(), topology(), said(**PLAN))
    assert run("scale", "web=5", "--dry-run", "--compose", str(directory), "--admin", url).exit_code == 0
    assert docker.told() == []
    assert (directory / "topology.yaml").read_text() == TEXT


def test_a_node_is_drained_and_no_file_changes(site, serve):
    directory, _ = site
    url = serve(topology(), topology(), begun(), said(text=TEXT), said(**change("done")), topology(TEXT))
    assert run("drain", "web-1", "--compose", str(directory), "--admin", url).exit_code == 0
    assert json.loads(serve.sent[0][1])["edit"] == {"verb": "node", "node": "web-1", "admin": "drain"}
    assert (directory / "topology.yaml").read_text() == TEXT


def test_another_cluster_at_that_address_is_left_alone(site, serve):
    directory, _ = site
    result = run("scale", "web=5", "--compose", str(directory), "--admin", serve(topology(cluster="other")))
    assert result.exit_code == 1
    assert "is the cluster other, and" in result.stderr
    assert serve.sent == []


@pytest.mark.parametrize(("verb", "path"), [("apply", "/v1/apply"), ("rollback", "/v1/rollback")])
def test_a_whole_file_and_an_old_revision_are_rendered_beforehand_too(site, serve, tmp_path, verb, path):
    directory, docker = site
    (tmp_path / "wanted.yaml").write_text(MORE)
    argument, old = {"apply": (str(tmp_path / "wanted.yaml"), []), "rollback": ("3", [said(text=MORE)])}[verb]
    url = serve(topology(), topology(), *old, begun(), said(text=MORE), said(**change("done")), topology(MORE))
    result = run(verb, argument, "--compose", str(directory), "--admin", url)
    assert result.exit_code == 0, result.output
    assert ("POST", path) in serve.asked
    assert "--scale=web=5" in compose_up(docker)[0]


def test_progress_goes_on_where_another_command_was_interrupted(site, serve):
    directory, docker = site
    under_way = said(change=change("running"))
    url = serve(topology(), under_way, said(text=MORE), said(**change("done")), topology(MORE))
    result = run("progress", "--compose", str(directory), "--admin", url)
    assert result.exit_code == 0, result.output
    assert "--scale=web=5" in compose_up(docker)[0]
    assert (directory / "topology.yaml").read_text() == MORE


def test_progress_makes_the_containers_what_counts_where_nothing_is_under_way(site, serve):
    directory, docker = site
    url = serve(topology(), said(change=None), topology(MORE))
    result = run("progress", "--compose", str(directory), "--admin", url)
    assert (result.exit_code, "nothing was changed since the start" in result.stdout) == (0, True)
    assert "--scale=web=5" in compose_up(docker)[0]


def test_an_edit_that_does_not_apply_is_refused_by_the_controller_in_its_words(site, serve):
    directory, _ = site
    refusal = (422, json.dumps({"kind": "edit", "error": "no tier or pool named 'wab'"}).encode())
    url = serve(topology(), topology(), refusal)
    result = run("scale", "wab=5", "--compose", str(directory), "--admin", url)
    assert (result.exit_code, "no tier or pool named 'wab'" in result.stderr) == (2, True)
