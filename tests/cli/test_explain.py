"""The command against an admin API and a listener that say what a test wants them to say."""

import contextlib
import json
import socket
import ssl
import threading

import attrs
import h11
import pytest
import trustme

from tests.cli.conftest import answer, run, words
from tierlb.cli import explain
from tierlb.controller.status import ClusterStatus, NodeStatus, PoolStatus, State, TierStatus
from tierlb.model.address import Address

NONCE = (200, b'{"nonce": "n0nce", "ttl_s": 10.0}')
ENDPOINT = "app/127.0.0.1:9001"
LINES = (
    {"node": "edge-1", "policy": "load-aware", "chose": "web-1", "members": [{"member": "web-1", "in_flight": 2}]},
    {"node": "web-1", "policy": "random", "chose": ENDPOINT, "members": [{"member": ENDPOINT, "in_flight": 0}]},
)
PARTS = tuple(b"X-Tierlb-Explain: %b\r\n" % json.dumps(line).encode() for line in LINES)
OK = b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\nok"
WHOLE, HALF, NOTHING = OK % b"".join(PARTS), OK % PARTS[0], OK % b""
HTTP_ONLY = "only HTTP can be explained"


def node(name):
    return NodeStatus(name, State.SERVING, True, 1, 1, (), None, None, None)


def cluster(address, kind="l7", listen=True, tls=()):
    """An edge, and a web tier below of that kind; beside them plain TCP at port 1. `tls`: where clients speak it."""
    secured = (address,) if tls is True else tls or ()
    tiers = {
        "plain": TierStatus("l4", Address("127.0.0.1", 1), ("app",), (node("plain-1"),)),
        "edge": TierStatus("l4", address if listen else None, ("web",), (node("edge-1"),), tls=secured),
        "web": TierStatus(kind, None, ("app",), (node("web-1"),)),
    }
    return answer(ClusterStatus("shop", 1, True, (), tiers, {"app": PoolStatus(())}))


@attrs.define
class Listener:
    """Takes one connection after the other, keeps the request, gives the next of the answers (b"" just closes)."""

    sock: socket.socket
    answers: list
    requests: list = attrs.field(factory=list)
    secured: ssl.SSLContext | None = None

    @property
    def address(self):
        return Address(*self.sock.getsockname())

    def run(self):
        while True:
            try:
                connection, _ = self.sock.accept()
            except OSError:
                return
            connection.settimeout(5)
            if self.secured is not None:
                try:
                    connection = self.secured.wrap_socket(connection, server_side=True)
                except OSError:
                    connection.close()
                    continue
            with connection, contextlib.suppress(OSError):
                self.requests.append(self._head(connection))
                connection.sendall(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])

    def _head(self, connection):
        data = b""
        while b"\r\n\r\n" not in data and (piece := connection.recv(65536)):
            data += piece
        return data

    def heard(self, index=0):
        """A request as another implementation reads it: method, target, fields."""
        server = h11.Connection(h11.SERVER)
        server.receive_data(self.requests[index])
        request = server.next_event()
        assert isinstance(server.next_event(), h11.EndOfMessage)
        return request.method, request.target, dict(request.headers)


@pytest.fixture
def listener():
    sock = socket.create_server(("127.0.0.1", 0))
    listener = Listener(sock, [WHOLE])
    thread = threading.Thread(target=listener.run)
    thread.start()
    yield listener
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()
    thread.join()


@pytest.fixture
def ask(serve, listener):
    """Runs the command for a cluster whose edge is the listener."""

    def ask(*arguments, status=None):
        admin = serve(status or cluster(listener.address), NONCE)
        return run("explain", "--admin", admin, *arguments)

    return ask


def test_the_way_is_printed_from_the_top_down_and_who_answered_last(ask, listener):
    result = ask()
    assert result.exit_code == 0
    rows = words(result.stdout)
    assert rows[0] == ["GET", f"http://{listener.address}/"]
    assert rows[3:] == [
        ["edge-1", "·", "edge", "l4", "·", "load-aware"],
        ["▸", "web-1", "2", "available"],
        ["web-1", "·", "web", "l7", "·", "random"],
        ["▸", ENDPOINT, "0", "?", "available"],
        ["200", "OK", "from", ENDPOINT],
    ]


def test_the_request_carries_the_nonce_and_is_an_ordinary_one(ask, listener, serve):
    ask()
    assert serve.asked == [("GET", "/v1/status"), ("POST", "/v1/explain")]
    method, target, fields = listener.heard()
    assert (method, target) == (b"GET", b"/")
    assert fields == {
        b"host": str(listener.address).encode(),
        b"user-agent": b"tierlb-explain",
        b"accept": b"*/*",
        b"connection": b"close",
        b"x-tierlb-explain": b"n0nce",
    }


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("/cart", b"/cart"),
        ("/cart?a=1&b=%20#part", b"/cart?a=1&b=%20"),
        ("/a b/é?x={1}", b"/a%20b/%C3%A9?x=%7B1%7D"),
        ("http://{at}", b"/"),
        ("http://{at}?x", b"/?x"),
        ("http://localhost:{port}/cart", b"/cart"),
        ("HTTP://user@{at}/", b"/"),
    ],
)
def test_a_path_alone_is_enough_and_a_url_may_name_the_tier(ask, listener, url, target):
    at = listener.address
    result = ask(url.replace("{at}", str(at)).replace("{port}", str(at.port)))
    assert result.exit_code == 0
    _, heard, fields = listener.heard()
    assert heard == target
    assert fields[b"host"].endswith(b":%d" % at.port)
    assert b"@" not in fields[b"host"]


def test_fields_and_method_are_as_given(ask, listener):
    given = ("-H", "Host: shop.example", "-H", "X-User:7", "--header", "connection: keep-alive", "-X", "delete")
    assert ask("/", *given).exit_code == 0
    method, _, fields = listener.heard()
    assert method == b"DELETE"
    assert (fields[b"host"], fields[b"x-user"], fields[b"connection"]) == (b"shop.example", b"7", b"keep-alive")


@pytest.mark.parametrize("answers", [[NOTHING, HALF, WHOLE], [OK % PARTS[1], WHOLE]])
def test_gaps_are_filled_by_asking_again(ask, listener, serve, answers):
    listener.answers[:] = answers
    assert ask().exit_code == 0
    assert len(listener.requests) == len(answers)
    assert serve.asked[1:] == [("POST", "/v1/explain")] * len(answers)


def test_what_may_change_something_is_sent_once_and_late(ask, listener, serve):
    listener.answers[:] = [HALF, WHOLE]
    result = ask("-X", "POST")
    assert result.exit_code == 1
    assert len(listener.requests) == 1
    assert serve.asked[1:] == [("POST", "/v1/explain")] * explain.ATTEMPTS
    assert listener.heard()[2][b"content-length"] == b"0"


def test_a_tier_that_keeps_silent_is_named_below_what_is_known(ask, listener):
    listener.answers[:] = [HALF]
    result = ask("/x")
    assert result.exit_code == 1
    assert len(listener.requests) == explain.ATTEMPTS
    assert "web-1 did not explain its choice" in result.stdout
    assert words(result.stdout)[-1] == ["200", "OK"]
    assert "answered 200, but web-1 did not explain its choice" in result.stderr
    assert "tierlb status" in result.stderr


def test_an_answer_without_any_explanation_is_an_error(ask, listener):
    listener.answers[:] = [NOTHING]
    result = ask()
    assert (result.exit_code, result.stdout) == (1, "")
    assert "answered 200, but tier edge did not explain its choice" in result.stderr


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + WHOLE,
        WHOLE.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked").replace(b"ok", b"2\r\nok\r\n0\r\n\r\n"),
        WHOLE.replace(b"200 OK", b"503 No"),
        WHOLE[:-2],
    ],
)
def test_only_the_final_head_counts(ask, listener, first):
    listener.answers[:] = [first]
    assert ask().exit_code == 0


def test_a_tunnel_is_explained_as_it_begins(ask, listener):
    listener.answers[:] = [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n%b\r\n" % b"".join(PARTS)
    ]
    result = ask("-H", "Upgrade: x", "-H", "Connection: upgrade")
    assert result.exit_code == 0
    assert words(result.stdout)[-1] == ["101", "Switching", "Protocols", "from", ENDPOINT]


def test_json_is_for_programs(ask, listener):
    result = ask("/x", "--json")
    told = json.loads(result.stdout)
    assert (told["method"], told["url"], told["status"]) == ("GET", f"http://{listener.address}/x", 200)
    assert (told["endpoint"], told["missing"]) == (ENDPOINT, None)
    assert [(c["node"], c["tier"], c["kind"], c["chose"]) for c in told["choices"]] == [
        ("edge-1", "edge", "l4", "web-1"),
        ("web-1", "web", "l7", ENDPOINT),
    ]


def test_json_tells_what_is_missing_too(ask, listener):
    listener.answers[:] = [HALF]
    result = ask("--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["missing"] == "web-1"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "closed the connection without an answer"),
        (WHOLE[:20], "closed the connection without an answer"),
        (b"hello\r\n\r\n", "does not answer as HTTP does"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000, "does not answer as HTTP does"),
    ],
)
def test_who_does_not_answer_as_http_does_is_an_error(ask, listener, raw, said):
    listener.answers[:] = [raw]
    result = ask()
    assert result.exit_code == 1
    assert said in result.stderr


def test_a_listener_that_is_not_there_is_an_error(ask):
    result = ask(status=cluster(Address("127.0.0.1", 2)))
    assert result.exit_code == 1
    assert "http://127.0.0.1:2/ cannot be reached" in result.stderr


def test_a_listener_that_says_nothing_is_left(ask, listener, monkeypatch):
    monkeypatch.setattr(explain, "EXPLAIN_ANSWER_S", 0.05)
    silent = socket.create_server(("127.0.0.1", 0))
    with silent:
        result = ask(status=cluster(Address(*silent.getsockname())))
    assert result.exit_code == 1
    assert "did not answer in time" in result.stderr


@pytest.fixture
def over_tls(listener, tmp_path):
    """The listener speaks TLS, with a certificate that nothing trusts."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("shop.example", key_type=trustme.KeyType.ECDSA).configure_cert(context)
    listener.secured = context
    return listener


@pytest.mark.parametrize("url", ["/cart", "https://{at}/cart"])
def test_a_tier_that_speaks_tls_is_asked_by_it(ask, over_tls, url):
    result = ask(url.replace("{at}", str(over_tls.address)), status=cluster(over_tls.address, tls=True))
    assert result.exit_code == 0, result.stderr
    assert f"https://{over_tls.address}/cart" in result.stdout
    assert over_tls.heard()[1] == b"/cart"


def test_where_tls_fails_the_reason_is_told(ask, listener):
    result = ask("/", status=cluster(listener.address, tls=True))
    assert result.exit_code == 1
    assert "cannot be reached: the TLS handshake failed: " in result.stderr


def test_a_listener_that_demands_certificates_is_told_to_be_one(ask, over_tls):
    """In TLS 1.2: in 1.3 the refusal comes behind the request, and a reset may be all that arrives of it."""
    over_tls.secured.maximum_version = ssl.TLSVersion.TLSv1_2
    over_tls.secured.verify_mode = ssl.CERT_REQUIRED
    result = ask("/", status=cluster(over_tls.address, tls=True))
    assert result.exit_code == 1
    assert "(client_ca), explain cannot ask, as it shows none" in result.stderr


@pytest.mark.parametrize(("tls", "scheme"), [(True, "http"), (False, "https")])
def test_the_scheme_has_to_be_the_one_that_is_spoken_there(ask, listener, tls, scheme):
    result = ask(f"{scheme}://{listener.address}/", status=cluster(listener.address, tls=tls))
    assert result.exit_code == 2
    assert f"there: write {'https' if tls else 'http'}://" in result.stderr


def test_a_path_alone_goes_where_no_tls_is_spoken_if_there_is_such_a_listener(ask, listener):
    both = cluster((Address("127.0.0.1", 9), listener.address), tls=(Address("127.0.0.1", 9),))
    assert ask("/", status=both).exit_code == 0
    assert len(listener.requests) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_who_listens_everywhere_is_asked_where_the_admin_api_is(ask, listener, host):
    everywhere = cluster(Address(host, listener.address.port))
    for url in ("/", f"http://localhost:{listener.address.port}/"):
        assert ask(url, status=everywhere).exit_code == 0
    assert listener.heard()[2][b"host"] == str(listener.address).encode()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://127.0.0.2:{port}/", "http://localhost/"])
def test_a_url_that_leads_elsewhere_is_wrong_usage(ask, listener, url):
    result = ask(url.replace("{port}", str(listener.address.port)))
    assert result.exit_code == 2
    assert f"does not listen there, but at 127.0.0.1:1 (plain), {listener.address} (edge)" in result.stderr


@pytest.mark.parametrize(
    "url", ["cart.html", "ftp://127.0.0.1/", "http://", "http://[::1", "http://127.0.0.1:port/", "?x", ""]
)
def test_a_url_that_is_none_is_wrong_usage(ask, url):
    result = ask(url)
    assert result.exit_code == 2
    assert "write it as http://HOST:PORT/PATH (or https://), or /PATH alone" in result.stderr


def test_a_name_that_leads_nowhere_is_an_error(ask, monkeypatch):
    resolve = socket.getaddrinfo

    def fail(host, *rest, **more):
        if host == "no.example":
            raise socket.gaierror(-2, "Name or service not known")
        return resolve(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    result = ask("http://no.example/")
    assert result.exit_code == 1
    assert "no.example: Name or service not known" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("-H", "Host"),
        ("-H", ": x"),
        ("-H", "a b: x"),
        ("-H", "X: a\nb"),
        ("-H", "Content-Length: 5"),
        ("-H", "Transfer-Encoding: gzip"),
        ("-X", "GET IT"),
        ("-X", ""),
        ("--admin", "7900"),
    ],
)
def test_what_is_no_request_is_wrong_usage_and_nothing_is_sent(ask, listener, arguments):
    assert ask("/", *arguments).exit_code == 2
    assert listener.requests == []


@pytest.mark.parametrize("url", ["/", "http://127.0.0.1:1/"])
def test_plain_tcp_cannot_be_explained(ask, listener, url):
    status = cluster(listener.address, kind="l4", listen=False)
    result = ask(url, status=status)
    assert result.exit_code == 1
    assert f"{HTTP_ONLY}, and plain (127.0.0.1:1) carries plain TCP" in result.stderr


def test_a_tier_of_plain_tcp_beside_one_with_http_cannot_either(ask):
    result = ask("http://127.0.0.1:1/")
    assert result.exit_code == 1
    assert f"{HTTP_ONLY}, and plain (127.0.0.1:1) carries plain TCP" in result.stderr


def test_no_cluster_there_says_what_to_do():
    result = run("explain", "--admin", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "start one with `tierlb up FILE`" in result.stderr


def test_a_controller_that_explains_nothing_is_an_error(serve, listener):
    result = run("explain", "--admin", serve(cluster(listener.address), (404, b"Not Found")))
    assert result.exit_code == 1
    assert "answered 404" in result.stderr
