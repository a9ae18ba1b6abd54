"""However items begin, are parked and end, hosts and tallies count the same of them, and none in the end."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.balance.begun import begun
from tierlb.balance.cost import ParentShare
from tierlb.balance.counted_host import CountedHost
from tierlb.balance.kinds import Kinds
from tierlb.balance.load_estimate import HostTraits, LoadEstimate
from tierlb.balance.parking import PARKED_AFTER_S
from tierlb.balance.received_reports import ReceivedReports
from tierlb.balance.ticket import Ticket
from tierlb.telemetry.tally import Tally

TICK_S = 0.05
WHICH = st.integers(min_value=0)


class ParkedCounts(RuleBasedStateMachine):
    """Two hosts and three parents. `tunnels` have come of items and stay parked."""

    @initialize()
    def start(self) -> None:
        self.now = 100.0
        self.kinds = Kinds()
        self.hosts = [CountedHost(self._estimate(), self.kinds) for _ in range(2)]
        for host in self.hosts:
            host.estimate.speed.work.usual_s = 0.01
        self.tallies = [Tally() for _ in range(3)]
        self.items: list[Ticket[CountedHost]] = []
        self.tunnels: list[Ticket[CountedHost]] = []

    @rule(host=WHICH, tally=WHICH, kind=st.sampled_from([0, 2, 4]), long=st.booleans())
    def begin(self, host: int, tally: int, kind: int, long: bool) -> None:
        self._give(self.tallies[tally % 3], kind, host, long=long)

    @rule(seconds=st.sampled_from([0.0, TICK_S, PARKED_AFTER_S, 3.0]))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        for host in self.hosts:
            host.learn_from_items(self.now)
        self.kinds.learn(self.now)

    @rule(which=WHICH)
    def answer(self, which: int) -> None:
        """The head comes; the body follows."""
        for item in self._one_of(self.items, which):
            item.answered(self.now, 0)

    @rule(which=WHICH)
    def end(self, which: int) -> None:
        for item in self._one_of(self.items, which):
            self._end(self.items, item)

    @rule(which=WHICH, host=WHICH, long=st.booleans())
    def retry(self, which: int, host: int, long: bool) -> None:
        """It begins anew at a host, the same or another one."""
        for item in self._one_of(self.items, which):
            self._end(self.items, item)
            self._give(item.tally, item.kind.number, host, long=long)  # type: ignore[arg-type]

    @rule(which=WHICH)
    def become_a_tunnel(self, which: int) -> None:
        for item in self._one_of(self.items, which):
            self.items.remove(item)
            item.stay_parked()
            self.tunnels.append(item)

    @rule(which=WHICH)
    def end_a_tunnel(self, which: int) -> None:
        for tunnel in self._one_of(self.tunnels, which):
            self._end(self.tunnels, tunnel)

    @invariant()
    def hosts_and_tallies_agree(self) -> None:
        parked = [item for item in self.items if not item.is_queued] + self.tunnels
        assert [tally.parked for tally in self.tallies] == [
            sum(item.tally is tally for item in parked) for tally in self.tallies
        ]
        assert sum(host.parked for host in self.hosts) == len(parked)
        assert all(len(host.parked_items) == host.parked <= host.in_flight for host in self.hosts)

    def teardown(self) -> None:
        if not hasattr(self, "items"):
            return
        for tickets in (self.items, self.tunnels):
            for item in list(tickets):
                self._end(tickets, item)
        assert [host.parked for host in self.hosts] == [0, 0]
        assert [host.in_flight for host in self.hosts] == [0, 0]
        assert [tally.parked for tally in self.tallies] == [0, 0, 0]
        assert not any(host.parked_items or host.under_way for host in self.hosts)

    def _estimate(self) -> LoadEstimate:
        return LoadEstimate(HostTraits(reports=False), ReceivedReports(ParentShare(1)), self.now)

    def _give(self, tally: Tally, kind: int, host: int, *, long: bool) -> None:
        self.items.append(begun(self.hosts[host % 2], self.now, kind, tally=tally, long=long))

    def _end(self, tickets: list[Ticket[CountedHost]], item: Ticket[CountedHost]) -> None:
        tickets.remove(item)
        queued = item.is_queued
        assert item.done(self.now) is not queued
        item.give_back(self.now)

    def _one_of(self, what: list[Any], which: int) -> list[Any]:
        return [what[which % len(what)]] if what else []


TestParkedCounts = ParkedCounts.TestCase
