"""The topology file of a running cluster, as it is edited: each edit is applied, or its problems are logged.

The file is read twice a second, because an editor may replace it, and some file systems report no changes. An edit
counts when two reads in a row find the same, since the file may be read while it is being written. An edit during a
change waits for the end of the change. What could not be applied is not tried again until the file differs.

A file that is not followed is read on request, which is what SIGHUP is. Then it counts as it is, and its problems are
logged each time.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

from tierlb.channel.durable import StoreError
from tierlb.channel.log import Log
from tierlb.controller.change_runner import ChangeUnderWay
from tierlb.controller.changes import Changes, Request
from tierlb.controller.file_text import decoded, read_file
from tierlb.controller.history import Conflict
from tierlb.controller.progress import Progress
from tierlb.controller.proposals import NotPossible
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.topology.load import load_file
from tierlb.topology.problems import TopologyError

LOOK_AT_FILE_EVERY_S = 0.5
WHAT = "edit of the file"


@attrs.define
class Following:
    """`who`: the user in whose name edits are applied. `read` gives the content of the file."""

    file: Path
    changes: Changes
    log: Log
    who: str
    errors: InternalErrors = attrs.field(default=attrs.Factory(lambda self: InternalErrors(self.log), takes_self=True))
    read: Callable[[Path], Awaitable[bytes]] = read_file
    _seen: bytes = attrs.field(default=b"", init=False)
    _settled: bytes = attrs.field(default=b"", init=False)
    _change: Progress | None = attrs.field(default=None, init=False)
    _logged: int = attrs.field(default=0, init=False)
    _requested: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(self) -> None:
        """Read the file twice a second, for ever."""
        while True:
            with self.errors.barrier("topology file", file=str(self.file)):
                if self._requested.is_set():
                    await self._read_again()
                else:
                    await self.look()
            await trio.sleep(LOOK_AT_FILE_EVERY_S)

    async def run_on_request(self) -> None:
        """Read the file on request, and log the progress of the change that follows."""
        while True:
            await self._requested.wait()
            while self._requested.is_set() or (self._change is not None and not self._change.over):
                with self.errors.barrier("topology file", file=str(self.file)):
                    self._log_progress()
                    if self._requested.is_set():
                        await self._read_again()
                await trio.sleep(LOOK_AT_FILE_EVERY_S)
            self._log_progress()

    def ask(self) -> None:
        """Request that the file is read, whether it was edited or not. A change under way ends first."""
        self._requested.set()

    async def _read_again(self) -> None:
        self.log.info("file_read_again", file=str(self.file))
        before = self.changes.text
        try:
            content = await self.read(self.file)
        except OSError as error:
            self.log.error("topology_file_read_failed", file=str(self.file), reason=str(error))
            content = b""
        if self.changes.text != before:
            return  # another change came meanwhile, and what was read may be older: once more
        if not content or await self._apply_content(content):
            self._requested = trio.Event()

    async def look(self) -> None:
        """Log the progress of the change under way, and begin another one if the file was edited."""
        self._log_progress()
        before = self.changes.text
        try:
            content = await self.read(self.file)
        except OSError as error:
            content = b""
            if self._seen:
                self.log.warning("topology_file_read_failed", file=str(self.file), reason=str(error))
        is_steady, self._seen = content == self._seen, content
        is_current = self.changes.text == before
        if content and is_steady and is_current and content != self._settled:
            await self._apply_content(content)

    async def _apply_content(self, content: bytes) -> bool:
        """Whether the content is settled: applied, or refused because of its problems."""
        try:
            text = self._text(content)
            if text != self.changes.text:
                self._change, self._logged = await self.changes.apply(text, Request(self.who, WHAT), WHAT), 0
                self._log_progress()
        except ChangeUnderWay:
            return False
        except TopologyError as error:
            for problem in error.problems:
                self.log.error("topology_file_problem_found", problem=str(problem))
            self.log.error("topology_file_refused", problems=len(error.problems))
        except (Conflict, NotPossible, StoreError) as problem:
            self.log.error("topology_file_apply_failed", reason=str(problem))
        self._settled = content
        return True

    def _text(self, content: bytes) -> str:
        """As it is read at the start. Raises TopologyError."""
        try:
            return decoded(content)
        except UnicodeDecodeError:
            load_file(self.file)  # its error names the place
            return self.changes.text

    def _log_progress(self) -> None:
        """Log what has happened since the last time."""
        if self._change is not None:
            for line in self._change.lines[self._logged :]:
                self.log.info("change_progressed", at_s=line.at_s, what=line.text)
            self._logged = len(self._change.lines)
