"""The text of the topology file: read by a thread, decoded in one way, and remembered for when the disk fails."""

from pathlib import Path

import attrs
import trio

from tierlb.channel.log import Log
from tierlb.topology.load import MAX_FILE_BYTES

READ_S = 5.0
"""As long as an ordinary disk takes at worst. The process that reads holds up no nodes for longer than that."""


async def read_file(path: Path) -> bytes:
    """As much as may be in a topology file, and a byte. By a thread: a disk may stall, and this process serves all
    nodes. Raises OSError."""
    return await trio.to_thread.run_sync(_read_bounded, path, abandon_on_cancel=True)


def decoded(content: bytes) -> str:
    """As the file is read at the start. Raises UnicodeDecodeError."""
    return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


@attrs.define
class FileText:
    """`text` is what was read last."""

    file: Path
    text: str
    _log: Log

    async def read(self) -> str:
        """The text as it is now, or as it was last if it cannot be read: what nodes serve is in the store."""
        try:
            with trio.fail_after(READ_S):
                self.text = decoded(await read_file(self.file))
        except (OSError, UnicodeDecodeError, trio.TooSlowError) as error:
            reason = str(error) or f"not in {READ_S:g} s"
            self._log.warning("topology_file_read_failed", file=str(self.file), reason=reason)
        return self.text


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(MAX_FILE_BYTES + 1)
