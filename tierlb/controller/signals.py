"""How the parts of a controller wake each other: there is something to publish, or something that others wait for."""

import attrs
import trio


@attrs.define
class Signals:
    """Each wait ends at the next signal; signals that come together are one."""

    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _progress: trio.Event = attrs.field(factory=trio.Event, init=False)

    def changed(self) -> None:
        """What nodes should serve may differ now."""
        self._changed.set()
        self.moved()

    def moved(self) -> None:
        """Anything that `Readiness` answers may differ now."""
        self._progress.set()
        self._progress = trio.Event()

    async def wait_changed(self) -> None:
        """Return when `changed` was called since `take_changes`."""
        await self._changed.wait()

    def take_changes(self) -> None:
        """What was changed until now is being published."""
        self._changed = trio.Event()

    async def wait_progress(self) -> None:
        """Return at the next sign of progress."""
        await self._progress.wait()
