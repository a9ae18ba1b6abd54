"""A gRPC server for tests, one process each: `grpc_server.py PORT`. Messages are bytes; no code is generated.

Requests say what is to happen: the name of the server comes back, so that a test sees who answered.
"""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

NAME = "tests.Echo"
cancelled = threading.Event()


def unary(request: bytes, context: Any) -> bytes:
    """`fail`: an error without an answer. `slow`: not before the client has given up."""
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as you wish")
    if request == b"unavailable":
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
    if request == b"slow":
        context.add_callback(cancelled.set)
        cancelled.wait(30)
    if request == b"was it cancelled?":
        return b"yes" if cancelled.wait(10) else b"no"
    if request == b"busy" and PORT == SLOW:
        time.sleep(0.3)  # noqa: TID251 (the server is to be slow)
    context.set_trailing_metadata((("x-trailer", "behind"),))
    return request + b" " + str(PORT).encode()


def to_many(request: bytes, context: Any) -> Any:
    """So many answers."""
    for number in range(int(request)):
        yield str(number).encode()


def from_many(requests: Any, context: Any) -> bytes:
    """How many bytes came."""
    return str(sum(map(len, requests))).encode()


def to_and_from(requests: Any, context: Any) -> Any:
    """Each at once."""
    for request in requests:
        yield b"re: " + request


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ToMany": grpc.unary_stream_rpc_method_handler(to_many),
    "FromMany": grpc.stream_unary_rpc_method_handler(from_many),
    "Both": grpc.stream_stream_rpc_method_handler(to_and_from),
}

if __name__ == "__main__":
    PORT = int(sys.argv[1])
    SLOW = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    server = grpc.server(ThreadPoolExecutor(64))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, HANDLERS),))
    if server.add_insecure_port(f"127.0.0.1:{PORT}") != PORT:
        sys.exit("the port is taken")
    server.start()
    server.wait_for_termination()
