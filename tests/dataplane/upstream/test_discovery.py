"""What a node finds in DNS, in time that jumps: who is asked when, and what an answer changes. A `Zone` is asked."""

from collections import Counter

import attrs
import pytest
import trio
import trio.testing

from tests.dataplane.conftest import Log
from tierlb.dataplane.upstream.discovery import MOST_ENDPOINTS, Discovery
from tierlb.model.address import Address
from tierlb.model.snapshot import FoundEndpoint, PoolSettings
from tierlb.net.names import AGAIN_S

Clock = trio.testing.MockClock


def at(*ports: int) -> tuple[FoundEndpoint, ...]:
    return tuple(FoundEndpoint(Address("127.0.0.1", port)) for port in ports)


@attrs.define
class Zone:
    """Answers with what the test has set, after `takes_s`; with nothing where nothing is set."""

    answers: dict[str, tuple[FoundEndpoint, ...]] = attrs.field(factory=dict)
    takes_s: float = 0.0
    asked: Counter[str] = attrs.field(factory=Counter)
    waiting: Counter[str] = attrs.field(factory=Counter)
    most_waiting: int = 0

    async def ask(self, name: str) -> tuple[FoundEndpoint, ...]:
        self.asked[name] += 1
        self.waiting[name] += 1
        self.most_waiting = max(self.most_waiting, self.waiting[name])
        try:
            await trio.sleep(self.takes_s)
        finally:
            self.waiting[name] -= 1
        return self.answers.get(name, ())


class Search:
    """A discovery that runs, and how often it told of a change by itself."""

    def __init__(self) -> None:
        self.zone = Zone()
        self.log = Log()
        self.told = 0
        self.fails = False
        self.discovery = Discovery(self.note, self.log, self.zone.ask)

    def note(self) -> None:
        if self.fails:
            self.fails = False
            raise ZeroDivisionError
        self.told += 1

    def looks_for(self, **names: str) -> None:
        """Pools by name; one without a name in DNS is looked for nowhere."""
        self.discovery.replace(PoolSettings(pool, dns=name or None) for pool, name in names.items())

    @property
    def found(self) -> dict[str, tuple[FoundEndpoint, ...]]:
        return self.discovery.found


@pytest.fixture
def search(nursery: trio.Nursery) -> Search:
    search = Search()
    nursery.start_soon(search.discovery.run)
    return search


async def a_round() -> None:
    """Every name is asked for once more."""
    await trio.sleep(AGAIN_S + 0.1)


async def test_a_name_is_asked_for_at_once_and_then_again_and_again(search: Search, autojump_clock: Clock) -> None:
    search.zone.answers["a:80"] = at(1, 2)
    search.looks_for(app="a:80")
    await trio.sleep(0.001)
    assert (search.found, search.told) == ({"app": at(1, 2)}, 1)
    await trio.sleep(10 * AGAIN_S)
    assert search.zone.asked["a:80"] == 11
    assert search.told == 1, "nothing has changed"


async def test_pools_named_before_it_runs_are_looked_for_when_it_does(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    search = Search()
    search.zone.answers["a:80"] = at(1)
    search.looks_for(app="a:80", listed="")
    await a_round()
    assert (search.found, search.zone.asked) == ({"app": ()}, {})
    nursery.start_soon(search.discovery.run)
    await trio.sleep(0.001)
    assert search.found == {"app": at(1)}


async def test_addresses_come_and_go_with_the_answers(search: Search, autojump_clock: Clock) -> None:
    for told, answer in enumerate((at(1), at(1, 2), at(2), at(3, 4)), start=1):
        search.zone.answers["a:80"] = answer
        search.looks_for(app="a:80")
        await a_round()
        assert (search.found, search.told) == ({"app": answer}, told)


async def test_an_answer_that_cannot_be_had_changes_nothing_and_is_told_once(
    search: Search, autojump_clock: Clock
) -> None:
    search.zone.answers["a:80"] = at(1)
    search.looks_for(app="a:80")
    await a_round()
    for _ in range(2):
        search.zone.answers["a:80"] = ()
        await trio.sleep(5 * AGAIN_S)
        assert (search.found, search.told) == ({"app": at(1)}, 1)
        search.zone.answers["a:80"] = at(1)
        await a_round()
    warnings = [fields for event, fields in search.log.events if event == "dns_lookup_empty"]
    assert warnings == [{"dns": "a:80", "kept": 1}] * 2


async def test_a_name_that_leads_nowhere_from_the_start_is_told(search: Search, autojump_clock: Clock) -> None:
    search.looks_for(app="a:80")
    await trio.sleep(5 * AGAIN_S)
    assert search.found == {"app": ()}
    assert search.log.events == [("dns_lookup_empty", {"dns": "a:80", "kept": 0})]


async def test_a_name_takes_the_place_of_another_with_its_first_answer(search: Search, autojump_clock: Clock) -> None:
    search.zone.answers["a:80"] = at(1)
    search.looks_for(app="a:80")
    await a_round()
    search.looks_for(app="b:80")
    await a_round()
    assert search.found == {"app": at(1)}
    search.zone.answers["b:80"] = at(2)
    await a_round()
    assert (search.found, search.told) == ({"app": at(2)}, 2)
    assert search.zone.asked["a:80"] == 2, "the old name is not asked for any more"


async def test_pools_that_share_a_name_share_its_answers(search: Search, autojump_clock: Clock) -> None:
    search.zone.answers["a:80"] = at(1)
    search.looks_for(app="a:80")
    await trio.sleep(0.001)
    search.looks_for(app="a:80", more="a:80")
    assert search.found == {"app": at(1), "more": at(1)}
    search.zone.answers["a:80"] = at(2)
    await a_round()
    assert search.found == {"app": at(2), "more": at(2)}
    assert search.zone.asked["a:80"] == 2


async def test_what_is_not_looked_for_any_more_is_forgotten(search: Search, autojump_clock: Clock) -> None:
    search.zone.answers["a:80"] = at(1)
    search.looks_for(app="a:80")
    await a_round()
    search.looks_for()
    assert search.found == {}
    asked = search.zone.asked["a:80"]
    await a_round()
    assert search.zone.asked["a:80"] == asked
    search.zone.answers["a:80"] = ()
    search.looks_for(app="a:80")
    await a_round()
    assert search.found == {"app": ()}, "what was known of it is too old to go by"


async def test_an_answer_that_comes_too_late_is_nobodys(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    search = Search()

    async def stubborn(name: str) -> tuple[FoundEndpoint, ...]:
        with trio.CancelScope(shield=True):
            return await search.zone.ask(name)

    search.discovery = Discovery(search.note, search.log, stubborn)
    nursery.start_soon(search.discovery.run)
    search.zone.takes_s = 1.0
    search.zone.answers["a:80"] = at(1)
    search.looks_for(app="a:80")
    await trio.sleep(0.5)
    search.looks_for()
    await a_round()
    assert (search.found, search.told) == ({}, 0)
    search.zone.answers["a:80"] = ()
    search.looks_for(app="a:80")
    assert search.found == {"app": ()}


async def test_questions_for_a_name_never_pile_up(search: Search, autojump_clock: Clock) -> None:
    search.zone.takes_s = 60.0
    search.zone.answers["a:80"] = at(1)
    for revision in range(50):
        search.looks_for(app="a:80", **{f"other{revision}": "b:80"})
        await trio.sleep(1.0)
    assert search.zone.most_waiting == 1
    await trio.sleep(20.0)
    assert search.found["app"] == at(1)


async def test_a_slow_name_does_not_hold_up_another(search: Search, autojump_clock: Clock) -> None:
    search.zone.answers["a:80"] = at(1)
    search.zone.takes_s = 60.0
    search.looks_for(slow="a:80")
    await trio.sleep(1.0)
    search.zone.takes_s = 0.0
    search.zone.answers["b:80"] = at(2)
    search.looks_for(slow="a:80", app="b:80")
    await a_round()
    assert search.found == {"slow": (), "app": at(2)}


async def test_what_fails_with_an_answer_is_tried_again_and_ends_no_other_search(
    search: Search, autojump_clock: Clock
) -> None:
    search.fails = True
    search.zone.answers = {"app:80": at(80), "api:81": at(81)}
    search.looks_for(app="app:80", api="api:81")
    await trio.sleep(3 * AGAIN_S)
    assert search.found == {"app": at(80), "api": at(81)}
    assert search.told == 2
    search.zone.answers["app:80"] = at(82)
    await trio.sleep(2 * AGAIN_S)
    assert search.found["app"] == at(82)
    assert search.log.count("internal_error") == 1


async def test_an_answer_with_absurdly_many_endpoints_is_cut(search: Search, autojump_clock: Clock) -> None:
    search.zone.answers["app:80"] = at(*range(1, 60_000))
    search.looks_for(app="app:80")
    await trio.sleep(AGAIN_S)
    assert search.found["app"] == at(*range(1, MOST_ENDPOINTS + 1))
    assert search.log.count("endpoints_left_out") == 1
