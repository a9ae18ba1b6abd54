"""An endpoint that costs next to nothing: a thread per connection, plain blocking sockets, no HTTP library.

`GET …/zeros/N` sends N zero bytes, `POST` answers with the count of its body's bytes, all else gets `ok`.
Bodies go through one buffer whatever their size. It understands what a proxy sends it, a Content-Length or
no body, and nothing more.

Run as `python endpoint.py PORT`.
"""

import re
import socket
import sys
import threading

BUFFER_BYTES = 1024 * 1024
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
OK = ANSWER % 3 + b"ok\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
ZEROS = re.compile(rb"GET \S*/zeros/(\d+) ")
BACKLOG = 1024


def serve(port: int) -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", port), backlog=BACKLOG) as listener:
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_attend, args=(sock,), daemon=True).start()


def _attend(sock: socket.socket) -> None:
    received = b""
    with sock:
        try:
            while True:
                while (end := received.find(b"\r\n\r\n") + 4) == 3:
                    data = sock.recv(65536)
                    if not data:
                        return
                    received += data
                received = _answer(sock, received[:end], received[end:])
        except ConnectionError:
            return  # the peer was killed, which is what the tests are about


def _answer(sock: socket.socket, head: bytes, rest: bytes) -> bytes:
    """Answer one request; returns what was received of the next one."""
    if zeros := ZEROS.match(head):
        _send_zeros(sock, int(zeros[1]))
    elif head.startswith(b"POST "):
        length = LENGTH.search(head)
        expected = int(length[1]) if length else 0
        early, rest = rest[:expected], rest[expected:]
        count = b"%d\n" % (len(early) + _discard(sock, expected - len(early)))
        sock.sendall(ANSWER % len(count) + count)
    else:
        sock.sendall(OK)
    return rest


def _send_zeros(sock: socket.socket, count: int) -> None:
    sock.sendall(ANSWER % count)
    zeros = memoryview(bytes(BUFFER_BYTES))
    while count:
        count -= sock.send(zeros[: min(count, BUFFER_BYTES)])


def _discard(sock: socket.socket, expected: int) -> int:
    """Read that many bytes; returns how many came before the end."""
    buffer = memoryview(bytearray(BUFFER_BYTES))
    left = expected
    while left:
        received = sock.recv_into(buffer[: min(left, BUFFER_BYTES)])
        if not received:
            break
        left -= received
    return expected - left


if __name__ == "__main__":
    serve(int(sys.argv[1]))
