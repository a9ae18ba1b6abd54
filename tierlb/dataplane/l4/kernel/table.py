"""This node's table in the kernel's nftables: taken as its own, replaced in one transaction, and removed at the end.

A name is held while the process lives (`net.claim`), so a table without a holder is stale: its process was killed. A
stale table of this node goes on forwarding until it is replaced, in the same transaction as the new one appears; those
of other nodes of the cluster are removed. Tables of others are never touched.

While one process of a node takes over from another both have a table, the second under a name with a number.
"""

import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tierlb.balance.hashing import stable_hash
from tierlb.net.claim import Claim, claim
from tierlb.net.netfilter import dump_netlink, run_nft
from tierlb.wire.conntrack import MOST_LABELS
from tierlb.wire.netlink import ask_counters, ask_tables, counters, table_names
from tierlb.wire.nft_ruleset import TABLE_PREFIX, Ruleset, change, cluster_prefix, removal, table_name

MOST_TABLES = 9
"""Of one node at a time."""

RunNft = Callable[[str], Awaitable[str]]


class KernelTable:
    """`ruleset` is what is in force, None while that is not known. `problem`: what nft complained about last, "" where
    it did not. `label` is set on connections that it forwards."""

    def __init__(self, cluster: str, node: str, log: Any, nft: RunNft = run_nft) -> None:
        self.name = ""
        self.ruleset: Ruleset | None = None
        self.problem = ""
        self.label = 0
        self._cluster = cluster
        self._node = node
        self._log = log
        self._nft = nft
        self._claims: list[Claim] = []

    async def open(self) -> None:
        """Take a name and a label, and remove what dead processes of the cluster left. A process that was killed had
        the same ones as its successor, which so inherits its connections."""
        own = table_name(self._cluster, self._node)
        self.name = self._take([own, *(f"{own}_{number}" for number in range(2, MOST_TABLES + 1))])
        first = stable_hash(self.name.encode()) % MOST_LABELS
        labels = [f"{TABLE_PREFIX}_label_{(first + step) % MOST_LABELS}" for step in range(MOST_LABELS)]
        self.label = int(self._take(labels).rpartition("_")[2])
        names: list[str] = []
        await dump_netlink(ask_tables(), lambda portion: names.extend(table_names(portion)))
        prefix = cluster_prefix(self._cluster)
        held = {each: claim(each) for each in names if each.startswith(prefix) and each != self.name}
        stale = {each: free for each, free in held.items() if free is not None}
        if stale:
            self.problem = await self._nft(removal(stale))
            self._log.info("stale_tables_removed", tables=sorted(stale), problem=self.problem)
        for free in stale.values():
            free.close()

    def _take(self, names: Sequence[str]) -> str:
        """The first that is free."""
        for name in names:
            taken = claim(name)
            if taken is not None:
                self._claims.append(taken)
                return name
        raise OSError(errno.EBUSY, f"all names from {names[0]} on are taken by other processes of this machine")

    async def set(self, ruleset: Ruleset) -> bool:
        """Have this in force; whether it is. Where the change is refused, as after others changed the table, all of it
        is written anew."""
        if ruleset == self.ruleset:
            return True
        problem = await self._nft(change(self.ruleset, ruleset))
        if problem and self.ruleset is not None:
            self.ruleset = None
            problem = await self._nft(change(None, ruleset))
        if problem and problem != self.problem:
            self._log.error("nftables_refused", table=self.name, reason=problem)
        self.problem = problem
        self.ruleset = None if problem else ruleset
        return not problem

    async def packets(self) -> dict[str, int] | None:
        """What the counters show, by chain; None if that could not be read now. A table that others have removed, such
        as by `nft flush ruleset`, is noticed here, and all of it is written with the next `set`."""
        found: dict[str, int] = {}
        dumped = await dump_netlink(ask_counters(self.name), lambda portion: found.update(counters(portion)))
        if dumped.code:
            return None
        if self.ruleset is not None and not found.keys() >= {host.chain for host in self.ruleset.hosts}:
            self._log.warning("nftables_lost", table=self.name, action="written anew")
            self.ruleset = None
        return found

    async def close(self) -> None:
        """Remove it."""
        if not self._claims:
            return
        problem = await self._nft(removal([self.name]))
        if problem:
            self._log.error("nftables_not_removed", table=self.name, reason=problem)
        self.ruleset = None
        for each in self._claims:
            each.close()
        self._claims = []
