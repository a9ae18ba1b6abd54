"""The clients of HTTP/2 lose nothing by GOAWAY, and count what is lost by anything else."""

from collections.abc import Callable
from functools import partial

import h2.config
import h2.connection
import h2.events
import trio

from scripts.benchmarks.change import seen_of
from scripts.benchmarks.http2_load import FAILED, REFRESH, Record, client

Act = Callable[[h2.connection.H2Connection, int, int], bool]
"""Given the engine, the stream of a request and how many requests came before; whether the connection goes on."""


async def served(nursery: trio.Nursery, act: Act) -> int:
    """A server whose requests are answered by `act`; its port."""
    count = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal count
        engine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        engine.initiate_connection()
        goes_on = True
        while goes_on:
            await stream.send_all(engine.data_to_send())
            data = await stream.receive_some(65536)
            if not data:
                return
            for event in engine.receive_data(data):
                if isinstance(event, h2.events.RequestReceived) and goes_on:
                    goes_on = act(engine, event.stream_id, count)
                    count += 1
        await stream.send_all(engine.data_to_send())

    (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), serve, 0)
    port: int = listener.socket.getsockname()[1]
    return port


def answer(engine: h2.connection.H2Connection, stream_id: int, status: str = "200") -> bool:
    engine.send_headers(stream_id, [(":status", status)], end_stream=True)
    return True


async def run(nursery: trio.Nursery, act: Act, count: int) -> Record:
    record, stop = Record(), trio.Event()
    port = await served(nursery, act)
    with trio.fail_after(30):
        async with trio.open_nursery() as clients:
            clients.start_soon(client, "127.0.0.1", port, stop, record)
            while len(record.status) < count:  # noqa: ASYNC110 (it is a plain value)
                await trio.sleep(0.01)
            stop.set()
    nursery.cancel_scope.cancel()
    return record


async def test_after_so_many_requests_there_is_another_connection(nursery: trio.Nursery) -> None:
    record = await run(nursery, lambda engine, stream_id, _: answer(engine, stream_id), REFRESH + 1)
    assert (record.failed, record.again, record.connections) == (0, 0, 2)
    assert len(record.at_s) == len(record.latency_s) == len(record.status) > REFRESH


async def test_what_goaway_leaves_out_is_asked_again_and_is_no_failure(nursery: trio.Nursery) -> None:
    def act(engine: h2.connection.H2Connection, stream_id: int, count: int) -> bool:
        if count != 3:
            return answer(engine, stream_id)
        engine.close_connection(last_stream_id=stream_id - 2)
        return False

    record = await run(nursery, act, 6)
    assert (record.failed, record.reasons) == (0, [])
    assert record.again >= 1
    assert record.connections == 2


async def test_resets_other_answers_and_ends_are_failures(nursery: trio.Nursery) -> None:
    def act(engine: h2.connection.H2Connection, stream_id: int, count: int) -> bool:
        if count == 0:
            engine.reset_stream(stream_id, 2)
        elif count == 1:
            answer(engine, stream_id, "503")
        elif count == 2:
            return False
        else:
            answer(engine, stream_id)
        return True

    record = await run(nursery, act, 5)
    assert record.status[:2] == [FAILED, 503]
    assert record.failed >= 3
    assert record.reasons[:2] == ["reset with 2", "status 503"]
    assert record.reasons[2].startswith("lost")


def test_times_are_those_of_the_steps_in_order() -> None:
    record = Record(100.0, [0.5, 0.25], [0.01, 0.02], [200, FAILED])
    seen = seen_of(record, 99.0)
    assert (list(seen.at_s), list(seen.latency_s), list(seen.status)) == ([1.25, 1.5], [0.02, 0.01], [FAILED, 200])
