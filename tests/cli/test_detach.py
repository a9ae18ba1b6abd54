"""Clusters in the background: what is said when they do not come up, and which one `down` means."""

import os

import pytest

from scripts.benchmarks.cluster import free_address
from tests.cli.conftest import GOOD, run
from tierlb.balance.stop_times import stop_all_s
from tierlb.cli import detach
from tierlb.controller.history import History
from tierlb.controller.store import StateFiles, Stored
from tierlb.topology.load import load_text


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_bad_file_starts_nothing(here, write):
    result = run("up", write("cluster: shop\n"), "--detach")
    assert result.exit_code == 2
    assert "nothing was started" in result.stderr
    assert not (here / ".tierlb").exists()


def test_a_cluster_that_ends_at_once_says_why_and_where_its_log_is(here, write):
    file = write(GOOD.replace("127.0.0.1:8080", "192.0.2.1:8080"))
    for _ in range(2):
        result = run("up", file, "--detach")
        assert result.exit_code == 1
        assert result.stderr.count("tiers.edge.listen: cannot listen on 192.0.2.1:8080") == 1
        assert "all of its log is in .tierlb/shop/log" in result.stderr
    log = here / ".tierlb" / "shop" / "log"
    assert log.read_text().count("cannot listen") == 2
    assert log.stat().st_mode & 0o777 == 0o600


def test_where_nothing_runs_down_says_so(here, write):
    result = run("down")
    assert (result.exit_code, "none runs here" in result.stderr) == (2, True)
    result = run("down", write(GOOD))
    assert (result.exit_code, "no cluster runs with its state in .tierlb/shop" in result.stderr) == (1, True)
    result = run("down", write(GOOD), "--state", "elsewhere")
    assert (result.exit_code, "give FILE or --state DIR, not both" in result.stderr) == (2, True)
    result = run("down", "--state", "elsewhere")
    assert (result.exit_code, "no cluster runs with its state in elsewhere" in result.stderr) == (1, True)


SLOW = """\
cluster: shop
tiers: {web: {kind: l7, listen: ":8080", to: app, drain: 5m}}
pools: {app: {endpoints: ["127.0.0.1:9001"]}}
"""


@pytest.mark.parametrize(("text", "said"), [(GOOD, "have up to 30s;"), (SLOW, "have up to 5m;")])
def test_down_names_the_drain_time_and_waits_as_long_as_the_cluster_that_runs_may_take_to_end(
    here, monkeypatch, text, said
):
    waited = []
    stop = detach.stop
    monkeypatch.setattr(detach, "stop", lambda directory, wait_s: waited.append(wait_s) or stop(directory, wait_s))
    files = StateFiles(here / ".tierlb" / "shop")
    version = files.load().version
    files.save(Stored(History().accept(text, "ann", "", 0.0, None)), version)
    result = run("down", "--state", ".tierlb/shop")
    assert said in result.output
    assert waited == [stop_all_s(load_text(text, "f")) + detach.DETACH_MARGIN_S]
    assert stop_all_s(load_text(SLOW, "f")) > 600.0
    files.close()


def test_the_only_one_that_runs_here_is_meant_and_checked(here):
    (here / ".tierlb" / "ended").mkdir(parents=True)
    stores = [StateFiles(here / ".tierlb" / "shop")]
    stores[0].load()
    result = run("down")
    assert (result.exit_code, f"process {os.getpid()}, which has .tierlb/shop, is no tierlb" in result.stderr) == (
        1,
        True,
    )
    stores.append(StateFiles(here / ".tierlb" / "mall"))
    stores[1].load()
    result = run("down")
    assert (result.exit_code, "several run here: mall, shop" in result.stderr) == (2, True)
    for store in stores:
        store.close()


@pytest.mark.parametrize(("name", "detach"), [("log", ["--detach"]), ("lock", ["--detach"])])
def test_a_file_that_somebody_else_has_prepared_is_refused_and_not_written(here, write, name, detach):
    victim = here / "victim"
    victim.write_text("precious\n")
    (here / ".tierlb" / "shop").mkdir(parents=True)
    (here / ".tierlb" / "shop" / name).symlink_to(victim)
    text = f"admin: {{listen: {free_address()}}}\n{GOOD.replace('127.0.0.1:8080', free_address())}"
    result = run("up", write(text), *detach)
    assert (result.exit_code, f".tierlb/shop/{name} cannot be opened: it is a symbolic link" in result.stderr) == (
        1,
        True,
    )
    assert victim.read_text() == "precious\n"
