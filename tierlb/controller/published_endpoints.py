"""The endpoints that are started on this machine, as the controller publishes them: only those that accept connections
get traffic."""

from collections.abc import Container

import attrs

from tierlb.controller.signals import Signals
from tierlb.controller.status import EndpointStatus, State
from tierlb.model.address import Address


@attrs.define
class PublishedEndpoints:
    """Every change is signalled, because nodes below which endpoints come and go get new snapshots."""

    _signals: Signals
    _pools: dict[str, dict[Address, EndpointStatus]] = attrs.field(factory=dict, init=False)

    def note(self, pool: str, endpoint: EndpointStatus) -> None:
        """An endpoint starts, serves or is gone."""
        self._pools.setdefault(pool, {})[endpoint.address] = endpoint
        self._signals.changed()

    def forget(self, pool: str, address: Address) -> None:
        """The endpoint is not to get traffic any more."""
        if self._pools.get(pool, {}).pop(address, None) is not None:
            self._signals.changed()

    def of(self, pool: str) -> tuple[EndpointStatus, ...]:
        """All of one pool."""
        return tuple(self._pools.get(pool, {}).values())

    def serving(self) -> dict[str, tuple[Address, ...]]:
        """By pool, where connections are accepted."""
        return {
            name: tuple(each.address for each in pool.values() if each.state is State.SERVING)
            for name, pool in self._pools.items()
        }

    def accepting(self) -> dict[str, list[bool]]:
        """By pool, for each endpoint whether it accepts connections."""
        return {name: [each.state is State.SERVING for each in pool.values()] for name, pool in self._pools.items()}

    def unready(self, pools: Container[str] | None = None) -> tuple[str, ...]:
        """Endpoints (of these pools) that do not accept connections, each a phrase for a person."""
        return tuple(
            f"pool {name}: {endpoint.address} does not accept connections yet"
            for name, pool in self._pools.items()
            for endpoint in pool.values()
            if endpoint.state is not State.SERVING and (pools is None or name in pools)
        )
