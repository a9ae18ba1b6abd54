"""Objects that fit in the head: few methods and attributes per class, few lines per module, one meaning per name."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "tierlb"
MOST_METHODS = 20
MOST_ATTRIBUTES = 12
MOST_LINES = 400
MOST_SHARED_NAMES = 5

LARGER = {
    "client.ClientConnection": "a connection over HTTP/1: reading, and what the front and the cap ask of it",
    "http2_connection.Http2Connection": "the same over HTTP/2",
    "caller.Caller": "a record of one connection",
    "concurrency.Concurrency": "the sums of one estimator",
    "connection_cap.ConnectionCap": "one cap: what is open, what may give way, the shortage that is logged",
    "context.L4Context": "what the connections of an l4 front share",
    "counters.Counters": "a record with one derived value",
    "counted_host.CountedHost": "counts of one host, which choosers read as attributes",
    "exchange.Exchange": "the events of both sides of one request",
    "front_state.FrontState": "what the connections and exchanges of an l7 front share",
    "host.Host": "what choosers read as attributes, and a part for each source of its state",
    "host_set.HostSet": "one destination and what choosing from it needs",
    "outlier.Runs": "the sums of one test of statistics",
    "pooled.PooledConnection": "one connection to a host: its phases, what it carries, and what it speaks",
    "plane.Plane": "the seam between data plane and control plane: a part for each of its tasks",
    "reactor.Reactor": "the event loop: one epoll set and what is to be done after a batch",
    "retry.Attempts": "the attempts of one request: what ends one, and what decides on the next",
    "runtime.Runtime": "what listeners, parents and the control plane ask of a data plane, a method each",
    "shared_session.SharedSession": "a connection over HTTP/2: twelve of the methods are one for each kind of frame",
    "shared_stream.SharedStream": "a connection whose socket is shared: another answer to each thing a socket does",
    "udp_context.UdpContext": "what the sessions of an l4 front over UDP share",
    "udp_session.UdpSession": "the state of one session: its two sides, its times and what the host owes",
    "tls_layer.TlsLayer": "the state of one session: its handshake, its records, and what its peer may still do",
    "stream.Stream": "one socket: six of the methods are hooks for subclasses",
}
"""Classes that exceed a limit, with what they are. A class that no longer does has to leave the table."""


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in sorted(SOURCE.rglob("*.py")):
        yield file, ast.parse(file.read_text(encoding="utf-8"))


def methods_of(owner: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [each for each in owner.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]


def attributes_of(owner: ast.ClassDef) -> set[str]:
    """Fields that are declared in the class, and what its methods assign to `self`."""
    declared = {
        each.target.id for each in owner.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    assigned = {
        node.attr
        for method in methods_of(owner)
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return declared | assigned


def large_classes() -> dict[str, tuple[int, int]]:
    """By name, the methods and attributes of classes over a limit. A value without methods of its own may be a record
    of any length."""
    found = {}
    for file, tree in trees():
        for owner in ast.walk(tree):
            if isinstance(owner, ast.ClassDef):
                methods, attributes = len(methods_of(owner)), len(attributes_of(owner))
                if methods > MOST_METHODS or (attributes > MOST_ATTRIBUTES and methods > 1):
                    found[f"{file.stem}.{owner.name}"] = methods, attributes
    return found


def public_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_a_class_has_few_methods_and_attributes():
    large = large_classes()
    assert {name: sizes for name, sizes in large.items() if name not in LARGER} == {}
    assert [name for name in LARGER if name not in large] == [], "these are small now"


def test_a_module_has_few_lines():
    lines = {str(file.relative_to(SOURCE)): len(file.read_text(encoding="utf-8").splitlines()) for file, _ in trees()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_a_public_name_has_one_meaning():
    places = defaultdict(list)
    for file, tree in trees():
        for name in public_names(tree):
            if not name.startswith("_") and len(name) > 1:
                places[name].append(str(file.relative_to(SOURCE)))
    shared = {name: files for name, files in places.items() if len(files) > 1}
    assert len(shared) <= MOST_SHARED_NAMES, shared
