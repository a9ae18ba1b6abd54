"""Which file `tierlb up` runs: FILE itself, or a copy of it where FILE is one of the examples beside the sources.

Verbs write their edits back to the file that the cluster runs from. The examples in `topology/` are tracked by git, and
documents and tests refer to their content, so `up` copies an example into the state directory and runs the copy. An
existing copy is run as it is, because it may hold edits.

Left out: files that an example names. Their paths would be relative to the copy; no example names a file.
"""

from pathlib import Path

import attrs

import tierlb
from tierlb.channel.durable import make_directory, store_error, write_atomically

EXAMPLES = Path(tierlb.__file__).resolve().parents[1] / "topology"


@attrs.frozen
class Source:
    """The file that is run and kept in step. `example`: the file it is a copy of; `edited`: it differs from that."""

    file: Path
    example: Path | None = None
    edited: bool = False

    def __str__(self) -> str:
        if self.example is None:
            return str(self.file)
        if self.edited:
            return f"{self.file} (your edited copy of {self.example.name}; delete it to start from the example again)"
        return f"{self.file} (a copy of {self.example.name}, which stays as it is)"


def source_of(file: Path, state: Path) -> Source:
    """The file to run for this FILE, where `state` is the cluster's state directory. Raises StoreError."""
    if file.resolve().parent != EXAMPLES:
        return Source(file)
    copy = state / file.name
    try:
        content = file.read_bytes()
        if copy.exists():
            return Source(copy, file, edited=copy.read_bytes() != content)
    except OSError as error:
        raise store_error(Path(error.filename or file), "read", error) from error
    make_directory(state)
    write_atomically(copy, content)
    return Source(copy, file)
