import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from scripts.benchmarks.load import h2load_times_ms, idle_connections, parse_h2load, parse_wrk, percentiles

CLEAN = """Running 4s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.41ms  690.21us  13.17ms   84.77%
    Req/Sec    46.77k     3.01k   53.60k    67.50%
  Latency Distribution
     50%  950.00us
     75%    1.77ms
     90%    2.27ms
     99%    3.31ms
  186235 requests in 4.00s, 43.51MB read
Requests/sec:  46560.91
Transfer/sec:     10.88MB
"""
ERRORS = "  Socket errors: connect 0, read 3, write 0, timeout 0\n"
STATUSES = "  Non-2xx or 3xx responses: 12\n"


def test_the_figures_of_a_clean_run_are_read() -> None:
    result = parse_wrk(CLEAN)
    assert (result.requests, result.per_second, result.problem) == (186235, 46560.91, None)
    assert (result.p50_ms, result.p99_ms) == (pytest.approx(0.95), pytest.approx(3.31))


@pytest.mark.parametrize(("shown", "ms"), [("12.50us", 0.0125), ("3.31ms", 3.31), ("1.51s", 1510), ("1.00m", 6e4)])
def test_each_unit_of_time_becomes_milliseconds(shown: str, ms: float) -> None:
    assert parse_wrk(CLEAN.replace("3.31ms", shown)).p99_ms == pytest.approx(ms)


@pytest.mark.parametrize("lines", [ERRORS, STATUSES, ERRORS + STATUSES])
def test_errors_and_other_statuses_than_2xx_are_a_problem(lines: str) -> None:
    problem = parse_wrk(CLEAN.replace("Requests/sec", lines + "Requests/sec")).problem
    assert problem == "; ".join(line.strip() for line in lines.splitlines())


def test_a_run_without_an_answer_is_a_problem() -> None:
    assert parse_wrk(CLEAN.replace("186235 requests", "0 requests")).problem == "no request was answered"


def test_output_that_is_not_of_wrk_is_refused() -> None:
    with pytest.raises(ValueError, match="wrk printed nothing like"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


class Server:
    """Answers every connection's first request with `answer` and holds the connection."""

    def __init__(self, answer: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self.held: list[socket.socket] = []
        self.listen = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            self.held.append(connection)
            if not connection.recv(4096):
                return
            connection.sendall(self._answer)

    def stop(self) -> None:
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join(5)
        for each in [self._listener, *self.held]:
            each.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.stop()


@pytest.mark.parametrize("served", [OK], indirect=True)
def test_idle_connections_stay_open_after_one_answer_each(served: Server) -> None:
    with idle_connections(served.listen, 5):
        assert len(served.held) == 5


@pytest.mark.parametrize("served", [OK], indirect=True)
def test_idle_connections_that_the_proxy_closed_are_an_error(served: Server) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(idle_connections(served.listen, 3))
        for each in served.held[:2]:
            each.close()
        with pytest.raises(ConnectionError, match="2 of 3"):
            stack.close()


@pytest.mark.parametrize("served", [b"HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nno\n"], indirect=True)
def test_an_idle_connection_that_got_another_answer_is_an_error(served: Server) -> None:
    with pytest.raises(ConnectionError, match="503"), idle_connections(served.listen, 1):
        pass


H2LOAD = """finished in 4.05s, 12307.82 req/s, 1.04MB/s
requests: 20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout
"""


def test_the_figures_of_h2load_are_read() -> None:
    assert parse_h2load(H2LOAD) == (20000, 12307.82, None)
    assert parse_h2load(H2LOAD.replace("0 failed", "3 failed"))[2] == "3 requests failed"
    assert parse_h2load(H2LOAD.replace("20000 succeeded", "0 succeeded"))[2] == "no request"
    assert parse_h2load("Application protocol: http/1.1\n" + H2LOAD)[2] == "it was not HTTP/2"
    assert parse_h2load("Application protocol: h2c\n" + H2LOAD)[2] is None


def test_times_of_h2load_are_those_of_requests_that_succeeded() -> None:
    assert h2load_times_ms(["1764\t200\t1500\n", "1765\t502\t3\n", "1766\t204\t20\n"]) == [1.5, 0.02]


def test_percentiles_need_enough_times() -> None:
    assert percentiles([1.0] * 99) == {}
    found = percentiles([float(each) for each in range(1, 1001)])
    assert found == {"p50 ms": pytest.approx(500.5), "p99 ms": pytest.approx(990.99)}
