"""A new TLS connection for every request, each with a full handshake: wrk resumes sessions, and h2load keeps them.

`python -m scripts.benchmarks.handshakes HOST:PORT SECONDS` prints a JSON object with the times of all requests, from
connect to end, and what failed. Threads wait for each other's answers only where OpenSSL needs the processor, as it
works without the interpreter's lock.
"""

import json
import socket
import ssl
import sys
import threading
import time

THREADS = 8
TIMEOUT_S = 10.0
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def client_context() -> ssl.SSLContext:
    """Takes any certificate, as a load generator needs no proof."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask(context: ssl.SSLContext, host: str, port: int) -> bool:
    """Whether one request on a connection of its own gets a 200 and the end of TLS. Raises OSError."""
    with (
        socket.create_connection((host, port), TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as secured,
    ):
        secured.sendall(REQUEST)
        answer = b""
        while data := secured.recv(65536):
            answer += data
        return answer.startswith(b"HTTP/1.1 200 ") and not secured.session_reused


def load(host: str, port: int, seconds: float) -> dict[str, object]:
    """Times in seconds, the number of failures, and the first of these in words."""
    context = client_context()
    times: list[float] = []
    failures: list[str] = []
    until_s = time.monotonic() + seconds

    def work() -> None:
        while (begin_s := time.monotonic()) < until_s:
            try:
                if not ask(context, host, port):
                    failures.append("another answer than 200, or a session that was resumed")
                    continue
            except OSError as error:
                failures.append(f"{type(error).__name__}: {error}")
                continue
            times.append(time.monotonic() - begin_s)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"times_s": times, "failed": len(failures), "first": failures[0] if failures else None}


def main() -> None:
    """From the command line."""
    target, seconds = sys.argv[1:]
    host, _, port = target.rpartition(":")
    print(json.dumps(load(host, int(port), float(seconds))))


if __name__ == "__main__":
    main()
