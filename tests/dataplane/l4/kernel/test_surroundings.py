"""What an operator should know of this machine."""

import pytest

from tests.dataplane.conftest import l4
from tierlb.dataplane.l4.kernel import surroundings
from tierlb.dataplane.l4.kernel.surroundings import Surroundings
from tierlb.model.address import Address
from tierlb.wire.nft_ruleset import Family

A, B = Address("0.0.0.0", 80), Address("0.0.0.0", 81)


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    monkeypatch.setattr(surroundings, "is_own_address", lambda host: host == "192.0.2.1")
    monkeypatch.setattr(surroundings, "forwarded_families", lambda: frozenset([Family.IPV6]))
    found = Surroundings()
    found.look()
    return found


def test_where_it_listened_is_remembered(around: Surroundings) -> None:
    around.listens = (A,)
    around.listens = (B,)
    assert (around.listens, around.listened) == ((B,), (A, B))


@pytest.mark.parametrize(
    ("hosts", "lacks"),
    [
        (["127.0.0.1", "::1", "192.0.2.1"], []),
        (["2001:db8::1"], []),
        (["2001:db8::1", "192.0.2.9"], ["net.ipv4.ip_forward is 0"]),
    ],
)
def test_hosts_on_other_machines_need_forwarding(around: Surroundings, hosts: list[str], lacks: list[str]) -> None:
    around.follow(l4(), hosts)
    assert [text.partition(",")[0] for text in around.lacks()] == lacks
    assert around.own == frozenset(hosts) & {"192.0.2.1"}


def test_what_nft_complains_about_is_said(around: Surroundings) -> None:
    around.problem = "Error: no such thing"
    (text,) = around.lacks()
    assert "Error: no such thing" in text
