"""Clients in a namespace of their own; commands are lines of JSON.

visits: so many connections one after the other to `at`, from `source` if given; the greetings with their numbers.
begins: one connection that stays, by its `name`; its greeting.
asks: whether that connection still echoes; the error if it does not.
"""

import json
import socket
import sys
from collections import Counter
from typing import Any

from tierlb.model.address import parse_address

PATIENCE_S = 10.0
kept: dict[str, socket.socket] = {}


def connected(at: str, source: str = "", *, udp: bool = False) -> socket.socket:
    address = parse_address(at)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    sock.settimeout(PATIENCE_S)
    if source:
        sock.bind((source, 0))
    sock.connect(address.sockaddr)
    if udp:
        sock.send(b"hello\n")
    return sock


def greeting(sock: socket.socket) -> str:
    text = b""
    while not text.endswith(b"\n"):
        more = sock.recv(1) if sock.type == socket.SOCK_STREAM else sock.recv(2048)
        if not more:
            return "closed"
        text += more
    return text.decode().strip()


def visits(at: str, count: int, source: str = "", udp: bool = False) -> dict[str, int]:
    found: Counter[str] = Counter()
    for _ in range(count):
        try:
            with connected(at, source, udp=udp) as sock:
                found[greeting(sock)] += 1
        except OSError as error:
            found[type(error).__name__] += 1
    return dict(found)


def begins(at: str, name: str, udp: bool = False) -> str:
    kept[name] = connected(at, udp=udp)
    return greeting(kept[name])


def asks(name: str) -> str:
    try:
        kept[name].sendall(b"still there?\n")
        return greeting(kept[name])
    except OSError as error:
        return type(error).__name__


def leaves(name: str) -> str:
    kept.pop(name).close()
    return "left"


print('"ready"', flush=True)
for line in sys.stdin:
    told: dict[str, Any] = json.loads(line)
    print(json.dumps(globals()[told.pop("do")](**told)), flush=True)
