"""Where somebody else starts the processes of a cluster: compose, Kubernetes, a service manager on each of several
machines. Who will come nobody knows then; what the controller has to know of it is here.

Left out: asking an engine for anything (deploy/), which whoever makes a change does.
"""

import attrs

from tierlb.model.topology import Pool, Topology


@attrs.frozen
class ProcessEngine:
    """`endpoints`: the HOST:PORT by which nodes find the endpoints of a pool with `run`, in which {pool} is its name
    ("": nobody starts them)."""

    endpoints: str = ""

    def deployed(self, topology: Topology) -> Topology:
        """The topology as the nodes see it: endpoints that are started somewhere are found by name."""
        pools = {name: self._deployed(pool) for name, pool in topology.pools.items()}
        return attrs.evolve(topology, pools=pools)

    def lack(self, topology: Topology) -> str:
        """Why it cannot be, if it cannot."""
        for pool in topology.pools.values():
            if pool.run is not None and not self.endpoints:
                return (
                    f"pools.{pool.name}.run: nothing is started from here: list endpoints, give a dns name, or say "
                    "with --run-dns under which name the endpoints of such pools are found"
                )
        return ""

    def _deployed(self, pool: Pool) -> Pool:
        if pool.run is None:
            return pool
        return attrs.evolve(pool, run=None, dns=self.endpoints.replace("{pool}", pool.name))
