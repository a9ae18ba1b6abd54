"""Calls of etcd's v3 API and what it answers, in the JSON form that its gateway speaks.

Source: etcd's rpc.proto in protobuf's JSON mapping: bytes are in base64, 64-bit numbers in quotes, and a field that is
zero is left out. An answer that comes as a stream is one JSON value a line, each wrapped as `result` or `error`.

Every reader takes parsed JSON from anybody who may listen there and raises ValueError if it is not of this form.

Left out: all calls that nobody here makes, such as those for members and maintenance.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

import attrs

AUTH_TOKEN = re.compile(r"[!-~]{1,8192}")
UNDECIDED_CODES = frozenset({1, 2, 4, 13, 14})
"""gRPC's cancelled, unknown, deadline exceeded, internal, unavailable: it may have been done nevertheless."""
UNAUTHENTICATED = ("user name is empty", "invalid auth token", "auth store is old")
"""It is not known who asks, or not any more. By etcd's words, for a watch that is refused tells nothing else."""
DENIAL = (*UNAUTHENTICATED, "permission denied", "authentication failed", "CommonName of client")

Plain = dict[str, Any]
T = TypeVar("T")


@attrs.frozen
class KeyValue:
    """A key that is there; `created` and `changed` are the revisions of etcd in which that happened."""

    key: str
    value: bytes = attrs.field(repr=False)
    created: int
    changed: int


@attrs.frozen
class Created:
    """Demands that the key was created in this revision of etcd (0: that it is not there)."""

    key: str
    revision: int

    def plain(self) -> Plain:
        return {"key": _coded(self.key), "target": "CREATE", "create_revision": str(self.revision)}


@attrs.frozen
class Changed:
    """Demands that the key was last changed in this revision of etcd (0: that it is not there)."""

    key: str
    revision: int

    def plain(self) -> Plain:
        return {"key": _coded(self.key), "target": "MOD", "mod_revision": str(self.revision)}


@attrs.frozen
class Get:
    """The key, or with `below` all that begin with it, as they were in the revision `at` of etcd (0: as they are)."""

    key: str
    below: bool = False
    at: int = 0

    def plain(self) -> Plain:
        end = {"range_end": _coded(_after(self.key))} if self.below else {}
        return {"request_range": {"key": _coded(self.key), "revision": str(self.at), **end}}


@attrs.frozen
class Put:
    """With a lease (0: none) the key goes when the lease does."""

    key: str
    value: bytes = attrs.field(repr=False)
    lease: int = 0

    def plain(self) -> Plain:
        value = b64encode(self.value).decode()
        return {"request_put": {"key": _coded(self.key), "value": value, "lease": str(self.lease)}}


@attrs.frozen
class Delete:
    key: str

    def plain(self) -> Plain:
        return {"request_delete_range": {"key": _coded(self.key)}}


Demand = Created | Changed
TxnOperation = Get | Put | Delete


@attrs.frozen
class TxnResult:
    """`agreed`: whether the demands were met; `at`: the revision of etcd after it; `found`: for each operation that was
    carried out, in their order, the keys that it got."""

    agreed: bool
    at: int
    found: tuple[tuple[KeyValue, ...], ...]


@attrs.frozen
class Lease:
    """Keys put with it go when nobody renews it for this long, which may be longer than what was asked for."""

    number: int
    ttl_s: int


@attrs.frozen
class WatchEvent:
    """A key changed in the revision `at` of etcd; `item` is None if it was deleted."""

    item: KeyValue | None
    at: int


@attrs.frozen
class EtcdFault:
    """Why there is no answer; `undecided`: what was asked for may have been done, or may yet be."""

    text: str
    undecided: bool

    @property
    def is_stranger(self) -> bool:
        """Whether nothing was done because who asks has to log in, perhaps again."""
        return any(words in self.text for words in UNAUTHENTICATED)

    @property
    def is_denial(self) -> bool:
        """Whether nothing was done because of who asks."""
        return any(words in self.text for words in DENIAL)

    @property
    def knows_no_users(self) -> bool:
        """Whether nobody has to log in."""
        return "authentication is not enabled" in self.text


def transaction(demands: Sequence[Demand], then: Sequence[TxnOperation], otherwise: Sequence[TxnOperation]) -> Plain:
    """In one step `then` if all demands are met, else `otherwise`."""
    return {
        "compare": [demand.plain() for demand in demands],
        "success": [operation.plain() for operation in then],
        "failure": [operation.plain() for operation in otherwise],
    }


def authenticate(user: str, password: str) -> Plain:
    """To be known by a token from then on."""
    return {"name": user, "password": password}


def grant(ttl_s: int) -> Plain:
    return {"TTL": str(ttl_s)}


def of_lease(number: int) -> Plain:
    """To renew or revoke it."""
    return {"ID": str(number)}


def watch(key: str, since: int) -> Plain:
    """Every change from that revision on."""
    return {"create_request": {"key": _coded(key), "start_revision": str(since)}}


def _strictly(read: Callable[[Any], T]) -> Callable[[Any], T]:
    """What is missing or of another kind is a ValueError."""

    @wraps(read)
    def checked(plain: Any) -> T:
        try:
            return read(plain)
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not an answer of etcd: {error!r}") from error

    return checked


@_strictly
def read_outcome(plain: Any) -> TxnResult:
    ranges = (response.get("response_range", {}) for response in plain.get("responses", ()))
    found = tuple(tuple(map(_item, answer.get("kvs", ()))) for answer in ranges)
    return TxnResult(plain.get("succeeded", False) is True, int(plain["header"]["revision"]), found)


@_strictly
def read_auth_token(plain: Any) -> str:
    """What to send along with every request; a field of HTTP can hold it."""
    token = plain["token"]
    if not AUTH_TOKEN.fullmatch(token):
        raise ValueError("not a token of etcd")
    return str(token)


@_strictly
def read_lease(plain: Any) -> Lease:
    return Lease(int(plain["ID"]), int(plain["TTL"]))


@_strictly
def read_renewal(plain: Any) -> int:
    """The seconds that it holds for; 0 if there is no such lease any more."""
    return int(plain["result"].get("TTL", 0))


@_strictly
def read_revocation(plain: Any) -> None:
    int(plain["header"]["revision"])


@_strictly
def read_events(plain: Any) -> tuple[WatchEvent, ...] | EtcdFault:
    """One line of a watch."""
    if "error" in plain:
        return EtcdFault(str(plain["error"]["message"]), undecided=True)
    result = plain["result"]
    if result.get("canceled"):
        forgotten = f"etcd has forgotten what was before revision {result.get('compact_revision')}"
        return EtcdFault(str(result.get("cancel_reason") or forgotten), undecided=False)
    return tuple(map(_event, result.get("events", ())))


def read_json(content: bytes | str) -> Any:
    """None if it is something else."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def read_fault(status: int, content: bytes) -> EtcdFault | None:
    """What is wrong, if something is, with an answer that has this status of HTTP."""
    plain = read_json(content)
    said = plain.get("error", plain) if isinstance(plain, Mapping) else None
    said = said if isinstance(said, Mapping) else plain
    if status == 200 and isinstance(plain, Mapping) and "error" not in plain:
        return None
    if not isinstance(said, Mapping) or "message" not in said:
        return EtcdFault(f"status {status}, {content[:100].decode('ascii', 'replace').strip()!r}", status >= 500)
    return EtcdFault(str(said["message"]), said.get("code", said.get("grpc_code")) in UNDECIDED_CODES)


def _coded(key: str) -> str:
    return b64encode(key.encode(errors="surrogateescape")).decode()


def _after(prefix: str) -> str:
    """The first key that does not begin with it."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _item(plain: Any) -> KeyValue:
    key, value = b64decode(plain["key"]).decode(errors="surrogateescape"), b64decode(plain.get("value", ""))
    return KeyValue(key, value, int(plain["create_revision"]), int(plain["mod_revision"]))


def _event(plain: Any) -> WatchEvent:
    kv = plain["kv"]
    item = None if plain.get("type") == "DELETE" else _item(kv)
    return WatchEvent(item, int(kv["mod_revision"]))
