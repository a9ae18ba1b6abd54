"""The store that several controllers share: in etcd, below one prefix of keys, what FileStore keeps in a directory.

`state` holds everything but the revisions of the history, which it names; `revisions/NUMBER-HASH` hold one each, for
etcd takes 1.5 MiB at once. A revision is named by its content, so its key never changes. New ones are put in as many
steps as they need. The last step also puts the state that names them, and removes those that it does not name.

A version is the revision of etcd in which `state` was changed. A save demands, in one step with what it writes, that
this is the expected one and that this controller is the active one (`fence`). So of two controllers one saves, and one
that was taken for dead saves nothing. Where the answer to a save is lost, the same is sent again. It can take effect
only once, and if it did already, the state that is found bears its mark.

Where what is kept was damaged, what was saved last is used, with a warning: etcd still has it unless it was
compacted since. Left out: a copy of our own against that, as FileStore has; the members of etcd are the copies.
"""

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from tierlb.channel.durable import StoreError
from tierlb.controller.documents import DOCUMENT_FORMAT, Damaged, digest, from_plain, parse_document, to_plain
from tierlb.controller.election import leader_of
from tierlb.controller.etcd import Etcd
from tierlb.controller.etcd_calls import EtcdUnreachable, EtcdUnsure
from tierlb.controller.history import Revision
from tierlb.controller.store import Loaded, StaleError, Stored
from tierlb.wire.etcd import Changed, Created, Delete, Demand, Get, Put, TxnOperation, TxnResult

STATE = "state"
REVISIONS = "revisions/"
HASH_CHARS = 16
MOST_OPERATIONS = 100
"""In one step; etcd takes 128."""
MOST_BYTES = 2**20
"""In one step; etcd takes 1.5 MiB. One revision may be larger; then etcd refuses it with a reason."""
LOAD_S = 10.0
"""A history may have 4 MiB."""
PATIENCE_S = 3.0
"""While a member restarts, or the others elect."""
SAVE_AGAIN_S = 0.2


class Deposed(StoreError):  # noqa: N818 (an event of normal operation)
    """This controller is not the active one any more, so it may not write; the text says which one is."""


@attrs.frozen
class _Found:
    """What is in etcd: the state (version 0: none), and by its name the content of each revision."""

    version: int
    state: bytes
    revisions: Mapping[str, bytes]


@attrs.define
class EtcdStore:
    """A store below `directory` in etcd. `fence`: what is true for as long as this controller is the active one, if it
    was elected.

    An error of save may leave open whether it was kept. It does not count then: the next save from the same version
    replaces it.
    """

    etcd: Etcd
    directory: str
    fence: Created | None = None
    _found: _Found | None = attrs.field(default=None, init=False, repr=False)
    _open: set[tuple[int, bytes]] = attrs.field(factory=set, init=False, repr=False)
    _one_at_a_time: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def load(self) -> Loaded:
        """What is kept; with a warning what was saved last, if that was damaged since."""
        async with self._one_at_a_time:
            self._found = found = await self._find()
            if found.version == 0:
                return Loaded(Stored(), 0)
            try:
                return Loaded(self._read(found), found.version)
            except Damaged as damage:
                return await self._saved_last(found.version, damage)

    async def save(self, stored: Stored, expected_version: int) -> int:
        """Replace the version that is named. Raises Deposed too."""
        async with self._one_at_a_time:
            found = await self._start_from(expected_version)
            revisions = dict(map(_named, stored.history.revisions))
            news = [name for name, content in revisions.items() if found.revisions.get(name) != content]
            *steps, last = _save_steps([self._put(REVISIONS + name, revisions[name]) for name in news])
            for step in steps:
                await self._commit(found.version, step)
            waste = [name for name in found.revisions if name not in revisions][: MOST_OPERATIONS - len(last)]
            state = self._put(STATE, _record_bytes(stored, list(revisions)))
            self._open.add((expected_version, state.value))
            deletions = [Delete(self._key(REVISIONS + name)) for name in waste]
            version = await self._commit(found.version, [*last, *deletions, state], state.value)
            self._open.clear()
            left = {name: content for name, content in found.revisions.items() if name not in waste}
            self._found = _Found(version, state.value, {**left, **revisions})
            return version

    async def close(self) -> None:
        """Nothing was locked."""

    def _key(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def _put(self, name: str, content: bytes) -> Put:
        return Put(self._key(name), content)

    async def _find(self, at: int = 0) -> _Found:
        """As it was in that revision of etcd (0: as it is)."""
        state, below = Get(self._key(STATE), at=at), Get(self._key(REVISIONS), below=True, at=at)
        states, revisions = (await _patiently(partial(self.etcd.read, state, below, within_s=LOAD_S))).found
        contents = {item.key.removeprefix(self._key(REVISIONS)): item.value for item in revisions}
        return _Found(states[0].changed, states[0].value, contents) if states else _Found(0, b"", contents)

    def _read(self, found: _Found) -> Stored:
        return _record_from_bytes(found.state, found.revisions, f"{self._key(STATE)} in etcd")

    async def _saved_last(self, version: int, damage: Damaged) -> Loaded:
        """What was there when the state was changed, or if that was the damage, what was before."""
        what = f"{self._key(STATE)} in etcd is damaged ({damage})"
        for at in (version, version - 1):
            try:
                found = await self._find(at)
                stored = self._read(found)
            except Damaged:
                continue
            except EtcdUnreachable:
                raise
            except StoreError:
                break  # it has forgotten that
            warning = f"{what}; what was saved before that, as version {found.version}, is used"
            return Loaded(stored, version, warning)
        raise StoreError(
            f"{what}, and etcd has nothing older: restore etcd from a backup, or begin anew (etcdctl del "
            f"{self._key(STATE)}) and apply the topology file again"
        )

    async def _start_from(self, version: int) -> _Found:
        """What is there, if it is of this version. Raises StaleError."""
        found, self._found = self._found, None
        if found is None or found.version != version:
            found = await self._find()
        if found.version != version and (version, found.state) not in self._open:
            raise self._stale(found.version, version)
        return found

    async def _commit(self, version: int, operations: Sequence[TxnOperation], state: bytes = b"") -> int:
        """Carry them out, and with them put this state if one is named; the revision of etcd in which that was done."""
        demands: list[Demand] = [Changed(self._key(STATE), version), *([self.fence] if self.fence else [])]
        otherwise = [Get(demand.key) for demand in demands]
        outcome = await _patiently(partial(self.etcd.commit, demands, operations, otherwise))
        if outcome.agreed:
            return outcome.at
        for item in outcome.found[0]:
            if item.value == state:  # the answer to an earlier sending was lost
                return item.changed
        raise self._refusal(outcome, version)

    def _refusal(self, outcome: TxnResult, version: int) -> StoreError:
        if self.fence is not None:
            for item in outcome.found[1]:
                if item.created != self.fence.revision:
                    return Deposed(f"another controller is active: {leader_of(item)}; ask that one")
            if not outcome.found[1]:
                return Deposed("this controller is not the active one any more, and there is no other yet: try again")
        return self._stale(outcome.found[0][0].changed if outcome.found[0] else 0, version)

    def _stale(self, found: int, expected: int) -> StaleError:
        return StaleError(f"{self._key(STATE)} in etcd has version {found}, not {expected}: load it again")


async def _patiently(ask: Callable[[], Awaitable[TxnResult]]) -> TxnResult:
    """Ask again for a while where no member answers. What is asked twice must take effect only once."""
    give_up_s = trio.current_time() + PATIENCE_S
    unsure = None
    while True:
        try:
            return await ask()
        except (EtcdUnreachable, EtcdUnsure) as problem:
            unsure = problem if isinstance(problem, EtcdUnsure) else unsure
            if trio.current_time() >= give_up_s:
                raise unsure or problem from None
        await trio.sleep(SAVE_AGAIN_S)


def _save_steps(puts: Sequence[Put]) -> Iterator[list[Put]]:
    """In portions that etcd takes; one at least, which may be empty."""
    step: list[Put] = []
    for put in puts:
        size = sum(len(each.value) for each in step) + len(put.value)
        if step and (size > MOST_BYTES or len(step) == MOST_OPERATIONS):
            yield step
            step = []
        step.append(put)
    yield step


def _named(revision: Revision) -> tuple[str, bytes]:
    """Its name and its content, in which text stays text, so that etcdctl shows it."""
    content = json.dumps(to_plain(revision), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return f"{revision.number:08}-{_hash(content)}", content


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:HASH_CHARS]


def _record_bytes(stored: Stored, names: Sequence[str]) -> bytes:
    plain = to_plain(stored)
    plain["history"]["revisions"] = names
    mark = secrets.token_hex(8)
    return json.dumps(
        {"format": DOCUMENT_FORMAT, "mark": mark, "sha256": digest([mark, plain]), "stored": plain}
    ).encode()


def _record_from_bytes(content: bytes, revisions: Mapping[str, bytes], where: str) -> Stored:
    """Raises Damaged, and StoreError if a newer tierlb wrote it."""
    document = parse_document(content, where, "choose another prefix")
    mark: object = document.get("mark")
    plain: Any = document.get("stored")
    if document.get("sha256") != digest([mark, plain]):
        raise Damaged("its checksum is wrong")
    try:
        names = plain["history"]["revisions"]
        history = {**plain["history"], "revisions": [_revision(name, revisions.get(name)) for name in names]}
        return from_plain({**plain, "history": history}, Stored)
    except (LookupError, TypeError) as error:
        raise Damaged(f"not written here: {error!r}") from None


def _revision(name: str, content: bytes | None) -> Any:
    if content is None:
        raise Damaged(f"revision {name} is missing")
    if name.rpartition("-")[2] != _hash(content):
        raise Damaged(f"revision {name} is not what was saved")
    return json.loads(content)
