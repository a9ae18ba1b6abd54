"""A node below another one at l4: the parent's PROXY header is read before the connection is placed."""

from typing import Final

from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context, Unplaced
from tierlb.dataplane.l4.securing import receive
from tierlb.dataplane.parent_identity import processes_of
from tierlb.net.asked import recv_peek, wake_at
from tierlb.net.io import recv
from tierlb.wire.announcement import origin_in
from tierlb.wire.proxy_protocol import (
    EXPLAINED,
    MAX_HEADER_BYTES,
    SSL_TLV,
    BadProxyHeader,
    ProxyHeader,
    may_be_v2,
    parse_v2,
)
from tierlb.wire.told_tls import passed_on

HEADER_S = 5.0
"""How long a parent may take to send the header, which it does with the first packet."""
SILENT_CLIENT_S: Final = 0.2
"""Where clients come too, one that has sent nothing for so long is no parent: it waits for its host to speak first."""


class Introduction(Unplaced):
    """Waits for the PROXY header of one connection. It peeks: what follows the header stays in the socket. `direct`: it
    may be a client's, which has no header."""

    __slots__ = ("direct", "seen_bytes")

    direct: bool
    seen_bytes: int

    @classmethod
    def begin(cls, context: L4Context, fd: int, caller: Caller, *, direct: bool = False) -> None:
        """Wait for it."""
        try:
            introduction = cls(context.reactor, fd)
            introduction.context, introduction.caller, introduction.seen_bytes = context, caller, 0
            introduction.direct = direct
            introduction.watch()
            introduction.arm(SILENT_CLIENT_S if direct else HEADER_S)
            context.connections.pending.add(introduction)
        except Exception:
            context.drop(fd, caller)
            raise

    def on_ready(self, mask: int) -> None:
        self._ready_for(mask)

    def _read(self) -> None:
        try:
            seen = recv_peek(self.fd, MAX_HEADER_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.on_broken(error)
            return
        if self.direct and seen and not may_be_v2(seen):
            self._is_client()
            return
        try:
            header = parse_v2(seen)
        except BadProxyHeader as bad:
            self._refuse(bad.reason)
            return
        if header is not None:
            self._introduced(header)
        elif self.direct and not seen:
            self.abandon()
        elif len(seen) == self.seen_bytes:
            self._refuse("the connection ended before its PROXY header")
        else:
            if not self.seen_bytes:
                self.arm(HEADER_S)
            self.seen_bytes = len(seen)
            self._wake_at(self.seen_bytes + 1)

    def _introduced(self, header: ProxyHeader) -> None:
        context, caller = self.context, self.caller
        if not introduced(context, caller, header):
            self._refuse("it does not know the key of this cluster")
            return
        recv(self.fd, header.length)
        self._wake_at(1)
        context.connections.pending.discard(self)
        receive(context, self.detach(), caller, context.tls)

    def _is_client(self) -> None:
        """A parent forwarded it in the kernel; which one is not known."""
        context, caller = self.context, self.caller
        self._wake_at(1)
        caller.tally = context.counters.tallies.forwarded
        context.connections.pending.discard(self)
        receive(context, self.detach(), caller, context.tls)

    def _wake_at(self, count: int) -> None:
        """Bytes that were only peeked at keep the socket readable: ask to be woken for more than these, or the end."""
        wake_at(self.fd, count)

    def _refuse(self, reason: str) -> None:
        self.context.counters.rejected += 1
        self.context.log.warning("connection_refused", reason=f"no PROXY header where a parent sends one: {reason}")
        self.abandon()

    def on_deadline(self) -> None:
        if self.direct and not self.seen_bytes:
            self._is_client()
        else:
            self.abandon()


def introduced(context: L4Context, caller: Caller, header: ProxyHeader) -> bool:
    """Note what a parent's header tells of the caller. False if it is no parent's."""
    parent = context.identity.parent(header)
    if parent is None:
        return False
    caller.source = header.source or caller.source
    caller.destination = header.destination
    caller.origin = origin_in(caller.source, header.tlvs)
    caller.tally = context.counters.tallies.of(parent)
    caller.began = context.reactor.now
    caller.secured = SSL_TLV in header.tlvs
    caller.told = passed_on(header.tlvs) if caller.secured else b""
    if header.tlvs.get(EXPLAINED):
        caller.explained = header.tlvs[EXPLAINED] + b"\n"
    caller.processes = "\n".join(processes_of(parent, header)).encode("latin-1")
    return True
