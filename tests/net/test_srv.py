"""Which SRV records count, and where they lead. Asking for them is in test_lookup.py."""

import pytest
from dns.name import Name, from_text
from dns.rdata import from_text as rdata
from dns.rdataclass import IN
from dns.rdatatype import SRV as SRV_TYPE
from dns.rdtypes.IN.SRV import SRV

from tierlb.model.address import Address
from tierlb.model.snapshot import FoundEndpoint
from tierlb.net.srv import LEAST_WEIGHT, endpoints, offered


def record(text: str) -> SRV:
    """As zone files write it: priority, weight, port, host."""
    made = rdata(IN, SRV_TYPE, text)
    assert isinstance(made, SRV)
    return made


@pytest.mark.parametrize(
    ("records", "hosts"),
    [
        ([], []),
        (["1 0 80 a."], ["a."]),
        (["2 0 80 b.", "1 0 80 a.", "1 9 81 c.", "10 0 80 d."], ["a.", "c.", "b.", "d."]),
        (["0 0 80 ."], []),
        (["0 0 80 .", "1 0 80 a."], ["a."]),
    ],
)
def test_records_come_by_priority(records: list[str], hosts: list[str]) -> None:
    assert [each.target.to_text() for each in offered(map(record, records))] == hosts


def found(records: list[str], **hosts: tuple[str, ...]) -> tuple[FoundEndpoint, ...]:
    names: dict[Name, tuple[str, ...]] = {from_text(name): each for name, each in hosts.items()}
    return endpoints(map(record, records), names)


def test_each_address_of_a_host_has_the_port_and_weight_of_its_record() -> None:
    assert found(["1 5 81 b.", "1 3 80 a."], a=("10.0.0.2",), b=("10.0.0.3", "10.0.0.1")) == (
        FoundEndpoint(Address("10.0.0.1", 81), 5.0),
        FoundEndpoint(Address("10.0.0.2", 80), 3.0),
        FoundEndpoint(Address("10.0.0.3", 81), 5.0),
    )


def test_a_weight_of_nothing_is_the_least() -> None:
    (weightless, other) = found(["1 0 80 a.", "1 1 81 a."], a=("10.0.0.1",))
    assert 0 < weightless.weight == LEAST_WEIGHT < other.weight / 10


def test_what_several_records_name_weighs_as_much_as_all_of_them() -> None:
    records = ["1 5 80 a.", "1 3 80 alias.", "1 1 81 a."]
    assert found(records, a=("10.0.0.1",), alias=("10.0.0.1",)) == (
        FoundEndpoint(Address("10.0.0.1", 80), 8.0),
        FoundEndpoint(Address("10.0.0.1", 81), 1.0),
    )


def test_a_host_without_an_address_is_no_endpoint() -> None:
    assert found(["1 5 80 a.", "1 5 80 b."], a=(), b=("10.0.0.1",)) == (FoundEndpoint(Address("10.0.0.1", 80), 5.0),)


def test_priorities_are_levels_and_what_is_in_two_belongs_to_the_lower() -> None:
    records = ["20 5 80 b.", "10 3 80 a.", "30 1 80 c.", "30 7 80 a.", "20 2 80 b."]
    assert found(records, a=("10.0.0.1",), b=("10.0.0.2",), c=("10.0.0.3",)) == (
        FoundEndpoint(Address("10.0.0.1", 80), 3.0),
        FoundEndpoint(Address("10.0.0.2", 80), 7.0, 1),
        FoundEndpoint(Address("10.0.0.3", 80), 1.0, 2),
    )


def test_a_host_in_reserve_that_nobody_knows_is_left_out() -> None:
    assert found(["1 1 80 a.", "2 1 80 b."], a=("10.0.0.1",)) == (FoundEndpoint(Address("10.0.0.1", 80), 1.0),)
