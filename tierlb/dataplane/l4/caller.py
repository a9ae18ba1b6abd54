"""A client's connection at an l4 node, and what is known of it, from its arrival until a host has it."""

from collections.abc import Mapping
from typing import Final

from tierlb.dataplane.handoff.taker import Handed, Introduced
from tierlb.net.layer import Layer
from tierlb.net.stream import Stream
from tierlb.telemetry.tally import Tally
from tierlb.wire.announcement import Origin, origin_in
from tierlb.wire.client_hello import ClientHello
from tierlb.wire.proxy_protocol import (
    EXPLAINED,
    SSL_TLV,
    VIA,
    destination_tlv,
    encode_tlv,
    read_destination,
    ssl_value,
)
from tierlb.wire.told_tls import passed_on

MOST_EXPLAINED_BYTES: Final = 3500
"""Of the explanation, so that it fits into a PROXY header with everything else."""


class Caller:
    """`source` is the client's address, `destination` the one that it connected to, where a parent named that, and
    `hello` its ClientHello, once a route has looked at it. `origin`: what a balancer above the cluster told of it.
    `tally` counts what comes from the same parent. `explained`: how l4 nodes above and here chose for it, a line each,
    while explanations are asked for. `processes`: those above that it passed, a line each. `handed`: a parent handed it
    over. `full`: the host that had no room for it. `had_last_try`: that host, or one before, was to answer the client
    all the same and did not. It is `settled` once a host has it or it is dropped, and `counted` as an item from the
    first time that it was settled. `secured`: the client speaks TLS with this node or one above. `told`: what nodes
    below are told of that, encoded. With this one through `layer`, which left bytes `unsent`; or a node above does, and
    `ahead` is what came through it already."""

    __slots__ = (
        "ahead",
        "began",
        "counted",
        "destination",
        "explained",
        "full",
        "had_last_try",
        "handed",
        "hello",
        "layer",
        "origin",
        "processes",
        "secured",
        "settled",
        "source",
        "tally",
        "told",
        "unsent",
    )

    def __init__(self, source: tuple[str, int], tally: Tally, began: float, origin: Origin | None = None) -> None:
        self.source = source
        self.tally = tally
        self.began = began
        self.explained = b""
        self.processes = b""
        self.origin = origin
        self.handed: Handed | None = None
        self.full: object = None
        self.had_last_try = False
        self.destination: tuple[str, int] | None = None
        self.hello: ClientHello | None = None
        self.settled = False
        self.counted = False
        self.secured = False
        self.layer: Layer | None = None
        self.unsent = self.ahead = self.told = b""

    @classmethod
    def introduced(cls, introduced: Introduced) -> "Caller":
        """One that a parent hands over."""
        caller = cls(introduced.source, introduced.handed.tally, introduced.arrived)
        caller.handed = introduced.handed
        caller.destination = introduced.destination
        caller.processes = "\n".join(introduced.processes).encode("latin-1")
        caller.secured, caller.told = introduced.secured, introduced.told
        if introduced.explained:
            caller.explained = b"\n".join(introduced.explained) + b"\n"
        caller.origin = introduced.origin
        return caller

    @classmethod
    def back(cls, source: tuple[str, int], tally: Tally, began: float, tlvs: Mapping[int, bytes]) -> "Caller":
        """One that a child did not take, from what that child was told of it (`tlvs`)."""
        caller = cls(source, tally, began)
        caller.counted = True
        caller.processes = tlvs.get(VIA, b"")
        caller.destination = read_destination(tlvs)
        caller.secured = SSL_TLV in tlvs
        caller.told = passed_on(tlvs) if caller.secured else b""
        if EXPLAINED in tlvs:
            caller.explained = tlvs[EXPLAINED] + b"\n"
        caller.origin = origin_in(source, tlvs)
        return caller

    @property
    def stays(self) -> bool:
        """Whether its socket is not to be given on: it ends with a parent in another network (`handoff.lent`), or the
        client or a node above speaks TLS with this node."""
        return self.layer is not None or (self.handed is not None and self.handed.taker.lent is not None)

    def keep_layer(self, stream: Stream) -> None:
        """The stream ends, and what it speaks through is the caller's until the next one."""
        self.unsent, self.layer, stream.layer = stream.take_unsent(), stream.layer, None

    def give_layer(self, stream: Stream) -> None:
        """The stream, which is watched, goes on with what the one before spoke through. `Layer.moved` is to follow."""
        layer, unsent, self.layer, self.unsent = self.layer, self.unsent, None, b""
        if unsent:
            stream.send(unsent)
        if layer is not None:
            layer.move_to(stream)
            stream.layer = layer

    def settle(self) -> None:
        """A host has it."""
        self.settled = True
        if not self.counted:
            self.counted = True
            self.tally.begin()
            self.tally.open()

    def entry_tlvs(self) -> bytes:
        """The TLVs for a child that is handed the socket, where there is no header with the destination."""
        if self.destination is None:
            return self.tlvs()
        return self.tlvs() + destination_tlv(self.destination)

    def tlvs(self) -> bytes:
        """The TLVs for a child; as much of the explanation as a header holds."""
        known = encode_tlv(VIA, self.processes) if self.processes else b""
        if self.secured:
            known += encode_tlv(SSL_TLV, ssl_value()) + self.told
        if self.origin is not None:
            known += self.origin.tlvs()
        if not self.explained:
            return known
        room = max(0, MOST_EXPLAINED_BYTES - len(known))
        return known + encode_tlv(EXPLAINED, self.explained[:room].rpartition(b"\n")[0])
