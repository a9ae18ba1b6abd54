"""What becomes of readings, when figures are void, and that both generators send the same."""

import shutil
import socket
import subprocess
from pathlib import Path

import attrs
import pytest

from scripts.benchmarks.arrivals import Request
from scripts.benchmarks.cgroup import Limit, Throttling
from scripts.benchmarks.loaded import (
    EDGE_CPU,
    FEWEST,
    LATE,
    LEAST_QUOTA,
    MOST,
    MOST_QUOTA,
    NODE_CPU,
    P50,
    P99,
    PER_SECOND,
    STALLED,
    Reading,
    evenness,
    judged,
    told,
    used,
    wrk_command,
)
from scripts.benchmarks.openloop import CUT, Result, head
from scripts.benchmarks.visitors import FIELDS
from scripts.benchmarks.windows import OK, Window

TENTH = Limit(10_000, 100_000)
MS = 1_000_000
BEFORE = Reading(
    at_s=100.0,
    requests=1000,
    edge_ns=50 * MS,
    nodes_ns=(0, 70 * MS),
    endpoints_ns=(0, 0),
    generator_ns=0,
    throttling=(Throttling(10, 4), Throttling(10, 10)),
    stat="cpu  100 0 50 800 10 0 5 0 0 0\n",
)
AFTER = Reading(
    at_s=102.0,
    requests=5000,
    edge_ns=90 * MS,
    nodes_ns=(200 * MS, 170 * MS),
    endpoints_ns=(20 * MS, 60 * MS),
    generator_ns=100 * MS,
    throttling=(Throttling(30, 24), Throttling(30, 15)),
    stat="cpu  120 0 60 860 15 0 10 0 0 0\n",
)


def test_what_two_readings_say() -> None:
    assert used(BEFORE, AFTER, TENTH) == pytest.approx(
        {
            PER_SECOND: 2000.0,
            EDGE_CPU: 10.0,
            NODE_CPU: 75.0,
            LEAST_QUOTA: 50.0,
            MOST_QUOTA: 100.0,
            STALLED: 100.0,
            "edge %": 2.0,
            "endpoints %": 3.0,
            "generator %": 5.0,
            "machine %": 35.0,
        }
    )


def test_throughput_is_what_nodes_used_by_what_a_request_cost_them() -> None:
    values = used(BEFORE, AFTER, TENTH)
    used_us = 1e6 * TENTH.cores * (values[LEAST_QUOTA] + values[MOST_QUOTA]) / 100
    assert values[PER_SECOND] == pytest.approx(used_us / values[NODE_CPU])


def test_a_window_without_a_request_has_figures_too() -> None:
    assert used(BEFORE, attrs.evolve(AFTER, requests=1000), TENTH)[EDGE_CPU] == 40_000.0


def test_evenness_is_the_extremes() -> None:
    assert evenness({"web-1": 30, "web-2": 2, "web-3": 64}) == {FEWEST: 2.0, MOST: 64.0}


FINE = {"endpoints %": 20.0, "generator %": 30.0, "machine %": 70.0, "edge %": 99.0, LATE: 1.0}


@pytest.mark.parametrize(
    ("changed", "void"),
    [
        ({}, None),
        ({"endpoints %": 71.0}, "endpoints: 71 % busy"),
        ({"generator %": 80.0, "machine %": 95.0}, "generator: 80 % busy; machine: 95 % busy"),
        ({LATE: 7.0}, "generator: 7.0 ms late at the 99th percentile"),
    ],
)
def test_figures_are_void_when_something_else_than_the_stack_was_the_limit(
    changed: dict[str, float], void: str | None
) -> None:
    measured = judged({**FINE, **changed}, None)
    assert (measured.void, measured.problem) == (void, void)


def test_what_the_stack_did_wrong_is_no_reason_to_measure_again() -> None:
    measured = judged(FINE, "Socket errors: read 3")
    assert (measured.void, measured.problem) == (None, "Socket errors: read 3")


REQUESTS = [Request(at_s, 0, 1.0) for at_s in (0.5, 1.5, 2.5)]
SEEN = Result([9.0, 0.010, 0.030], [OK, OK, OK], late_s=0.001, waited=0, connections=1, reconnected=0, cpu_s=0.1)


def test_the_tail_is_of_the_window_and_errors_are_of_the_whole_run() -> None:
    measured = told(REQUESTS, SEEN, Window(1.0, 3.0), FINE)
    assert (measured.values[P50], measured.values[P99], measured.problem) == (10.0, 30.0, None)
    cut = told(REQUESTS, attrs.evolve(SEEN, status=[CUT, OK, OK]), Window(1.0, 3.0), FINE)
    assert cut.failed == "33.3 % were not answered with 200"


def test_a_late_generator_makes_its_tail_void() -> None:
    assert told(REQUESTS, attrs.evolve(SEEN, late_s=0.02), Window(1.0, 3.0), FINE).void is not None


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_both_generators_send_the_same_requests(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10.0)
        command = wrk_command(f"127.0.0.1:{listener.getsockname()[1]}", 1, 1, tmp_path)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as wrk:
            listener.accept()[0].close()  # wrk looks whether it can connect at all
            with listener.accept()[0] as sock:
                sock.settimeout(10.0)
                heads = [sock.recv(65536)]
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                heads.append(sock.recv(65536))
            wrk.kill()
    numbers = [int(each.partition(b"session=")[2].partition(b";")[0]) for each in heads]
    assert numbers[0] != numbers[1]
    sent = [head(number, REQUESTS[0], FIELDS) for number in numbers]
    assert [without_target(each) for each in heads] == [without_target(each) for each in sent]


def without_target(request: bytes) -> tuple[bytes, bytes]:
    """The target is each generator's own."""
    line, _, fields = request.partition(b"\r\n")
    method, target, version = line.split(b" ")
    assert target.startswith(b"/?d=")
    return method + version, fields
