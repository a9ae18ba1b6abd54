"""An item of some kind at its leaf: sent by its client, worked on until the head of its answer, then the body."""

from collections.abc import Callable
from typing import Any

from tierlb.simulate.agenda import Agenda
from tierlb.simulate.kinds import KindSource, Slot
from tierlb.simulate.leaf import SimulatedLeaf

VisitEvent = Callable[[Any], None]


class LeafVisit:
    """`sent(item)` is called when the client has sent the item, `headed(item)` with the head of the answer, and
    `done(item)` at its end, which without a body is at the same moment."""

    __slots__ = ("_agenda", "_done", "_headed", "_item", "_leaf", "_sent", "_source")

    def __init__(
        self,
        agenda: Agenda,
        leaf: SimulatedLeaf,
        source: KindSource,
        item: Any,
        sent: VisitEvent,
        headed: VisitEvent,
        done: VisitEvent,
    ) -> None:
        self._agenda = agenda
        self._leaf = leaf
        self._source = source
        self._item = item
        self._sent = sent
        self._headed = headed
        self._done = done

    def begin(self) -> None:
        if self._source.sending is None:
            self._queue(None)
        else:
            self._agenda.at(self._agenda.now + self._source.sending(), self._queue)

    def _queue(self, _: object) -> None:
        self._sent(self._item)
        if self._source.kind.slot is Slot.NONE:
            self._work(None)
        else:
            self._leaf.occupy(self._work, None)

    def _work(self, _: object) -> None:
        self._agenda.at(self._agenda.now + self._source.head() * self._stretch, self._answer)

    def _answer(self, _: object) -> None:
        if self._source.kind.slot is Slot.HEAD:
            self._leaf.release()
        self._headed(self._item)
        if self._source.body is None:
            self._end(None)
        else:
            stretch = 1.0 if self._source.kind.reading else self._stretch
            self._agenda.at(self._agenda.now + self._source.body() * stretch, self._end)

    def _end(self, _: object) -> None:
        if self._source.kind.slot is Slot.THROUGHOUT:
            self._leaf.release()
        self._done(self._item)

    @property
    def _stretch(self) -> float:
        return self._leaf.slow if self._source.kind.stretched else 1.0
