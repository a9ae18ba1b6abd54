"""What outlives this controller: the history and the rollout under way, in the store; the active text, in the file."""

import attrs
import trio

from tierlb.channel.durable import StoreError
from tierlb.channel.log import Log
from tierlb.controller.history import History, Rollout
from tierlb.controller.kept_file import KeptFile
from tierlb.controller.publisher import Publisher
from tierlb.controller.store import Store, Stored


@attrs.define
class KeptState:
    """`load` comes first. What is kept changes only by `save`, and what shows a revision shows the active one."""

    store: Store
    _log: Log
    _publisher: Publisher
    kept_file: KeptFile | None = None
    """The topology file; None where it is not kept in step."""
    _stored: Stored = attrs.field(factory=Stored, init=False)
    _version: int = attrs.field(default=0, init=False)
    _saving: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    @property
    def history(self) -> History:
        """Every revision that is kept."""
        return self._stored.history

    @property
    def rollout(self) -> Rollout | None:
        """The change under way, if it has stages."""
        return self._stored.rollout

    @property
    def text(self) -> str:
        """Of the active revision; "" without any."""
        current = self.history.current
        return current.text if current is not None else ""

    async def load(self) -> None:
        """Begin with what is stored. Raises StoreError."""
        found = await self.store.load()
        if found.warning:
            self._log.warning("older_state_loaded", reason=found.warning)
        self._version = found.version
        self._note(found.stored)

    async def save(self, **changes: object) -> None:
        """Store other values of `Stored`. Raises StoreError, and then nothing has changed."""
        async with self._saving:
            stored = attrs.evolve(self._stored, **changes)  # type: ignore[arg-type]
            self._version = await self.store.save(stored, self._version)
            self._note(stored)

    async def save_or_log(self, **changes: object) -> None:
        """The same for what has happened already: what cannot be stored is still true until the next start."""
        try:
            await self.save(**changes)
        except StoreError as problem:
            self._note(attrs.evolve(self._stored, **changes))  # type: ignore[arg-type]
            self._log.error("state_write_failed", reason=str(problem))

    async def write_file(self, before: str, after: str) -> None:
        """Have the file hold `after` where it holds `before`."""
        if self.kept_file is not None:
            await self.kept_file.keep(before, after)

    def _note(self, stored: Stored) -> None:
        self._stored = stored
        self._publisher.revision = stored.history.active
