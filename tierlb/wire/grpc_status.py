"""The outcome of a gRPC call: `grpc-status` in the trailers of a response, or in its head where there is nothing else.

Sources: gRPC over HTTP2 and its "HTTP to gRPC Status Code Mapping"; the other direction is that of Envoy's outlier
detection, so that calls and requests are judged by the same classes. Pure.
"""

from typing import Final
from urllib.parse import quote

from tierlb.wire.hpack import encode_field

STATUS_FIELD: Final = b"grpc-status"
_CONTENT_TYPE: Final = b"application/grpc"
_UNKNOWN: Final = 2

HTTP_STATUS: Final = {
    0: 200,
    1: 499,  # CANCELLED
    2: 500,  # _UNKNOWN
    3: 400,  # INVALID_ARGUMENT
    4: 504,  # DEADLINE_EXCEEDED
    5: 404,  # NOT_FOUND
    6: 409,  # ALREADY_EXISTS
    7: 403,  # PERMISSION_DENIED
    8: 429,  # RESOURCE_EXHAUSTED
    9: 400,  # FAILED_PRECONDITION
    10: 409,  # ABORTED
    11: 400,  # OUT_OF_RANGE
    12: 501,  # UNIMPLEMENTED
    13: 500,  # INTERNAL
    14: 503,  # UNAVAILABLE
    15: 500,  # DATA_LOSS
    16: 401,  # UNAUTHENTICATED
}
"""The status of HTTP that says the same."""
_GRPC_STATUS: Final = {400: 13, 401: 16, 403: 7, 404: 12, 408: 4, 413: 8, 429: 14, 431: 8, 502: 14, 503: 14, 504: 4}


def http_status(value: bytes) -> int:
    """The status of HTTP that says the same as this value of `grpc-status`; 500 for one that is no status."""
    return HTTP_STATUS.get(int(value), 500) if value.isdigit() and len(value) < 4 else 500


def is_call(content_type: bytes | None) -> bool:
    """Whether a request with this content-type is a call of gRPC."""
    return content_type is not None and content_type.startswith(_CONTENT_TYPE)


def error_block(status: int, message: str) -> bytes:
    """The header block of a response to a call that is an error and nothing else ("Trailers-Only"). `status`: of HTTP,
    as a response to any other request would have it."""
    fields = (
        (b":status", b"200"),
        (b"content-type", _CONTENT_TYPE),
        (STATUS_FIELD, b"%d" % _GRPC_STATUS.get(status, _UNKNOWN)),
        (b"grpc-message", quote(message, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~\"").encode()),
    )
    return b"".join([encode_field(name, value) for name, value in fields])
