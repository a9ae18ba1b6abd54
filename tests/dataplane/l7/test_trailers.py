"""Trailers as this node reads them: the outcome of gRPC calls, by class, and reports of load."""

import pytest

from tests.dataplane.conftest import Lab, l7
from tests.dataplane.l7.http2 import POST, Http2Host, accepts_http2, connects_http2
from tierlb.dataplane.l7.trailers import rated_status
from tierlb.model.topology import Policy, PoolProtocol

CALL = (*POST, (b"content-type", b"application/grpc"), (b"te", b"trailers"))
MESSAGE = b"\0\0\0\0\x02hi"


@pytest.mark.parametrize(
    ("trailers", "status"), [(((b"Grpc-Status", b"14"),), 503), (((b"grpc-status", b"0"),), 200), (((b"x", b"y"),), 0)]
)
def test_a_status_of_grpc_is_one_of_http(trailers: tuple[tuple[bytes, bytes], ...], status: int) -> None:
    assert rated_status(trailers) == status


@pytest.mark.parametrize(
    ("status", "errors"), [(b"0", 0), (b"5", 0), (b"1", 0), (b"12", 0), (b"13", 1), (b"14", 1), (b"2", 1), (b"8", 1)]
)
@pytest.mark.parametrize("alone", [False, True])
async def test_calls_that_fail_count_as_errors_by_class(lab: Lab, status: bytes, errors: int, alone: bool) -> None:
    endpoint = await lab.endpoint(protocol=PoolProtocol.H2C)
    await lab.serves(l7(endpoint))
    client = await connects_http2(lab)
    number = await client.asks(CALL, MESSAGE)
    host = await accepts_http2(endpoint)
    await host.hears_request()
    if alone:
        await host.answers(1, b"", (b"grpc-status", status), alone=True)
    else:
        await host.answers(1, MESSAGE, trailers=((b"grpc-status", status),))
    await client.hears(number)
    assert lab.host(endpoint).errors == errors


async def test_reports_in_trailers_are_noted_and_go_no_further(lab: Lab) -> None:
    endpoint = await lab.endpoint(protocol=PoolProtocol.H2C)
    await lab.serves(l7(endpoint, balance=Policy.LOAD_AWARE))
    client = await connects_http2(lab)
    number = await client.asks(CALL, MESSAGE)
    host = await accepts_http2(endpoint)
    await host.hears_request()
    report = b"TEXT cpu_utilization=0.5, rps_fractional=100"
    await host.answers(1, MESSAGE, trailers=((b"grpc-status", b"0"), (b"endpoint-load-metrics", report)))
    assert (await client.hears(number)).trailers == [(b"grpc-status", b"0")]
    estimate = lab.host(endpoint).estimate
    assert estimate.capacity(lab.plane.reactor.now, None) is not None


async def test_a_call_that_is_unavailable_goes_to_another_host_once(lab: Lab) -> None:
    endpoints = [await lab.endpoint(protocol=PoolProtocol.H2C) for _ in range(3)]
    await lab.serves(l7(*endpoints))
    client = await connects_http2(lab)
    number = await client.asks(CALL, MESSAGE)
    asked = []
    for _ in range(2):
        endpoint, voice = await lab.accepts(*[each for each in endpoints if each not in asked])
        asked.append(endpoint)
        host = await Http2Host(voice).begins()
        await host.hears_request()
        assert host.bodies[1] == MESSAGE
        await host.answers(1, b"", (b"grpc-status", b"14"), alone=True)
    assert dict((await client.hears(number)).fields)[b"grpc-status"] == b"14"
    assert [lab.host(each).errors for each in asked] == [1, 1]


async def test_where_no_host_answers_a_call_gets_the_error_as_a_status(lab: Lab) -> None:
    nobody = await lab.endpoint(protocol=PoolProtocol.H2C)
    nobody.falls()
    await lab.serves(l7(nobody))
    client = await connects_http2(lab)
    answer = await client.hears(await client.asks(CALL, MESSAGE))
    assert answer.status == 200
    fields = dict(answer.fields)
    assert fields[b"grpc-status"] == b"14"
    assert b"cannot be reached" in fields[b"grpc-message"]
