"""The event loop of a simulated node: a queue with one server, if items cost it anything."""

from typing import Any

from tierlb.simulate.agenda import Agenda, AgendaAction


class SimulatedLoop:
    """Every item costs it `cost_s`; 0: nothing."""

    __slots__ = ("_agenda", "_cost_s", "_free_at", "_work_s")

    def __init__(self, agenda: Agenda, cost_s: float) -> None:
        self._agenda = agenda
        self._cost_s = cost_s
        self._work_s = 0.0
        self._free_at = 0.0

    def serve(self, handle: AgendaAction, item: Any) -> None:
        """Call `handle` with the item when those before it are done."""
        if not self._cost_s:
            handle(item)
            return
        self._free_at = max(self._free_at, self._agenda.now) + self._cost_s
        self._work_s += self._cost_s
        self._agenda.at(self._free_at, handle, item)

    def waited_s(self) -> float:
        """How long it has waited since the start."""
        now = self._agenda.now
        return now - self._work_s + max(0.0, self._free_at - now)
