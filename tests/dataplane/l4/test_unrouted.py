"""Connections without a route are counted each, and logged at most once in a while."""

from tests.dataplane.conftest import Log
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.l4.unrouted import UNROUTED_LOG_S, Unrouted
from tierlb.wire.client_hello import NO_HELLO, ClientHello, Verdict

HELLO = ClientHello(Verdict.WHOLE, "a.example.com", tuple(f"p{number}" for number in range(20)))


def test_all_are_counted_and_the_log_has_how_many_came_since() -> None:
    counters, log = Counters(), Log()
    unrouted = Unrouted(counters, log)
    for step in range(30):
        unrouted.note(1000.0 + step * UNROUTED_LOG_S / 10, "192.0.2.7", 443, HELLO)
    assert counters.rejected == 30
    assert [fields["count"] for _, fields in log.events] == [1, 10, 10]


def test_the_log_has_what_is_known_of_one() -> None:
    log = Log()
    for hello in (HELLO, NO_HELLO, ClientHello(Verdict.MALFORMED), None):
        Unrouted(Counters(), log).note(0.0, "192.0.2.7", 0, hello)
    first, *others = [fields for _, fields in log.events]
    assert (first["client"], first["sni"], len(first["alpn"])) == ("192.0.2.7", "a.example.com", 8)
    assert (first["port"], first["reason"]) == (None, "no route matches it")
    assert [fields["reason"].partition(" ")[0] for fields in others] == ["it", "its", "no"]
