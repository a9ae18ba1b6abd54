"""What the engine is told, in which order, and what is said where it does not do it. With a real engine it is
test_compose_engine.py."""

import os

import pytest

from tests.deploy.fake_docker import FakeDocker
from tests.deploy.test_containers import MID, TEXT, file, row
from tierlb.deploy.docker import ComposeEngine, EngineError, find_engine
from tierlb.topology.edit import RemoveTier, edited

NEWER = TEXT.replace("demo-backend", "demo-backend --slots 9")


@pytest.fixture
def docker(tmp_path, monkeypatch):
    fake = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.directory}:{os.environ['PATH']}")
    return fake


@pytest.fixture
def engine(docker, tmp_path):
    docker.hold(file())
    return found(tmp_path)


def found(directory):
    said = []
    engine = find_engine(directory, said.append)
    return ComposeEngine(directory, engine.compose, engine.project, said.append, ready_s=0.5, finish_s=0.5)


def test_what_runs_is_found_and_where_all_is_there_nothing_is_done(docker, engine):
    assert (engine.project, engine.compose) == ("shop", ("docker", "compose"))
    scene = engine.scene()
    assert {each.service for each in scene.containers} == {"controller", "edge", "web", "app"}
    assert scene.of("edge")[0].published == {"127.0.0.1:8080"}
    assert scene.networks == {"out-controller", "to-edge", "to-web", "to-app", "out-edge"}
    engine.grow(file())
    engine.shrink(file())
    assert docker.told() == []


def test_networks_are_made_and_connected_before_anything_starts(docker, engine):
    engine.grow(file(MID))
    labels = ("tierlb.cluster=shop", "com.docker.compose.project=shop", "com.docker.compose.network=to-mid")
    assert docker.told() == [
        f"network create {' '.join(f'--label={each}' for each in labels)} --internal shop_to-mid",
        "network connect --alias=controller --alias=controller-mid shop_to-mid controller-1",
        "network connect --alias=edge shop_to-mid edge-1",
        "compose up --detach --no-deps --no-recreate --scale=mid=2 mid",
    ]


def test_containers_end_before_their_networks_go(docker, engine):
    docker.hold(file(MID))
    engine.shrink(file(edited(MID, RemoveTier("mid"))))
    first, second, *others = docker.told()
    assert first == "stop mid-1 mid-2"
    assert second == "rm --force --volumes mid-1 mid-2"
    assert "network disconnect shop_to-mid edge-1" in others
    assert others[-1] == "network rm shop_to-mid"


def test_the_endpoints_of_a_pool_end_one_after_the_other(docker, engine):
    wanted = file()
    del wanted["services"]["app"]
    engine.shrink(wanted)
    remove = "rm --force --volumes"
    assert docker.told() == ["stop app-1", f"{remove} app-1", "stop app-2", f"{remove} app-2"]


def test_a_network_in_which_data_passes_is_left(docker, engine):
    docker.hold(file(MID))
    docker.table("head\n" + row("172.18.0.2:41000", "172.18.0.9:7945"))
    said = []
    busy = ComposeEngine(engine.directory, engine.compose, engine.project, said.append, finish_s=0.5)
    busy.shrink(file(edited(MID, RemoveTier("mid"))))
    assert "network disconnect shop_to-mid edge-1" not in docker.told()
    assert "network rm shop_to-mid" not in docker.told()
    assert said[-1] == "edge-1 stays in to-mid, where it has connections"


def test_nothing_is_ended_while_what_takes_its_place_is_not_ready(docker, engine):
    with pytest.raises(EngineError, match=r"app cannot be made anew: .* after 0.5 s.*`docker compose logs app`"):
        engine.shrink(file(NEWER))
    assert docker.told() == []


def test_what_the_engine_says_is_told(docker, engine):
    docker.fail("no space left on device")
    with pytest.raises(EngineError, match=r"`docker network create .* failed: no space left on device"):
        engine.grow(file(MID))


def test_where_nothing_runs_it_says_how_to_start(docker, tmp_path):
    with pytest.raises(EngineError, match=r"nothing runs from .*: start it there with `docker compose up -d`"):
        found(tmp_path)


def test_without_docker_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="neither `docker compose` nor docker-compose can be run: install one of"):
        found(tmp_path)
