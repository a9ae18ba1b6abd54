"""The standard health service of gRPC, grpc.health.v1.Health: the request of a Check, and what its answer means. Pure.

Both messages have one field, so they are written and read here (as `orca_protobuf` does). Sources: grpc's
health.proto, and gRPC over HTTP2 for the five bytes before each message.

Left out: Watch, which keeps a call open, and compressed messages, which are not asked for.
"""

from typing import Final
from urllib.parse import unquote

CHECK_PATH: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = 1
_STATES: Final = {0: "UNKNOWN", _SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
"""Of HealthCheckResponse.ServingStatus."""
_PREFIX_BYTES: Final = 5
_SERVICE_KEY: Final = b"\x0a"
"""Field 1, of a known length: HealthCheckRequest.service."""
_STATE_KEY: Final = 8
"""Field 1, a number: HealthCheckResponse.status."""
_MOST_REASON_CHARS: Final = 120
"""Of an error's message, which goes into the log."""
_CODES: Final = {5: "NOT_FOUND", 12: "UNIMPLEMENTED", 14: "UNAVAILABLE", 16: "UNAUTHENTICATED"}


def check_request(service: str) -> bytes:
    """The message of a request for this service, "" for the whole server, with its prefix."""
    name = service.encode()
    message = _SERVICE_KEY + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def judge_check(body: bytes, code: bytes | None, message: bytes) -> tuple[bool, str]:
    """Whether a server that answered with this body and status (`grpc-status`, `grpc-message`) is healthy, and a reason
    for operators."""
    if code is None:
        return False, "gave no answer of gRPC: it has no grpc-status"
    if code != b"0":
        name = _CODES.get(int(code), "") if code.isdigit() and len(code) < 4 else ""
        said = unquote(message.decode("latin-1")[:_MOST_REASON_CHARS])
        shown = "".join(each for each in said if each.isprintable())
        hint = ": it has no health service" if name == "UNIMPLEMENTED" else f": {shown}" if shown else ""
        return False, f"answered the call with {name or 'status ' + ascii(code)[2:-1]}{hint}"
    state = _state_in(body)
    if state is None:
        return False, "gave no answer of the health service"
    return state == _SERVING, f"says {_STATES.get(state, state)}"


def _state_in(body: bytes) -> int | None:
    """The status in one message with its prefix; None where that is no such message. A message without fields has the
    first status, as protobuf leaves it out."""
    size = int.from_bytes(body[1:_PREFIX_BYTES], "big")
    message = body[_PREFIX_BYTES:]
    if len(body) < _PREFIX_BYTES or body[0] or len(message) != size:
        return None
    if not message:
        return 0
    if len(message) != 2 or message[0] != _STATE_KEY or message[1] > 0x7F:
        return None
    return message[1]
