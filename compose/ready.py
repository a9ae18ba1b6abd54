"""Whether what runs in this container is ready; for a health check, so it starts in a few milliseconds.

    python -I -S ready.py PORT             ready when it accepts connections
    python -I -S ready.py udp:PORT         ready when a process has bound a UDP socket to it
    python -I -S ready.py PORT/PATH        ready when GET /PATH is answered with 200
    python -I -S ready.py PORT/PATH CERTIFICATE KEY CA     by TLS, showing the certificate

Exit code 0 when it is, else 1, with the reason on the standard output, where the engine keeps it.
"""

import contextlib
import socket
import sys

TIMEOUT_S = 4.0
MOST_BYTES = 4096
UNCONNECTED = "07"
"""The state of a socket in the table."""


def reason(what: str, files: tuple[str, ...]) -> str:
    """Why it is not ready; nothing if it is."""
    if what.startswith("udp:"):
        return "" if takes_datagrams(int(what[4:])) else "no process has bound a UDP socket to the port"
    port, _, path = what.partition("/")
    with socket.create_connection(("127.0.0.1", int(port)), TIMEOUT_S) as plain:
        if not path:
            return ""
        with wrapped(plain, files) if files else plain as stream:
            stream.sendall(f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            answer = read(stream)
    if answer.startswith(b"HTTP/1.1 200 "):
        return ""
    return answer.rpartition(b"\r\n\r\n")[2].decode("ascii", "replace").strip() or "no reason is given"


def takes_datagrams(port: int) -> bool:
    """Whether a socket of this container is bound there, by the kernel's table. It is not asked: there is no datagram
    that any service takes."""
    rows = []
    for name in ("udp", "udp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{name}", encoding="ascii") as table:
            rows += [line.split() for line in table.readlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == UNCONNECTED for row in rows)


def wrapped(plain: socket.socket, files: tuple[str, ...]) -> socket.socket:
    """The name in the certificate is not looked at: this is the same container."""
    import ssl

    certificate, key, ca = files
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    context.load_cert_chain(certificate, key)
    return context.wrap_socket(plain)


def read(stream: socket.socket) -> bytes:
    """All of a short answer."""
    answer = b""
    while len(answer) < MOST_BYTES and (piece := stream.recv(MOST_BYTES)):
        answer += piece
    return answer


def main(what: str, *files: str) -> int:
    """Says why it is not ready; the exit code."""
    try:
        told = reason(what, files)
    except (OSError, ValueError) as error:
        told = str(error)
    if told:
        print(told)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
