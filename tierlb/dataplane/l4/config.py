"""What an l4 front goes by for the next connection: compiled from a snapshot, and swapped as a whole."""

from typing import Final

from tierlb.balance.hashing import stable_hash
from tierlb.dataplane.l4.routes import ConnectionRoutes
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Admin, Policy


class L4Config:
    """`routes` lead to the host set, `balance` chooses the host in it. `hashes`: the policy goes by clients. `head_s`,
    `connect_s` and `idle_s` are timeouts, `drain_s` is the drain time. `draining`: the snapshot has this node drain.
    `responses`: how many datagrams answer one, 0: not known."""

    __slots__ = ("balance", "connect_s", "drain_s", "draining", "hashes", "head_s", "idle_s", "responses", "routes")

    def __init__(self, snapshot: Snapshot, routes: ConnectionRoutes) -> None:
        self.routes: Final = routes
        self.balance: Final = snapshot.balance
        self.hashes: Final = snapshot.balance is Policy.MAGLEV
        self.head_s: Final = snapshot.timeouts.head
        self.connect_s: Final = snapshot.timeouts.connect
        self.idle_s: Final = snapshot.timeouts.idle
        self.drain_s: Final = snapshot.drain_s
        self.draining: Final = snapshot.admin is not Admin.READY
        self.responses: Final = snapshot.responses or 0

    def key_of(self, address: str) -> int:
        """What consistent hashing goes by; other policies ignore it."""
        return stable_hash(address.encode()) if self.hashes else 0
