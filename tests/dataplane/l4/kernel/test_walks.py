"""A walk over 20,000 connections in a namespace of its own: what it finds, and what it costs."""

import json
import sys

from tests.network import Network, require

COUNT = 20_000
LEAST_CONNTRACK_MAX = 2 * COUNT
WORK = f"""
import json, socket, struct, time
import trio
from tests.wire.test_conntrack import entry
from tierlb.dataplane.l4.kernel.walks import Walks
from tierlb.model.address import Address
from tierlb.net import netfilter
from tierlb.net.netfilter import open_netlink
from tierlb.wire.netlink import HEADER, attribute

def fill(count):
    with open_netlink() as sock:
        sock.setblocking(True)
        for number in range(count):
            source = f"10.{{20 + (number >> 16)}}.{{number >> 8 & 255}}.{{number & 255}}"
            made = entry(source, 1024 + number % 60000, f"10.77.1.{{2 + number % 2}}", label=7 + number % 2)
            body = made[HEADER.size:] + attribute(7, struct.pack(">I", 3600))
            sock.send(HEADER.pack(HEADER.size + len(body), 1 << 8, 0x1 | 0x4 | 0x400 | 0x200, 0, 0) + body)
            answer = sock.recv(4096)
            assert struct.unpack_from("=i", answer, 16)[0] == 0, answer

async def main():
    fill({COUNT})
    walks = Walks(7, "tcp", [Address("0.0.0.0", 443), Address("::", 443), Address("0.0.0.0", 444)])
    cpu, began = time.process_time(), trio.current_time()
    flows, opening = await walks.count()
    cpu, took = time.process_time() - cpu, trio.current_time() - began
    netfilter.REST_S = 0.0
    await walks.end(lambda flow: flow.host.host == "10.77.1.2")
    left, _ = await walks.count()
    other, _ = await Walks(8, "tcp", [Address("0.0.0.0", 443)]).count()
    print(json.dumps({{
        "flows": sorted([flow.host.host, count] for flow, count in flows.items()), "opening": len(opening),
        "left": sum(left.values()), "other": sum(other.values()), "cpu": cpu, "took": took,
    }}))
trio.run(main)
"""


def test_many_connections_are_counted_in_small_portions() -> None:
    require()
    with Network(1).up() as net:
        net.runs("edge", "nft", "add table inet t; add chain inet t c; add rule inet t c ct label set 1 ct state new")
        if int(net.runs("edge", "sysctl", "-n", "net.netfilter.nf_conntrack_max")) < LEAST_CONNTRACK_MAX:
            net.sets(f"net.netfilter.nf_conntrack_max={LEAST_CONNTRACK_MAX}")
        told = json.loads(net.runs("edge", sys.executable, "-c", WORK))
    assert told["flows"] == [["10.77.1.2", COUNT // 2]]
    assert told["opening"] == 0
    assert told["left"] == 0
    assert told["other"] == COUNT // 2, "those of another process stay"
    assert told["cpu"] < 0.2 * told["took"], "most of the time is left to others"
