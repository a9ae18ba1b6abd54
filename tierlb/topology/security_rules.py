"""What `security.tls` rules out: it secures the connections between tiers, so nothing may pass between two tiers that a
node cannot encrypt, or whose records another process would have to read."""

from collections.abc import Iterator

from tierlb.model.address import Transport
from tierlb.model.topology import Forwarding, Kind
from tierlb.topology.problems import Fault
from tierlb.topology.shapes import FileShape
from tierlb.topology.tls_rules import Targets, ends_tls


def security_faults(file: FileShape, targets: Targets) -> Iterator[Fault]:
    """`targets`: the names that each tier sends to. Only for a file with `security`."""
    if file.security is None:
        return
    for name, tier in file.tiers.items():
        below = next((each for each in file.tiers if each in targets.get(name, ())), None)
        if below is not None and tier.forward is Forwarding.NFTABLES:
            message = (
                f"security.tls has the tiers speak TLS with each other, and the kernel forwards to tier {below!r} as "
                "it is: write forward: auto, or leave security out"
            )
            yield Fault(("tiers", name, "forward"), message)
        if below is not None and tier.protocol is Transport.UDP:
            message = (
                f"security.tls has the tiers speak TLS with each other, which is for connections, and datagrams would "
                f"go to tier {below!r} as they are: send to pools from here, or leave security out"
            )
            yield Fault(("tiers", name, "protocol"), message)
        if tier.forward is Forwarding.HANDOFF and below is not None and (above := _relaying(file, targets, name)):
            message = (
                f"what tier {above!r} sends here is TLS with this tier (security.tls), and a socket that is handed on "
                "takes no keys with it: write forward: auto"
            )
            yield Fault(("tiers", name, "forward"), message)


def _relaying(file: FileShape, targets: Targets, name: str) -> str | None:
    """A tier above whose connections do not come as sockets alone."""
    for above, tier in file.tiers.items():
        if name in targets.get(above, ()) and (
            tier.kind is Kind.L7 or tier.forward is not Forwarding.HANDOFF or ends_tls(above, file, targets)
        ):
            return above
    return None
