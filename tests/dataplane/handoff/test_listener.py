"""Where parents find a node: as long as it has a port for them."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.dataplane.conftest import ANY_PORT, INNER, Lab, l7
from tests.dataplane.handing import FakeParent, no_packet_from
from tierlb.dataplane.handoff import listener
from tierlb.dataplane.handoff.listener import name_of
from tierlb.model.address import Address


def names_in(directory: Path | None) -> list[str]:
    assert directory is not None
    return sorted(os.listdir(directory))


def test_a_name_tells_processes_of_a_node_apart() -> None:
    assert name_of("web-1", Address("10.0.0.1", 7001)) == "web-1:7001"


async def test_a_node_is_found_as_long_as_it_has_parents(lab: Lab) -> None:
    await lab.serves(l7(listener=ANY_PORT))
    assert names_in(lab.meets_in) == []
    (at,) = lab.plane.apply(l7(listener=INNER, revision=2))
    assert names_in(lab.meets_in) == [f"node-1:{at.port}"]
    assert lab.plane.apply(l7(listener=INNER, revision=3)) == (at,)
    lab.at = at
    await FakeParent.of(lab).is_welcome()
    lab.plane.apply(l7(listener=ANY_PORT, revision=4))
    assert names_in(lab.meets_in) == []


async def test_a_node_that_ends_leaves_no_file_behind(lab: Lab) -> None:
    await lab.serves(l7(listener=INNER))
    assert len(names_in(lab.meets_in)) == 1
    lab.plane.drain()
    assert names_in(lab.meets_in) == []


async def test_where_it_cannot_listen_the_log_says_so_and_parents_relay(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.serves(l7(listener=ANY_PORT))

    def fails(*what: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lab.handoffs.place, "listen", fails)
    lab.plane.apply(l7(listener=INNER, revision=2))
    (fields,) = [fields for event, fields in lab.log.events if event == "handoff_unavailable"]
    assert "No space left" in fields["reason"]


async def test_a_process_of_another_user_is_not_let_in(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.serves(l7(listener=INNER))

    def foreign(sock: socket.socket) -> None:
        raise PermissionError(errno.EPERM, "the process at the other end is that of user 4711")

    monkeypatch.setattr(listener, "check_peer", foreign)
    parent = FakeParent.of(lab)
    assert (await parent.hears()).data == b""
    assert lab.log.count("handoff_refused") == 1


async def test_parents_beyond_the_limit_are_not_let_in(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.serves(l7(listener=INNER))
    monkeypatch.setattr(listener, "MOST_TAKERS", 1)
    first = await FakeParent.of(lab).is_welcome()
    assert (await FakeParent.of(lab).hears()).data == b""
    await no_packet_from(first.control)


async def test_without_descriptors_it_stands_back_and_lets_parents_in_later(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.serves(l7(listener=INNER))
    (entrance,) = lab.handoffs.open.values()
    tries: list[int] = []

    class Exhausted:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock

        def accept(self) -> tuple[socket.socket, Any]:
            tries.append(1)
            if len(tries) == 1:
                raise OSError(errno.EMFILE, "Too many open files")
            return self.sock.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

    monkeypatch.setattr(entrance, "sock", Exhausted(entrance.sock))
    await FakeParent.of(lab).is_welcome()
    assert len(tries) >= 2
