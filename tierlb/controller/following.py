"""The topology file of a running cluster, as it is edited: each edit is applied, or what is wrong with it is said.

The file is read twice a second, for an editor may replace it, and a file system may be one that tells nobody. An edit
counts when two looks in a row find the same, since a look may come while the file is being written. One that comes
while a change is under way waits for its end. What could not be applied is not tried again until the file differs.

A file that is not followed is read when that is asked for, which is what SIGHUP does. Then it counts as it is, and what
is wrong with it is said each time.
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
    """`who`: in whose name edits are applied; `read` gives the content of the file."""

    file: Path
    changes: Changes
    log: Log
    who: str
    errors: InternalErrors = attrs.field(default=attrs.Factory(lambda self: InternalErrors(self.log), takes_self=True))
    read: Callable[[Path], Awaitable[bytes]] = read_file
    _seen: bytes = attrs.field(default=b"", init=False)
    _settled: bytes = attrs.field(default=b"", init=False)
    _change: Progress | None = attrs.field(default=None, init=False)
    _told: int = attrs.field(default=0, init=False)
    _asked: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            with self.errors.barrier("topology file", file=str(self.file)):
                if self._asked.is_set():
                    await self._read_again()
                else:
                    await self.look()
            await trio.sleep(LOOK_AT_FILE_EVERY_S)

    async def run_on_request(self) -> None:
        """Read the file whenever that is asked for; and say how the change goes on that came of it."""
        while True:
            await self._asked.wait()
            while self._asked.is_set() or (self._change is not None and not self._change.over):
                with self.errors.barrier("topology file", file=str(self.file)):
                    self._tell()
                    if self._asked.is_set():
                        await self._read_again()
                await trio.sleep(LOOK_AT_FILE_EVERY_S)
            self._tell()

    def ask(self) -> None:
        """Have the file read, whether it was edited or not. A change under way ends first."""
        self._asked.set()

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
        if not content or await self._heed(content):
            self._asked = trio.Event()

    async def look(self) -> None:
        """Say how the change under way goes on, and see whether the file asks for another."""
        self._tell()
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
            await self._heed(content)

    async def _heed(self, content: bytes) -> bool:
        """Whether it is done with: applied, or refused for what it says."""
        try:
            text = self._text(content)
            if text != self.changes.text:
                self._change, self._told = await self.changes.apply(text, Request(self.who, WHAT), WHAT), 0
                self._tell()
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
            load_file(self.file)  # which says where
            return self.changes.text

    def _tell(self) -> None:
        """What has happened since the last look."""
        if self._change is not None:
            for line in self._change.lines[self._told :]:
                self.log.info("change_progressed", at_s=line.at_s, what=line.text)
            self._told = len(self._change.lines)
