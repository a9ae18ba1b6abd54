"""What an l4 front goes by for the next connection: compiled from a snapshot, and swapped as a whole."""

from typing import Final

from tierlb.balance.hashing import stable_hash
from tierlb.dataplane.upstream.split import Split
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Admin, Policy


class L4Config:
    """`split` chooses the host set, `balance` the host in it. `connect_s` and `idle_s` are timeouts. `draining`: the
    snapshot has this node drain."""

    __slots__ = ("balance", "connect_s", "draining", "idle_s", "split")

    def __init__(self, snapshot: Snapshot, split: Split) -> None:
        self.split: Final = split
        self.balance: Final = snapshot.balance
        self.connect_s: Final = snapshot.timeouts.connect
        self.idle_s: Final = snapshot.timeouts.idle
        self.draining: Final = snapshot.admin is not Admin.READY

    def key_of(self, address: str) -> int:
        """What consistent hashing goes by; other policies ignore it."""
        return stable_hash(address.encode()) if self.balance is Policy.MAGLEV else 0
