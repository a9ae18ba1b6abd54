"""Commands in process: what they print and how they exit."""

import json
import random
import socket

from tests.cli.conftest import GOOD, run
from tierlb.demo import endpoint as demo_backend
from tierlb.demo.endpoint import Workers
from tierlb.model.topology import Orca


def test_up_starts_nothing_from_a_bad_file(write):
    result = run("up", write("cluster: shop\n"))
    assert result.exit_code == 2
    assert "nothing was started" in result.stderr


def test_up_names_a_taken_port_and_what_to_do(write):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("up", write(GOOD.replace("8080", str(port))))
    assert result.exit_code == 1
    assert f"tiers.edge.listen: cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "ss -ltnp" in result.stderr


def test_schema_is_json():
    result = run("schema")
    assert result.exit_code == 0
    assert "$schema" in json.loads(result.stdout)
    assert '"tiers"' in result.stdout


def test_demo_backend_says_why_it_cannot_listen():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("demo-backend", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "cannot listen on 127.0.0.1:" in result.stderr


def test_each_option_of_the_demo_backend_reaches_it(monkeypatch):
    started = []

    async def run_backend(name, host, port, station, orca):
        started.append((name, host, port, station, orca))

    monkeypatch.setattr(demo_backend, "run_backend", run_backend)
    options = "--port 9 --host 127.0.0.2 --name one --slots 3 --service 20ms --seed 5 --orca json"
    for more in ([], ["--fixed"]):
        assert run("demo-backend", *options.split(), *more).exit_code == 0
    (name, host, port, drawn, orca), (*_, fixed, _) = started
    assert (name, host, port, orca) == ("one", "127.0.0.2", 9, Orca.JSON)
    assert (drawn.slots, drawn.service_s) == (3, 0.02)
    assert drawn.draw_s() == Workers(3, 0.02, False, random.Random(5)).draw_s()
    assert (drawn.fixed, fixed.fixed, fixed.draw_s()) == (False, True, 0.02)
