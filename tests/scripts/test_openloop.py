import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

from scripts.benchmarks.arrivals import Request
from scripts.benchmarks.openloop import CUT, UNANSWERED, Generator, Lane, Plan, Result, dump, head, read_plan
from scripts.benchmarks.processes import free_addresses

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
DEADLINE_S = 60.0

Script = Callable[[socket.socket, int], bool]
"""What a server does with a connection's request of that number; False ends the connection."""


@contextlib.contextmanager
def server(script: Script) -> Iterator[str]:
    """A thread per connection; counts requests over all of them."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    threads: list[threading.Thread] = []
    lock, counted = threading.Lock(), iter(range(10_000))

    def attend(sock: socket.socket) -> None:
        sock.settimeout(DEADLINE_S)
        with sock, contextlib.suppress(ConnectionError):
            while sock.recv(4096):
                with lock:
                    number = next(counted)
                if not script(sock, number):
                    return

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                thread = threading.Thread(target=attend, args=(listener.accept()[0],))
                threads.append(thread)
                thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    accepting.join(DEADLINE_S)
    listener.close()
    for thread in threads:
        thread.join(DEADLINE_S)


def answering(answer: bytes, keeps: bool) -> Script:
    def script(sock: socket.socket, number: int) -> bool:
        sock.sendall(answer)
        return keeps

    return script


def run(target: str, times_s: list[float], most: int = 8, patience_s: float = 5.0, drain_s: float = 2.0) -> Result:
    requests = tuple(Request(at_s, 0, 1.0) for at_s in times_s)
    plan = Plan(time.monotonic() + 0.01, drain_s, patience_s, (Lane(target, most),), requests)
    generator = Generator(plan)
    try:
        return generator.run()
    finally:
        generator.close()


def test_header_lines_of_a_plan_are_sent_with_each_requests_number() -> None:
    request = Request(0.1, 0, 0.5)
    assert head(7, request, "") == b"GET /?d=0.500000 HTTP/1.1\r\nHost: shop.test\r\n\r\n"
    assert head(7, request, "w: {demand}\r\n", "POST /x") == (
        b"POST /x HTTP/1.1\r\nHost: shop.test\r\nw: 0.500000\r\n\r\n"
    )
    sent = head(7, request, "Cookie: s={number}; t={number}\r\nDNT: 1\r\n")
    assert sent.split(b"\r\n")[2:] == [b"Cookie: s=7; t=7", b"DNT: 1", b"", b""]


def test_a_plan_is_read_as_it_was_written() -> None:
    lanes = (Lane("127.0.0.1:1", 5), Lane("127.0.0.1:2", 1, "POST /x", "a: b\r\n"))
    plan = Plan(12.5, 10.0, 5.0, lanes, (Request(0.1, 0, 0.5), Request(0.2, 1, 2.5)))
    assert read_plan(dump(plan)) == plan


def test_every_request_is_answered_over_kept_connections() -> None:
    with server(answering(OK, keeps=True)) as target:
        begun_s = time.monotonic()
        result = run(target, [0.01 * number for number in range(20)], most=20)
        took_s = time.monotonic() - begun_s
    assert result.status == [200] * 20
    assert 0 < max(result.latency_s) < took_s
    assert (result.reconnected, result.waited) == (0, 0)


def test_who_is_told_to_close_reconnects_and_it_is_no_error() -> None:
    with server(answering(CLOSING, keeps=False)) as target:
        result = run(target, [0.02 * number for number in range(10)], most=1)
    assert (result.status, result.reconnected, result.connections) == ([200] * 10, 10, 1)


def test_an_idle_connection_that_ends_is_replaced_and_it_is_no_error() -> None:
    with server(answering(OK, keeps=False)) as target:
        result = run(target, [0.0, 0.1, 0.2], most=1)
    assert result.status == [200] * 3
    assert result.reconnected >= 2  # whether the last one's end is still seen depends on timing


def test_a_connection_that_ends_before_the_answer_is_an_error() -> None:
    with server(answering(OK[:20], keeps=False)) as target:
        result = run(target, [0.0, 0.05])
    assert result.status == [CUT, CUT]


def test_a_refused_connection_is_an_error() -> None:
    [nobody] = free_addresses(1)
    assert run(nobody, [0.0, 0.01]).status == [CUT, CUT]


def test_an_answer_that_is_an_error_keeps_its_status() -> None:
    with server(answering(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", keeps=True)) as target:
        assert run(target, [0.0, 0.01]).status == [503, 503]


def test_latency_counts_from_the_intended_time_also_while_waiting_for_a_connection() -> None:
    def slow_first(sock: socket.socket, number: int) -> bool:
        if number == 0:
            threading.Event().wait(1.0)
        sock.sendall(OK)
        return True

    with server(slow_first) as target:
        result = run(target, [0.0, 0.05], most=1)
    assert result.waited == 1
    assert result.latency_s[0] >= 1.0
    assert result.latency_s[1] >= 0.95


def test_a_full_lane_does_not_hold_up_the_schedule_of_another() -> None:
    hung, release = threading.Event(), threading.Event()

    def hang(sock: socket.socket, number: int) -> bool:
        hung.set()
        release.wait(DEADLINE_S)
        return False

    with server(hang) as stuck, server(answering(OK, keeps=True)) as free:
        requests = (Request(0.0, 0, 1.0), Request(0.05, 1, 1.0), Request(0.1, 0, 1.0))
        lanes = (Lane(stuck, 1), Lane(free, 1))
        generator = Generator(Plan(time.monotonic(), 2.0, DEADLINE_S / 2, lanes, requests))
        result = generator.run()
        generator.close()
        release.set()
    assert hung.is_set()
    assert result.status == [UNANSWERED, 200, UNANSWERED]
    assert 2.1 <= result.latency_s[0] < DEADLINE_S / 2, "the end of the run ends it, and not its patience"


def test_patience_ends_a_request_and_the_next_one_gets_a_new_connection() -> None:
    release = threading.Event()

    def hang_first(sock: socket.socket, number: int) -> bool:
        if number == 0:
            release.wait(DEADLINE_S)
            return False
        sock.sendall(OK)
        return True

    with server(hang_first) as target:
        result = run(target, [0.0, 1.5], most=1, patience_s=2.0, drain_s=DEADLINE_S / 2)
        release.set()
    assert result.status == [UNANSWERED, 200]
    assert 2.0 <= result.latency_s[0] < DEADLINE_S / 2
