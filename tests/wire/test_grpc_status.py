"""The status of gRPC calls, as HTTP has it, and errors as calls expect them."""

import hpack
import pytest

from tierlb.wire.grpc_status import HTTP_STATUS, error_block, http_status, is_call


@pytest.mark.parametrize(
    ("value", "status"), [(b"0", 200), (b"14", 503), (b"8", 429), (b"13", 500), (b"99", 500), (b"x", 500), (b"", 500)]
)
def test_a_status_has_its_counterpart(value: bytes, status: int) -> None:
    assert http_status(value) == status


def test_all_seventeen_are_known() -> None:
    assert sorted(HTTP_STATUS) == list(range(17))


@pytest.mark.parametrize(
    ("value", "said"),
    [(b"application/grpc", True), (b"application/grpc+proto", True), (b"text/plain", False), (None, 0)],
)
def test_calls_are_known_by_their_content_type(value: bytes | None, said: bool) -> None:
    assert is_call(value) == bool(said)


@pytest.mark.parametrize(("status", "code"), [(503, b"14"), (502, b"14"), (504, b"4"), (413, b"8"), (418, b"2")])
def test_errors_are_trailers_only(status: int, code: bytes) -> None:
    fields = dict(hpack.Decoder().decode(error_block(status, "100 % full\nreally"), raw=True))
    assert (fields[b":status"], fields[b"grpc-status"]) == (b"200", code)
    assert fields[b"grpc-message"] == b"100 %25 full%0Areally"
