"""Real processes on a machine with forty local ports: nobody is blamed for it, and nobody talks to itself."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 240.0


def seen(what: str) -> dict[str, Any]:
    """What the script in a namespace of its own says."""
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("NOT TESTED: network namespaces need root and unshare (util-linux)")
    command = ["unshare", "--net", sys.executable, str(Path(__file__).with_name("few_ports.py")), what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_without_local_ports_clients_get_503_at_once_and_no_endpoint_is_blamed() -> None:
    told = seen("ports")
    assert told["held"] > 60, "of two times forty ports, less those in use"
    assert told["full"].startswith("HTTP/1.1 503 ")
    assert told["availability"] == ["available", "available"]
    assert any(shortage.startswith("out of local ports: ") for shortage in told["shortages"])
    assert told["short_connects"] >= 2
    assert told["again"].startswith("HTTP/1.1 200 ")
    exhausted = [event for event in told["events"] if event["event"] == "resource_exhausted"]
    assert [event["resource"] for event in exhausted] == ["local ports"]
    assert not [event for event in told["events"] if event["event"] == "host_ejected"]


def test_an_edge_whose_endpoint_is_down_never_answers_with_the_client_s_own_words() -> None:
    told = seen("itself")
    assert told["echoed"] == 0
    assert told["left"] == 0, "the port is free for the endpoint"
