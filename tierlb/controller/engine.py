"""The rules for an engine that starts the processes of the cluster: compose, Kubernetes, or a service manager on each
of several machines.

Left out: requests to an engine (deploy/), which the client that makes a change sends.
"""

import attrs

from tierlb.model.topology import Pool, Topology
from tierlb.topology.uses import NO_NUMBERS


@attrs.frozen
class ProcessEngine:
    """`endpoints`: the HOST:PORT by which nodes find the endpoints of a pool with `run`, in which {pool} is its name
    ("": they are not started)."""

    endpoints: str = ""

    def deployed(self, topology: Topology) -> Topology:
        """The topology as the nodes see it: endpoints that are started somewhere are found by name."""
        pools = {name: self._deployed(pool) for name, pool in topology.pools.items()}
        return attrs.evolve(topology, pools=pools)

    def lack(self, topology: Topology) -> str:
        """Why the topology cannot be served this way; "" if it can."""
        for tier in topology.tiers.values():
            if tier.cpus == ():
                return f"tiers.{tier.name}.cpus: {NO_NUMBERS}"
        for pool in topology.pools.values():
            if pool.run is not None and not self.endpoints:
                return (
                    f"pools.{pool.name}.run: nothing is started from here: list endpoints, give a dns name, or give "
                    "with --run-dns the name by which the endpoints of such pools are found"
                )
        return ""

    def _deployed(self, pool: Pool) -> Pool:
        if pool.run is None:
            return pool
        return attrs.evolve(pool, run=None, dns=self.endpoints.replace("{pool}", pool.name))
