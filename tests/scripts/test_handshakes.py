"""Each request of the load has a full handshake, and what went wrong is counted."""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.benchmarks import handshakes
from scripts.benchmarks.certificate import make_certificate

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
BAD = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Server:
    """Answers one request on each TLS connection with `answer`."""

    def __init__(self, context: ssl.SSLContext, answer: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._context, self._answer = context, answer
        self.resumed: list[bool | None] = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            plain, _ = self._listener.accept()
            with plain:
                try:
                    secured = self._context.wrap_socket(plain, server_side=True)
                except OSError:
                    return
                with secured:
                    secured.recv(4096)
                    self.resumed.append(secured.session_reused)
                    secured.sendall(self._answer)
                    with contextlib.suppress(OSError):  # the client says no more
                        secured.unwrap()

    def stop(self) -> None:
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join(5)
        self._listener.close()


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(make_certificate(tmp_path))
    server = Server(context, request.param)
    yield server
    server.stop()


def run(server: Server) -> dict[str, object]:
    command = [sys.executable, "-m", handshakes.__name__, server.address, "0.2"]
    return dict(json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout))


@pytest.mark.parametrize("served", [OK], indirect=True)
def test_each_request_has_a_full_handshake(served: Server) -> None:
    found = run(served)
    assert found["failed"] == 0
    assert len(found["times_s"]) == len(served.resumed) > 0
    assert not any(served.resumed)


@pytest.mark.parametrize("served", [BAD], indirect=True)
def test_other_answers_are_failures(served: Server) -> None:
    found = run(served)
    assert (found["times_s"], found["first"]) == ([], "another answer than 200, or a session that was resumed")
    assert found["failed"] == len(served.resumed)
