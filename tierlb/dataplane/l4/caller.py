"""A client's connection at an l4 node, and what is known of it, from its arrival until it is relayed or dropped."""

from tierlb.telemetry.tally import Tally
from tierlb.wire.proxy_protocol import EXPLAINED, VIA, encode_tlv

MOST_EXPLAINED_BYTES = 3500
"""Of the explanation, so that it fits into a PROXY header with everything else."""


class Caller:
    """`source` is the client's address, and `tally` counts what comes from the same parent. `explained`: how l4 nodes
    above and here chose for it, a line each, while explanations are asked for. `processes`: those above that it passed,
    a line each. It is `settled` once it is relayed or dropped."""

    __slots__ = ("began", "explained", "processes", "settled", "source", "tally")

    def __init__(self, source: tuple[str, int], tally: Tally, began: float) -> None:
        self.source = source
        self.tally = tally
        self.began = began
        self.explained = b""
        self.processes = b""
        self.settled = False

    def tlvs(self) -> bytes:
        """The TLVs for a child; as much of the explanation as a header holds."""
        processes = encode_tlv(VIA, self.processes) if self.processes else b""
        if not self.explained:
            return processes
        return processes + encode_tlv(EXPLAINED, self.explained[:MOST_EXPLAINED_BYTES].rpartition(b"\n")[0])
