"""However items begin, are parked and end, hosts and tallies count the same of them, and none in the end."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tierlb.balance.counted_host import CountedHost
from tierlb.balance.kinds import Kinds
from tierlb.balance.load_estimate import LoadEstimate
from tierlb.balance.parking import PARKED_AFTER_S
from tierlb.telemetry.tally import Tally

TICK_S = 0.05
WHICH = st.integers(min_value=0)


class Item:
    """One item at one host; its tally and kind stay the same when it goes to another one."""

    def __init__(self, now: float, tally: Tally, kind: int) -> None:
        self.began = self.sent = now
        self.tally = tally
        self.kind = kind


class ParkedCounts(RuleBasedStateMachine):
    """Two hosts and three parents. `where`: each item's host; `tunnels` have come of items and stay parked."""

    @initialize()
    def start(self) -> None:
        self.now = 100.0
        self.kinds = Kinds()
        self.hosts = [CountedHost(LoadEstimate(reports=False, parents=1, joined=self.now)) for _ in range(2)]
        for host in self.hosts:
            host.estimate.work.usual_s = 0.01
        self.tallies = [Tally() for _ in range(3)]
        self.where: dict[Item, CountedHost] = {}
        self.tunnels: list[tuple[Item, CountedHost]] = []

    @rule(host=WHICH, tally=WHICH, kind=st.sampled_from([0, 2, 4]), long=st.booleans())
    def begin(self, host: int, tally: int, kind: int, long: bool) -> None:
        self._give(Item(self.now, self.tallies[tally % 3], kind), host, long=long)

    @rule(seconds=st.sampled_from([0.0, TICK_S, PARKED_AFTER_S, 3.0]))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        for host in self.hosts:
            host.learn_from_items(self.now, self.kinds)
        self.kinds.learn(self.now)

    @rule(which=WHICH)
    def answer(self, which: int) -> None:
        """The head comes; the body follows."""
        for item in self._one_of(list(self.where), which):
            item.sent = 0.0

    @rule(which=WHICH)
    def end(self, which: int) -> None:
        for item in self._one_of(list(self.where), which):
            self._take_back(item)

    @rule(which=WHICH, host=WHICH, long=st.booleans())
    def retry(self, which: int, host: int, long: bool) -> None:
        """It begins anew at a host, the same or another one."""
        for item in self._one_of(list(self.where), which):
            self._take_back(item)
            item.began = item.sent = self.now
            self._give(item, host, long=long)

    @rule(which=WHICH)
    def become_a_tunnel(self, which: int) -> None:
        for item in self._one_of(list(self.where), which):
            host = self.where.pop(item)
            host.stay_parked(item, item, self.kinds)
            self.tunnels.append((item, host))

    @rule(which=WHICH)
    def end_a_tunnel(self, which: int) -> None:
        for tunnel in self._one_of(self.tunnels, which):
            self.tunnels.remove(tunnel)
            self._end_tunnel(*tunnel)

    @invariant()
    def members_and_tallies_agree(self) -> None:
        expected = [sum(self._is_parked(item) for item in self.where if item.tally is each) for each in self.tallies]
        for index, tally in enumerate(self.tallies):
            expected[index] += sum(each.tally is tally for each, _ in self.tunnels)
        assert [tally.parked for tally in self.tallies] == expected
        assert sum(host.parked for host in self.hosts) == sum(expected)
        assert all(len(host.beginnings) == host.parked <= host.in_flight for host in self.hosts)

    def teardown(self) -> None:
        if not hasattr(self, "where"):
            return
        for item in list(self.where):
            self._take_back(item)
        for tunnel in self.tunnels:
            self._end_tunnel(*tunnel)
        assert [host.parked for host in self.hosts] == [0, 0]
        assert [host.in_flight for host in self.hosts] == [0, 0]
        assert [tally.parked for tally in self.tallies] == [0, 0, 0]
        assert not any(host.early or host.under_way for host in self.hosts)

    def _give(self, item: Item, host: int, *, long: bool) -> None:
        self.where[item] = self.hosts[host % 2]
        self.where[item].begin_item(self.now, item, long=long)

    def _take_back(self, item: Item) -> None:
        parked = self._is_parked(item)
        host = self.where.pop(item)
        assert host.end_item(self.now, item, self.kinds) is parked
        host.done += 1

    def _end_tunnel(self, item: Item, host: CountedHost) -> None:
        host.in_flight -= 1
        host.moments += self.now
        host.done += 1
        host.end_tunnel(item.tally, item)

    def _is_parked(self, item: Item) -> bool:
        return item not in self.where[item].under_way

    def _one_of(self, what: list[Any], which: int) -> list[Any]:
        return [what[which % len(what)]] if what else []


TestParkedCounts = ParkedCounts.TestCase
