"""Endpoints of pools that are looked up in DNS, found by the node itself: they come and go without a controller.

Each name is asked for at once and every two seconds (net/names.py). A failed lookup or an empty answer changes nothing;
a name that takes the place of another does so with its first answer. An address that is not in an answer any more
leaves with it: what is under way there finishes.

Left out: TTLs, and name servers that answer with a rotating part of the endpoints, with which hosts would come and go:
give each part a name of its own.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import trio

from tierlb.model.snapshot import FoundEndpoint, PoolSettings
from tierlb.net.keep_going import keep_going
from tierlb.net.lookup import LookUp, look_up
from tierlb.net.names import follow
from tierlb.telemetry.internal_errors import InternalErrors

MOST_ENDPOINTS = 1000
"""A name server that answers with more is broken or hostile: each endpoint costs health checks and kept connections.
Answers are in order, so the same ones are left out each time."""


class Discovery:
    """`replace` with each snapshot, `run` for as long as the node serves. `found` is what is known now, by pool;
    `on_found` is called when that has changed by itself."""

    def __init__(
        self, on_found: Callable[[], None], log: Any, ask: LookUp = look_up, errors: InternalErrors | None = None
    ) -> None:
        self.found: dict[str, tuple[FoundEndpoint, ...]] = {}
        self._on_found = on_found
        self._log = log
        self._ask = ask
        self._errors = errors or InternalErrors(log)
        self._names: dict[str, str] = {}
        self._answers: dict[str, tuple[FoundEndpoint, ...]] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None

    def replace(self, pools: Iterable[PoolSettings]) -> None:
        """Look for the endpoints of these pools from now on, also before `run`."""
        self._names = {pool.name: pool.dns for pool in pools if pool.dns is not None}
        self.found = {pool: self._known(pool, name) for pool, name in self._names.items()}
        for name in self._scopes.keys() - self._names.values():
            self._scopes.pop(name).cancel()
            self._answers.pop(name, None)
        self._start_new()

    async def run(self) -> None:
        """Look for ever."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._start_new()
            await trio.sleep_forever()

    def _known(self, pool: str, name: str) -> tuple[FoundEndpoint, ...]:
        return self._answers.get(name) or self.found.get(pool, ())

    def _start_new(self) -> None:
        if self._nursery is None:
            return
        for name in dict.fromkeys(self._names.values()):
            if name not in self._scopes:
                self._scopes[name] = trio.CancelScope()
                self._nursery.start_soon(self._follow, name, self._scopes[name])

    async def _follow(self, name: str, scope: trio.CancelScope) -> None:
        with scope:
            ask = partial(follow, name, partial(self._note, name), partial(self._complain, name), self._ask)
            await keep_going(self._errors, "discovery", ask)

    def _note(self, name: str, found: tuple[FoundEndpoint, ...]) -> None:
        if name not in self._scopes:
            return  # it is not asked for any more
        if len(found) > MOST_ENDPOINTS:
            self._log.warning("endpoints_left_out", dns=name, found=len(found), used=MOST_ENDPOINTS)
        else:
            self._log.info("endpoints_found", dns=name, count=len(found))
        self._answers[name] = found[:MOST_ENDPOINTS]
        self.found = {pool: self._known(pool, each) for pool, each in self._names.items()}
        self._on_found()

    def _complain(self, name: str) -> None:
        kept = sum(len(self.found[pool]) for pool, each in self._names.items() if each == name)
        self._log.warning("dns_lookup_empty", dns=name, kept=kept)
