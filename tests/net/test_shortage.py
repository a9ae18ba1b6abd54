"""What is this machine's own lack, and how it is counted and told."""

import errno
from typing import Any

import pytest

from tierlb.model.address import Address
from tierlb.net.shortage import BURST_S, RESOURCES, Shortages, has_route, is_own

HERE = Address("10.0.0.9", 80)


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.shortages = Shortages(lambda event, **context: self.events.append((event, context)))


@pytest.mark.parametrize(
    ("code", "own"),
    [
        (errno.EMFILE, True),
        (errno.ENFILE, True),
        (errno.ENOBUFS, True),
        (errno.ENOMEM, True),
        (errno.EADDRNOTAVAIL, True),
        (errno.EAGAIN, True),
        (errno.ENOSPC, True),
        (errno.ECONNREFUSED, False),
        (errno.ETIMEDOUT, False),
        (errno.EHOSTUNREACH, False),
        (errno.ENETUNREACH, False),
        (errno.ECONNRESET, False),
    ],
)
def test_a_lack_of_this_machine_is_told_apart_from_a_fault_of_a_host(code: int, own: bool) -> None:
    assert is_own(code) is own


def test_a_burst_is_logged_at_its_beginning_and_at_its_end() -> None:
    told = Told()
    for step in range(1000):
        told.shortages.note(errno.EADDRNOTAVAIL, step * 0.001, HERE)
    told.shortages.tick(1.0)
    assert [event for event, _ in told.events] == ["resource_exhausted"]
    assert told.events[0][1]["resource"] == "local ports"
    assert told.events[0][1]["towards"] == "10.0.0.9:80"
    assert "ip_local_port_range" in told.events[0][1]["advice"]
    told.shortages.tick(0.999 + BURST_S)
    assert told.events[1:] == [("resource_recovered", {"resource": "local ports", "failed": 1000, "lasted_s": 0.999})]
    told.shortages.tick(100.0)
    assert len(told.events) == 2


def test_another_resource_is_a_burst_of_its_own() -> None:
    told = Told()
    told.shortages.note(errno.EMFILE, 0.0, HERE)
    told.shortages.note(errno.EADDRNOTAVAIL, 0.0, HERE)
    assert [context["resource"] for _, context in told.events] == ["descriptors of this process", "local ports"]


def test_the_count_stays_and_what_is_lacking_passes() -> None:
    shortages = Shortages()
    assert shortages.current() == ()
    shortages.note(errno.EMFILE, 0.0, HERE)
    assert shortages.current() == (
        "out of descriptors of this process: raise the hard limit of open files (ulimit -Hn)",
    )
    shortages.tick(BURST_S)
    assert (shortages.current(), shortages.count) == ((), 1)


def test_every_resource_says_what_an_operator_can_do() -> None:
    assert all(resource.name and resource.advice for resource in RESOURCES.values())


def test_loopback_can_be_reached_and_a_documentation_address_without_a_route_is_no_error() -> None:
    assert has_route(Address("127.0.0.1", 9))
    assert has_route(Address("2001:db8::1", 9)) in (True, False)


def test_an_address_of_a_family_that_is_off_has_no_route(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    real = socket.socket.connect_ex
    monkeypatch.setattr(
        socket.socket,
        "connect_ex",
        lambda self, at: errno.EADDRNOTAVAIL if self.family == socket.AF_INET6 else real(self, at),
    )
    assert not has_route(Address("::1", 9))
    assert has_route(Address("127.0.0.1", 9))
