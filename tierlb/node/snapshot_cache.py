"""The file in which a node keeps what it served last, so that it can serve again without the controller.

It holds the snapshot, the addresses that were bound (a node that returns at the same ports needs no change elsewhere)
and the parents. A directory belongs to one node, and the file of another node is not used. The parts are frames as they
travel, so the same readers check them.

A node starts without a file that is damaged or missing.
"""

import hashlib
from pathlib import Path

import attrs
import msgpack  # type: ignore[import-untyped]

from tierlb.channel.durable import make_directory, write_atomically
from tierlb.channel.private import read_private
from tierlb.model.address import Address
from tierlb.model.snapshot import Snapshot
from tierlb.wire.frames import (
    MAX_FRAME_BYTES,
    Ack,
    Configure,
    ParentAddress,
    ProtocolError,
    ReportTo,
    decode_frame,
    encode_frame,
)

FILE = "last-good"
MAGIC = b"tierlb last good 1\n"
"""Another format gets another number; a node that cannot read it starts without the file."""
DIGEST_BYTES = hashlib.sha256().digest_size
MAX_CACHE_BYTES = 2 * MAX_FRAME_BYTES


@attrs.frozen
class SnapshotCache:
    """The state of the node `node`: `addresses` are parallel to the snapshot's listeners."""

    node: str
    snapshot: Snapshot
    addresses: tuple[Address, ...] = ()
    parents: tuple[ParentAddress, ...] = ()


def save(directory: Path, good: SnapshotCache) -> None:
    """Replace the file; raises StoreError, with the old file untouched."""
    configure, ack = Configure(good.snapshot), Ack(good.snapshot.revision, good.addresses)
    body: bytes = msgpack.packb(
        (good.node, encode_frame(configure), encode_frame(ack), encode_frame(ReportTo(good.parents)))
    )
    make_directory(directory)
    write_atomically(directory / FILE, MAGIC + hashlib.sha256(body).digest() + body)


def load(directory: Path, node: str, tier: str, cluster: str = "") -> tuple[SnapshotCache | None, str]:
    """What this node served last, or None and why it cannot be used ("": there is no file). Raises nothing. Without a
    cluster the one in the file is taken: only the snapshot gives a node its cluster."""
    path = directory / FILE
    try:
        content = read_private(path, MAX_CACHE_BYTES + 1)
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:
        return None, f"{path} cannot be read: {error}"
    try:
        good = _from_bytes(content)
    except ValueError as problem:
        return None, f"{path} is not used: {problem}"
    stranger = _foreign(good, node, tier, cluster)
    return (None, f"{path} is not used: it is of {stranger}") if stranger else (good, "")


def _from_bytes(content: bytes) -> SnapshotCache:
    """Raises ValueError with the reason."""
    if len(content) > MAX_CACHE_BYTES:
        raise ValueError("it is too large")
    if not content.startswith(MAGIC):
        raise ValueError("it was not written by this version of tierlb")
    digest, body = content[len(MAGIC) :][:DIGEST_BYTES], content[len(MAGIC) + DIGEST_BYTES :]
    if digest != hashlib.sha256(body).digest():
        raise ValueError("it is damaged, its checksum is wrong")
    try:
        node, *frames = msgpack.unpackb(body, raw=False)
        parts = [decode_frame(frame) for frame in frames]
    except (TypeError, ValueError, msgpack.UnpackException, RecursionError, ProtocolError) as error:
        raise ValueError(f"it is no record of a node ({error})") from error
    match parts:
        case [Configure(snapshot), Ack(_, addresses), ReportTo(parents)] if isinstance(node, str):
            return SnapshotCache(node, snapshot, addresses, parents)
    raise ValueError("it is no record of a node")


def _foreign(good: SnapshotCache, node: str, tier: str, cluster: str) -> str:
    """The node, tier or cluster to which the file belongs, if it is another one."""
    pairs = (
        ("node", good.node, node),
        ("tier", good.snapshot.tier, tier),
        ("cluster", good.snapshot.cluster, cluster or good.snapshot.cluster),
    )
    return next((f"{what} {theirs!r}, not {ours!r}" for what, theirs, ours in pairs if theirs != ours), "")
