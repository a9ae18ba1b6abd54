"""A node that never forwards by the kernel has nothing of it."""

import subprocess
import sys
from unittest.mock import Mock

import pytest
import trio

from tests.dataplane.conftest import Lab, l4
from tierlb.dataplane.l4.kernel.seat import KernelSeat
from tierlb.dataplane.plane import Refused
from tierlb.model.topology import Forwarding
from tierlb.net import netfilter

IMPORTS = """
import sys
import tierlb.cli.node, tierlb.dataplane.plane
print(sorted(name for name in sys.modules if name.startswith("tierlb.dataplane.l4.kernel.f")))
"""


async def test_without_the_key_it_is_idle_and_complete(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, forward=Forwarding.RELAY))
    seat = lab.front.kernel
    assert (seat.is_idle, seat.lacks, seat.cut_from(lab.host(endpoint))) == (True, (), 0)
    seat.look()
    seat.cut()
    seat.listen(())


@pytest.mark.parametrize(
    ("forward", "lacks", "way"),
    [
        (Forwarding.NFTABLES, (), "nftables"),
        (Forwarding.NFTABLES, ("net.ipv4.ip_forward is 0",), "relay"),
        (Forwarding.RELAY, (), "relay"),
    ],
)
async def test_the_way_to_a_host_is_by_the_kernel_unless_something_is_lacking(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, forward: Forwarding, lacks: tuple[str, ...], way: str
) -> None:
    endpoint = await lab.endpoint()
    monkeypatch.setattr(KernelSeat, "_taken", lambda seat: Mock(lacks=lacks, is_idle=True))
    monkeypatch.setattr(KernelSeat, "lacks", lacks)
    monkeypatch.setattr(netfilter, "why_not", lambda: "")
    await lab.serves(l4(endpoint, forward=forward))
    assert [host.way for host in lab.plane.load().hosts] == [way]


def test_what_is_not_needed_is_not_imported() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


async def test_where_it_is_not_possible_the_snapshot_is_refused_with_a_way_out(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await lab.endpoint()
    at = await lab.serves(l4(endpoint))
    monkeypatch.setattr(netfilter, "why_not", lambda: "it lacks the capability CAP_NET_ADMIN: run it as root")
    with pytest.raises(Refused, match=r"CAP_NET_ADMIN: run it as root\..*'forward: relay'"):
        lab.plane.apply(l4(endpoint, revision=2, forward=Forwarding.NFTABLES))
    with trio.fail_after(30):
        await (await lab.connects(at)).says(b"hello")
        await (await endpoint.accepts()).hears(b"hello")
