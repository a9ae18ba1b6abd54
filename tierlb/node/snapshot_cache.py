"""What a node served last, on its disk, so that it can serve again before it has found the controller.

Kept are the snapshot, the addresses that were bound (a node that comes back at the same ports needs no change
elsewhere) and the parents. A file is one node's: a directory belongs to one node, and what another one left
there is not used. The parts are frames as they travel, so what may stand in them is checked by the same readers.

Whatever is wrong with a file, the node starts without it: nothing here is needed, only welcome.
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
"""Another number for another format; a node that does not know it starts without."""
DIGEST_BYTES = hashlib.sha256().digest_size
MAX_BYTES = 2 * MAX_FRAME_BYTES


@attrs.frozen
class SnapshotCache:
    """What the node `node` served last: `addresses` are parallel to the snapshot's listeners."""

    node: str
    snapshot: Snapshot
    addresses: tuple[Address, ...] = ()
    parents: tuple[ParentAddress, ...] = ()


def save(directory: Path, good: SnapshotCache) -> None:
    """Replace what is kept; raises StoreError, with the old file untouched."""
    configure, ack = Configure(good.snapshot), Ack(good.snapshot.revision, good.addresses)
    body: bytes = msgpack.packb(
        (good.node, encode_frame(configure), encode_frame(ack), encode_frame(ReportTo(good.parents)))
    )
    make_directory(directory)
    write_atomically(directory / FILE, MAGIC + hashlib.sha256(body).digest() + body)


def load(directory: Path, node: str, tier: str, cluster: str = "") -> tuple[SnapshotCache | None, str]:
    """What this node served last, or None and why it cannot be used ("": there is none). Nothing is raised. Without a
    cluster that of the file is believed: a node knows its cluster only from its snapshot."""
    path = directory / FILE
    try:
        content = read_private(path, MAX_BYTES + 1)
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
    if len(content) > MAX_BYTES:
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
    """Whose file it is, if another's."""
    pairs = (
        ("node", good.node, node),
        ("tier", good.snapshot.tier, tier),
        ("cluster", good.snapshot.cluster, cluster or good.snapshot.cluster),
    )
    return next((f"{what} {theirs!r}, not {ours!r}" for what, theirs, ours in pairs if theirs != ours), "")
