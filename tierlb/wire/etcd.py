"""Requests to etcd's v3 API and its answers, in the JSON form of its gateway.

Source: etcd's rpc.proto in protobuf's JSON mapping: bytes are in base64, 64-bit numbers in quotes, and a field that is
zero is left out. A streamed answer is one JSON value a line, each wrapped as `result` or `error`.

Every reader takes parsed JSON from any server that may listen there, and raises ValueError if it does not have this
form.

Left out: calls that are not used here, such as those for members and maintenance.
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
"""gRPC's cancelled, unknown, deadline exceeded, internal, unavailable: the operation may have been carried out."""
UNAUTHENTICATED = ("user name is empty", "invalid auth token", "auth store is old")
"""The caller is not logged in, or no longer. Recognised by etcd's text, because a refused watch carries nothing
else."""
DENIAL = (*UNAUTHENTICATED, "permission denied", "authentication failed", "CommonName of client")

Plain = dict[str, Any]
EtcdValue = TypeVar("EtcdValue")


@attrs.frozen
class KeyValue:
    """A key that exists; `created` and `changed` are the revisions of etcd in which that happened."""

    key: str
    value: bytes = attrs.field(repr=False)
    created: int
    changed: int


@attrs.frozen
class Created:
    """Requires that the key was created in this revision of etcd (0: that it does not exist)."""

    key: str
    revision: int

    def plain(self) -> Plain:
        return {"key": _coded(self.key), "target": "CREATE", "create_revision": str(self.revision)}


@attrs.frozen
class Changed:
    """Requires that the key was last changed in this revision of etcd (0: that it does not exist)."""

    key: str
    revision: int

    def plain(self) -> Plain:
        return {"key": _coded(self.key), "target": "MOD", "mod_revision": str(self.revision)}


@attrs.frozen
class Get:
    """Read the key, or with `below` all that begin with it, as of the revision `at` of etcd (0: the current one)."""

    key: str
    below: bool = False
    at: int = 0

    def plain(self) -> Plain:
        end = {"range_end": _coded(_after(self.key))} if self.below else {}
        return {"request_range": {"key": _coded(self.key), "revision": str(self.at), **end}}


@attrs.frozen
class Put:
    """Write the key. With a lease (0: none) the key is deleted when the lease ends."""

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
    """`agreed`: whether the requirements were met; `at`: the revision of etcd after it; `found`: for each operation
    that was carried out, in order, the keys that it read."""

    agreed: bool
    at: int
    found: tuple[tuple[KeyValue, ...], ...]


@attrs.frozen
class Lease:
    """Keys written with it are deleted when it is not renewed for this long, which may be longer than requested."""

    number: int
    ttl_s: int


@attrs.frozen
class WatchEvent:
    """A key changed in the revision `at` of etcd; `item` is None if it was deleted."""

    item: KeyValue | None
    at: int


@attrs.frozen
class EtcdFault:
    """Why there is no answer. `undecided`: the operation may have been carried out, or may be later."""

    text: str
    undecided: bool

    @property
    def is_unauthenticated(self) -> bool:
        """Whether nothing was done because the caller has to log in, perhaps again."""
        return any(words in self.text for words in UNAUTHENTICATED)

    @property
    def is_denied(self) -> bool:
        """Whether nothing was done because of the caller's permissions."""
        return any(words in self.text for words in DENIAL)

    @property
    def is_auth_off(self) -> bool:
        """Whether etcd requires no login."""
        return "authentication is not enabled" in self.text


def transaction(demands: Sequence[Demand], then: Sequence[TxnOperation], otherwise: Sequence[TxnOperation]) -> Plain:
    """In one step `then` if all requirements are met, else `otherwise`."""
    return {
        "compare": [demand.plain() for demand in demands],
        "success": [operation.plain() for operation in then],
        "failure": [operation.plain() for operation in otherwise],
    }


def authenticate(user: str, password: str) -> Plain:
    """Log in, for a token that is sent from then on."""
    return {"name": user, "password": password}


def grant(ttl_s: int) -> Plain:
    return {"TTL": str(ttl_s)}


def of_lease(number: int) -> Plain:
    """Renew or revoke this lease."""
    return {"ID": str(number)}


def watch(key: str, since: int) -> Plain:
    """Watch every change from that revision on."""
    return {"create_request": {"key": _coded(key), "start_revision": str(since)}}


def _strict(read: Callable[[Any], EtcdValue]) -> Callable[[Any], EtcdValue]:
    """Turn a missing field, or one of another type, into a ValueError."""

    @wraps(read)
    def checked(plain: Any) -> EtcdValue:
        try:
            return read(plain)
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not an answer of etcd: {error!r}") from error

    return checked


@_strict
def read_outcome(plain: Any) -> TxnResult:
    ranges = (response.get("response_range", {}) for response in plain.get("responses", ()))
    found = tuple(tuple(map(_item, answer.get("kvs", ()))) for answer in ranges)
    return TxnResult(plain.get("succeeded", False) is True, int(plain["header"]["revision"]), found)


@_strict
def read_auth_token(plain: Any) -> str:
    """The token to send with every request; it fits into an HTTP field."""
    token = plain["token"]
    if not AUTH_TOKEN.fullmatch(token):
        raise ValueError("not a token of etcd")
    return str(token)


@_strict
def read_lease(plain: Any) -> Lease:
    return Lease(int(plain["ID"]), int(plain["TTL"]))


@_strict
def read_renewal(plain: Any) -> int:
    """The remaining seconds of the lease; 0 if it no longer exists."""
    return int(plain["result"].get("TTL", 0))


@_strict
def read_revocation(plain: Any) -> None:
    int(plain["header"]["revision"])


@_strict
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
    """The JSON value; None for other content."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def read_fault(status: int, content: bytes) -> EtcdFault | None:
    """The fault in an answer with this HTTP status, if there is one."""
    plain = read_json(content)
    error = plain.get("error", plain) if isinstance(plain, Mapping) else None
    error = error if isinstance(error, Mapping) else plain
    if status == 200 and isinstance(plain, Mapping) and "error" not in plain:
        return None
    if not isinstance(error, Mapping) or "message" not in error:
        return EtcdFault(f"status {status}, {content[:100].decode('ascii', 'replace').strip()!r}", status >= 500)
    return EtcdFault(str(error["message"]), error.get("code", error.get("grpc_code")) in UNDECIDED_CODES)


def _coded(key: str) -> str:
    return b64encode(key.encode(errors="surrogateescape")).decode()


def _after(prefix: str) -> str:
    """The first key after all that begin with the prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _item(plain: Any) -> KeyValue:
    key, value = b64decode(plain["key"]).decode(errors="surrogateescape"), b64decode(plain.get("value", ""))
    return KeyValue(key, value, int(plain["create_revision"]), int(plain["mod_revision"]))


def _event(plain: Any) -> WatchEvent:
    kv = plain["kv"]
    item = None if plain.get("type") == "DELETE" else _item(kv)
    return WatchEvent(item, int(kv["mod_revision"]))
