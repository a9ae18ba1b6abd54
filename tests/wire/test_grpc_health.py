"""The messages of the health service of gRPC, beside those that protobuf makes."""

import pytest
from grpc_health.v1 import health_pb2

from tierlb.wire.grpc_health import check_request, judge_check


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


@pytest.mark.parametrize("service", ["", "shop.v1.Cart", "x" * 200])
def test_a_request_is_what_protobuf_makes(service: str) -> None:
    assert check_request(service) == framed(health_pb2.HealthCheckRequest(service=service).SerializeToString())


@pytest.mark.parametrize("state", ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"])
def test_an_answer_means_what_protobuf_makes_of_it(state: str) -> None:
    message = health_pb2.HealthCheckResponse(status=state).SerializeToString()
    assert judge_check(framed(message), b"0", b"") == (state == "SERVING", f"says {state}")


@pytest.mark.parametrize(
    ("body", "code", "message", "reason"),
    [
        (b"", b"0", b"", "no answer of the health service"),
        (b"\1" + framed(b"\x08\x01")[1:], b"0", b"", "no answer of the health service"),
        (framed(b"\x08\x01") + b"x", b"0", b"", "no answer of the health service"),
        (framed(b"\x10\x01"), b"0", b"", "no answer of the health service"),
        (framed(b"\x08\x81\x01"), b"0", b"", "no answer of the health service"),
        (framed(b"\x08\x09"), b"0", b"", "says 9"),
        (framed(b"\x08\x01"), None, b"", "no grpc-status"),
        (framed(b"\x08\x01"), b"14", b"not%20now%0a\x07", "answered the call with UNAVAILABLE: not now"),
        (framed(b"\x08\x01"), b"12", b"", "UNIMPLEMENTED: it has no health service"),
        (framed(b"\x08\x01"), b"x\xff", b"", "status x"),
    ],
)
def test_whatever_is_not_serving_is_bad(body: bytes, code: bytes | None, message: bytes, reason: str) -> None:
    good, said = judge_check(body, code, message)
    assert not good
    assert reason in said
    assert said.isprintable()
