"""ClientHellos that tests send: written by hand, and those of real TLS clients."""

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Sequence

import attrs

MANY_PROTOCOLS = tuple(f"protocol-{number:03}" for number in range(60))
"""For a ClientHello of more than a KiB."""
FLIGHT_S = 20.0
"""A client that has started sends at once."""


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size) + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2) + vector(2, content)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def alpn(*protocols: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, protocol) for protocol in protocols)))


def hybrid_key_share() -> bytes:
    """`key_share` (RFC 8446 §4.2.8) for X25519MLKEM768, which has 1,216 bytes."""
    return extension(51, vector(2, (0x11EC).to_bytes(2) + vector(2, bytes(1216))))


def message(*extensions: bytes) -> bytes:
    """A ClientHello with its header; without extensions one of old clients."""
    body = (
        b"\x03\x03" + bytes(range(32)) + vector(1, b"\x07" * 32) + vector(2, b"\x13\x01\x13\x02") + vector(1, b"\x00")
    )
    if extensions:
        body += vector(2, b"".join(extensions))
    return b"\x01" + vector(3, body)


def records(content: bytes, each: int = 1 << 14) -> bytes:
    """The content in records of so many bytes."""
    pieces = [content[start : start + each] for start in range(0, len(content), each)]
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


def hello(name: str = "", protocols: Sequence[str] = ()) -> bytes:
    """An ordinary one."""
    extensions = [extension(43, b"\x02\x03\x04")]
    extensions += [server_name(name.encode())] if name else []
    extensions += [alpn(*(each.encode() for each in protocols))] if protocols else []
    return records(message(*extensions))


@attrs.frozen
class Asked:
    """What a client was started for, and the bytes with which it began."""

    name: str
    protocols: tuple[str, ...]
    sent: bytes


def of_python(name: str, *protocols: str, least: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> Asked:
    """Python's own client."""
    context = ssl.create_default_context()
    context.minimum_version = least
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name or None).do_handshake()
    return Asked(name, protocols, outgoing.read())


def of_openssl(name: str, *protocols: str, options: Sequence[str] = ()) -> Asked:
    """`openssl s_client`."""
    named = ["-servername", name] if name else ["-noservername"]
    offered = ["-alpn", ",".join(protocols)] if protocols else []
    argv = ["openssl", "s_client", "-connect", "127.0.0.1:{port}", *named, *offered, *options]
    return Asked(name, protocols, _first_flight(argv))


def of_curl(name: str, *options: str, protocols: tuple[str, ...]) -> Asked:
    """curl, which offers protocols by its own choice."""
    argv = ["curl", "-sk", *options, "--resolve", f"{name}:{{port}}:127.0.0.1", f"https://{name}:{{port}}/"]
    return Asked(name, protocols, _first_flight(argv))


def _first_flight(argv: Sequence[str]) -> bytes:
    """What the program sends before it gets an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(FLIGHT_S)
        port = str(listening.getsockname()[1])
        process = subprocess.Popen(
            [each.replace("{port}", port) for each in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            peer, _ = listening.accept()
            with peer:
                return _until_quiet(peer)
        finally:
            process.kill()
            process.communicate()


def _until_quiet(peer: socket.socket) -> bytes:
    """All that comes, but for the alert of a client that is told that there will be no answer."""
    peer.settimeout(FLIGHT_S)
    sent = peer.recv(1 << 16)
    peer.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionError):
        while more := peer.recv(1 << 16):
            sent += more
    end = 0
    while sent[end : end + 1] == b"\x16":
        end += 5 + int.from_bytes(sent[end + 3 : end + 5])
    return sent[:end]
