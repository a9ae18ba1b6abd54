"""A client in a namespace of its own that asks for a page again and again; commands are lines of JSON.

asks: so many requests to `url` on connections of their own: what came back, as counts. With `keep` on one connection.
begins, ends: a thread does that for ever; what came back meanwhile.
"""

import http.client
import json
import sys
import threading
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

PATIENCE_S = 20.0
begun: dict[str, tuple[threading.Thread, threading.Event, Counter[str]]] = {}


def ask(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        return str(response.status)
    seen = {name.lower(): value for name, value in json.loads(body)["headers"]}
    return f"200 {seen.get('x-forwarded-for', '')}"


def go_on(url: str, found: Counter[str], over: threading.Event, count: int, *, keep: bool) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_S)
    while count and not over.is_set():
        try:
            found[ask(connection, parts.path)] += 1
        except (OSError, http.client.HTTPException) as error:
            found[repr(error)] += 1
            keep = False
        if not keep:
            connection.close()
            connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_S)
        count -= 1
    connection.close()


def asks(url: str, count: int, keep: bool = False) -> dict[str, int]:
    found: Counter[str] = Counter()
    go_on(url, found, threading.Event(), count, keep=keep)
    return dict(found)


def begins(name: str, url: str, keep: bool = False) -> str:
    found: Counter[str] = Counter()
    over = threading.Event()
    thread = threading.Thread(target=go_on, args=(url, found, over, -1), kwargs={"keep": keep}, daemon=True)
    thread.start()
    begun[name] = thread, over, found
    return "begun"


def ends(name: str) -> dict[str, int]:
    thread, over, found = begun.pop(name)
    over.set()
    thread.join()
    return dict(found)


print('"ready"', flush=True)
for line in sys.stdin:
    told: dict[str, Any] = json.loads(line)
    print(json.dumps(globals()[told.pop("do")](**told)), flush=True)
