"""What the health check says of a server, without anything of tierlb's or of site-packages."""

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trustme

SCRIPT = Path(__file__).parents[2] / "compose" / "ready.py"
DEADLINE_S = 60.0


@contextlib.contextmanager
def answering(answer, context=None):
    """A server that answers one request, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = []

        def serve():
            with contextlib.suppress(OSError):
                plain, _ = listener.accept()
                with context.wrap_socket(plain, server_side=True) if context else plain as stream:
                    stream.settimeout(DEADLINE_S)
                    asked.append(stream.recv(4096))
                    stream.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE_S)


def checked(*words):
    done = subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT, *map(str, words)], capture_output=True, text=True, timeout=DEADLINE_S
    )
    return done.returncode, done.stdout, done.stderr


def response(status, body):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_200_is_ready():
    with answering(response("200 OK", "ready\n")) as (port, asked):
        assert checked(f"{port}/readyz") == (0, "", "")
    assert asked[0].startswith(b"GET /readyz HTTP/1.1\r\nHost: ")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (response("503 Service Unavailable", "it drains\n"), "it drains\n"),
        (response("404 Not Found", ""), "no reason is given\n"),
        (b"", "no reason is given\n"),
        (b"\xff\xfe", ""),
    ],
)
def test_all_else_is_not_ready_and_the_reason_is_printed(answer, told):
    with answering(answer) as (port, _):
        code, printed, complaint = checked(f"{port}/readyz")
    assert (code, complaint) == (1, "")
    assert printed == told or not told


def test_where_nothing_listens_it_is_not_ready():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        code, printed, complaint = checked(unused.getsockname()[1])
    assert (code, complaint) == (1, "")
    assert "refused" in printed


def test_without_a_path_it_is_enough_that_somebody_listens():
    with answering(b"") as (port, _):
        assert checked(port) == (0, "", "")


def test_with_tls_it_shows_its_certificate(tmp_path):
    authority = trustme.CA()
    files = [str(tmp_path / name) for name in ("tls.crt", "tls.key", "ca.crt")]
    certificate = authority.issue_cert("controller-web")
    certificate.cert_chain_pems[0].write_to_path(files[0])
    certificate.private_key_pem.write_to_path(files[1])
    authority.cert_pem.write_to_path(files[2])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files[2])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(files[0], files[1])
    with answering(response("200 OK", ""), context) as (port, asked):
        assert checked(f"{port}/readyz", *files) == (0, "", "")
    assert asked


def test_for_datagrams_it_is_ready_when_a_socket_is_bound():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert checked(f"udp:{port}") == (0, "", "")
    assert checked(f"udp:{port}") == (1, "no process has bound a UDP socket to the port\n", "")
