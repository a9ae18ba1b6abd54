"""TLS between tiers on the data path, where the cluster has `security.tls`: what a node shows and demands.

At its inner port a node demands that a parent proves itself, before it reads the PROXY header. To nodes below it shows
its own certificate, and demands that theirs is for their tier. Connections that are handed over on one machine come
over a unix socket that only processes of the cluster's user reach, and need none of this.
"""

import ssl
from collections.abc import Iterable, Mapping
from typing import Final

from tierlb.model.load import CertificateExpiry
from tierlb.model.snapshot import Send, Snapshot
from tierlb.model.tls import PoolTls
from tierlb.net.client_tls import ClientTls
from tierlb.net.cluster_tls import ClusterTls, parent_refusal
from tierlb.net.file_stamp import LOOK_EVERY_S
from tierlb.net.tls import TlsProblem
from tierlb.net.tls_layer import TlsLayer
from tierlb.net.wheel import NEVER

PARENT_LINGER_S: Final = 30.0
"""A tier that was a parent may still connect for so long, as it may not have its next snapshot yet."""


PLAIN_PARENT: Final = (
    "it speaks no TLS, as security.tls demands between tiers: give its node the cluster's certificate, and restart it"
)


class InnerTls:
    """What nodes above are shown at the inner port, and have to show. `parents`: the tiers above; `left`: those that
    were, and until when they may connect."""

    def __init__(self, cluster: ClusterTls, parents: tuple[str, ...], left: Mapping[str, float]) -> None:
        self._cluster = cluster
        self.parents = parents
        self.left = left

    @property
    def context(self) -> ssl.SSLContext:
        """For the next connection."""
        return self._cluster.now.data_server

    def refusal(self, layer: TlsLayer, now: float) -> str:
        """Why the peer is no parent; empty if it is one."""
        still = (name for name, until in self.left.items() if now < until)
        return parent_refusal(layer.peer_fields, (*self.parents, *still))


class TierTls:
    """`to_tiers`: what nodes of the tiers below speak. `inner`: what comes at the inner port, whether a tier is
    above or not; None where `cluster` is."""

    def __init__(self, cluster: ClusterTls | None) -> None:
        self.cluster = cluster
        self.to_tiers: dict[str, ClientTls] = {}
        self.inner: InnerTls | None = None
        self._left: dict[str, float] = {}
        self._parents: tuple[str, ...] = ()
        self._look_at = 0.0

    def check(self, snapshot: Snapshot) -> None:
        """Whether the certificate will do for this snapshot. Raises TlsProblem."""
        if self.cluster is None or not (snapshot.parent_tiers or list(_tiers_below(snapshot))):
            return
        if lack := self.cluster.lack_for(snapshot.tier):
            raise TlsProblem(lack)

    def use(self, snapshot: Snapshot, now: float) -> None:
        """Demand and show what this snapshot asks for."""
        cluster = self.cluster
        if cluster is None:
            return
        context = cluster.now.data_client
        self.to_tiers = {
            name: self.to_tiers.get(name) or ClientTls(PoolTls(server_name=name), context=context)
            for name in _tiers_below(snapshot)
        }
        self._left = {name: until for name, until in self._left.items() if now < until}
        for name in self._parents:
            if name not in snapshot.parent_tiers:
                self._left[name] = now + PARENT_LINGER_S
        self._parents = snapshot.parent_tiers
        for name in self._parents:
            self._left.pop(name, None)
        self.inner = InnerTls(cluster, self._parents, dict(self._left))

    def expiries(self) -> tuple[CertificateExpiry, ...]:
        """Of the certificate that the process shows to others of the cluster, on control connections as well."""
        return () if self.cluster is None else self.cluster.expiries()

    def tick(self, now: float) -> float:
        """Look at the files of the certificate, if that is due. Returns when it is due next."""
        cluster = self.cluster
        if cluster is None:
            return NEVER
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            if cluster.look():
                for each in self.to_tiers.values():
                    each.take(cluster.now.data_client)
        return self._look_at


def _tiers_below(snapshot: Snapshot) -> Iterable[str]:
    """The tiers that the node sends to, of which a node is there."""
    sends = (rule.action for rule in snapshot.rules if isinstance(rule.action, Send))
    hosts = (host for send in sends for destination in send.destinations for host in destination.hosts)
    return dict.fromkeys(host.target for host in hosts if host.child)
