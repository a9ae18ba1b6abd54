"""An l4 node's data plane in a namespace of its own; commands are lines of JSON.

    python -m tests.dataplane.l4.kernel.edge CLUSTER NODE        drains and ends with its input

serve: with these hosts (name → address or options), listening addresses and further fields of the snapshot.
rest: nothing is looked at regularly from now on. checked: the result of a health check. state: what it reports, and
what it logged. Anything is answered when it was done.
"""

import json
import sys
from typing import Any

import attrs
import trio

from tests.dataplane.conftest import Log
from tierlb.dataplane.l4.kernel import forwarding
from tierlb.dataplane.plane import Plane, Refused
from tierlb.model.address import Transport, parse_address
from tierlb.model.snapshot import Destination, HostSpec, Listener, Rule, Send, Snapshot
from tierlb.model.topology import Admin, Forwarding, Kind, Match, Policy


def host_of(name: str, told: Any) -> HostSpec:
    options = told if isinstance(told, dict) else {"address": told}
    options["admin"] = Admin(options.get("admin", "ready"))
    return HostSpec(name, "app", **{**options, "address": parse_address(options["address"])})


def snapshot_of(
    cluster: str,
    hosts: dict[str, Any],
    listen: list[str],
    policy: str,
    forward: str = "nftables",
    drain_s: float = 30,
    protocol: str = "tcp",
) -> Snapshot:
    transport = Transport(protocol)
    specs = tuple(host_of(name, told) for name, told in hosts.items())
    return Snapshot(
        1,
        cluster,
        "edge",
        Kind.L4,
        tuple(Listener(parse_address(each), shared=True, protocol=transport) for each in listen),
        (Rule(Match(), Send((Destination(1, ("app",), specs),))),),
        balance=Policy(policy),
        forward=Forwarding(forward),
        drain_s=drain_s,
        protocol=transport,
    )


class Edge:
    def __init__(self, cluster: str, node: str) -> None:
        self.cluster = cluster
        self.log = Log()
        self.plane = Plane(node, self.log, seed=1)

    def serve(self, **told: Any) -> str:
        try:
            self.plane.apply(snapshot_of(self.cluster, **told))
        except Refused as refusal:
            return str(refusal)
        return ""

    def rest(self) -> str:
        """Look at nothing but hosts from now on: neither counters nor shares, and connections once more."""
        forwarding.REFRESH_S = forwarding.LONGEST_PAUSE_S = 3600.0
        return ""

    def checked(self, name: str, healthy: bool) -> str:
        """What a health check finds."""
        (host,) = self.plane.serving.front.registry.named(name)
        host.checked(healthy)
        return ""

    def state(self) -> dict[str, Any]:
        load = self.plane.load()
        return {
            "open": load.connections,
            "arrivals": load.items,
            "hosts": {each.name: attrs.asdict(each) for each in load.hosts},
            "shortages": load.shortages,
            "errors": load.internal_errors,
            "events": [[name, {key: str(value) for key, value in fields.items()}] for name, fields in self.log.events],
        }


async def main(cluster: str, node: str) -> None:
    edge = Edge(cluster, node)
    async with trio.open_nursery() as nursery:
        await nursery.start(edge.plane.run)
        print('"ready"', flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            told = json.loads(line)
            print(json.dumps(getattr(edge, told.pop("do"))(**told)), flush=True)
        edge.plane.drain()


trio.run(main, *sys.argv[1:])
