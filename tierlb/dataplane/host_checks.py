"""What a node finds out about its hosts beside its traffic: health checks, and the replies of their agents."""

import random
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any

import attrs
import trio

from tierlb.dataplane.upstream.agent_check import AgentChecks
from tierlb.dataplane.upstream.health import HealthChecks
from tierlb.dataplane.upstream.host import Host
from tierlb.model.address import Address
from tierlb.model.load import HostLoad
from tierlb.model.snapshot import PoolSettings, Snapshot
from tierlb.model.topology import Admin
from tierlb.wire.agent_check import AgentReply


class HostChecks:
    """`apply` with each snapshot; `run` for as long as the node serves."""

    def __init__(self, name: str, rng: random.Random, log: Any, on_crash: Callable[[Exception], object]) -> None:
        self._log = log
        self._health: HealthChecks[Host] = HealthChecks(self._checked, rng, log, tls_of=lambda host: host.speaks)
        self.agents = AgentChecks(self._agent_replied, rng, agent_send=name.encode() + b"\n", on_crash=on_crash)
        self._unknown_words: dict[str, str] = {}

    def apply(self, hosts: Collection[Host], snapshot: Snapshot) -> None:
        """Check the hosts by the settings of this snapshot."""
        pools = {pool.name: pool for pool in snapshot.pools}
        asked = [(host, pool) for host in hosts if (pool := _settings(host, pools)) is not None]
        checks = [(host, host.spec.address, pool.health) for host, pool in asked if pool.health is not None]
        self._health.replace(checks)
        checked = {host for host, _, _ in checks}
        for host in hosts:
            if host not in checked:
                host.checked(None)
            pool = pools.get(host.spec.target)
            if pool is None or pool.agent_check_port is None:
                host.agent_gone()
        self._unknown_words = {}
        self.agents.replace(
            {
                host: Address(host.spec.address.host, pool.agent_check_port)
                for host, pool in asked
                if pool.agent_check_port is not None
            }
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._health.run)
            nursery.start_soon(self.agents.run)

    def with_problems(self, hosts: Iterable[HostLoad]) -> tuple[HostLoad, ...]:
        """The same rows with what the last check found wrong."""
        problems = {host.name: reason for host, reason in self._health.unhealthy().items()}
        if not problems:
            return tuple(hosts)
        return tuple(attrs.evolve(host, problem=problems.get(host.name, "")) for host in hosts)

    def _checked(self, host: Host, healthy: bool, reason: str) -> None:
        if healthy:
            self._log.info("health_checks_passed", host=host.name, reason=reason)
        else:
            self._log.warning("health_checks_failed", host=host.name, reason=reason)
        host.checked(healthy)

    def _agent_replied(self, host: Hashable, reply: AgentReply) -> None:
        assert isinstance(host, Host)
        if reply.problem and reply.problem != self._unknown_words.get(host.name):
            self._log.warning("agent_check_word_unknown", host=host.name, word=reply.problem)
        self._unknown_words[host.name] = reply.problem
        host.agent_replied(reply)


def _settings(host: Host, pools: dict[str, PoolSettings]) -> PoolSettings | None:
    """How to check a host. One in maintenance is not checked."""
    return None if host.spec.admin is Admin.MAINTENANCE else pools.get(host.spec.target)
