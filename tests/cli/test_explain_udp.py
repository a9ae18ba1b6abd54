"""The command for tiers over UDP, against an admin API and a port that answer what a test wants."""

import json
import socket
import threading

import pytest

from tests.cli.conftest import answer, run, words
from tests.cli.test_explain import NONCE, node
from tierlb.cli import explain_udp
from tierlb.controller.status import ClusterStatus, PoolStatus, State, TierStatus
from tierlb.model.address import Address
from tierlb.wire.explain_datagram import explain_question, with_choice

ENDPOINT = "app/127.0.0.1:9001"
EDGE = {"node": "edge-1", "policy": "random", "chose": "mid-1", "members": [{"member": "mid-1", "in_flight": 2}]}
MID = {"node": "mid-1", "policy": "maglev", "chose": ENDPOINT, "members": [{"member": ENDPOINT, "in_flight": 0}]}
HALF = with_choice(explain_question("n0nce"), json.dumps(EDGE).encode())
WHOLE = with_choice(HALF, json.dumps(MID).encode())
HOSTLESS = with_choice(HALF, json.dumps({**MID, "chose": None}).encode())


def cluster(address):
    """Two tiers over UDP, and one over TCP at the same port."""
    tiers = {
        "plain": TierStatus("l4", address, ("app",), (node("plain-1"),)),
        "edge": TierStatus("l4", address, ("mid",), (node("edge-1"),), "udp"),
        "mid": TierStatus("l4", None, ("app",), (node("mid-1"),), "udp"),
    }
    assert node("x").state is State.SERVING
    return answer(ClusterStatus("shop", 1, True, (), tiers, {"app": PoolStatus(())}))


@pytest.fixture
def port():
    """Answers each datagram with the next of the answers (b"": not at all), the last of them again and again."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    heard, answers = [], [WHOLE]

    def serve():
        while True:
            data, source = sock.recvfrom(65536)
            if not data:
                return
            heard.append(data)
            if said := answers.pop(0) if len(answers) > 1 else answers[0]:
                sock.sendto(said, source)

    thread = threading.Thread(target=serve)
    thread.start()
    address = Address(*sock.getsockname())
    yield address, heard, answers
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
        last.sendto(b"", address.sockaddr)
    thread.join()
    sock.close()


@pytest.fixture
def ask(serve, port, monkeypatch):
    monkeypatch.setattr(explain_udp, "EXPLAIN_DATAGRAM_S", 0.2)

    def ask(*arguments, url=None):
        admin = serve(cluster(port[0]), NONCE)
        return run("explain", url or f"udp://{port[0]}", "--admin", admin, *arguments)

    return ask


def test_the_choices_are_printed_from_the_top_down_and_who_would_get_it_last(ask, port):
    result = ask()
    assert (result.exit_code, port[1]) == (0, [explain_question("n0nce")])
    assert words(result.stdout)[3:] == [
        ["edge-1", "·", "edge", "l4", "·", "random"],
        ["▸", "mid-1", "2", "available"],
        ["mid-1", "·", "mid", "l4", "·", "maglev"],
        ["▸", ENDPOINT, "0", "available"],
        [ENDPOINT, "would", "get", "it"],
    ]


def test_programs_get_json(ask, port):
    document = json.loads(ask("--json").stdout)
    assert (document["url"], document["endpoint"]) == (f"udp://{port[0]}", ENDPOINT)
    assert [choice["node"] for choice in document["choices"]] == ["edge-1", "mid-1"]


def test_where_there_is_no_host_no_endpoint_would_get_it(ask, port):
    port[2][:] = [HOSTLESS]
    assert "no endpoint would get it" in ask().stdout


@pytest.mark.parametrize("first", [b"", b"something else", HALF])
def test_what_is_lost_or_has_a_gap_is_asked_again(ask, port, first):
    port[2][:] = [first, WHOLE]
    result = ask()
    assert (result.exit_code, len(port[1])) == (0, 2)


def test_what_stays_missing_is_named(ask, port):
    port[2][:] = [HALF]
    result = ask()
    assert (result.exit_code, len(port[1])) == (1, explain_udp.DATAGRAMS)
    assert "mid-1 did not explain its choice" in result.stderr


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("udp://127.0.0.1:1", "does not listen for datagrams there, but at"),
        ("udp://127.0.0.1", "write it as udp://HOST:PORT"),
        ("udp://:x", "write it as udp://HOST:PORT"),
    ],
)
def test_a_url_that_leads_elsewhere_is_a_usage_error(ask, url, problem):
    result = ask(url=url)
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_datagram_has_no_header_fields(ask):
    result = ask("-H", "X: y")
    assert (result.exit_code, "a datagram has neither" in result.stderr) == (2, True)
