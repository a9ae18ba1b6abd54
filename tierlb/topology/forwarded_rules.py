"""Where `forwarded` would hide clients from tiers below, or lose proxies on their way."""

from collections.abc import Collection, Iterator, Mapping

from tierlb.model.topology import ForwardedFields
from tierlb.topology.problems import Fault
from tierlb.topology.shapes import FileShape, TierShape


def forwarded_faults(file: FileShape, targets: Mapping[str, Collection[str]]) -> Iterator[Fault]:
    """`targets`: the names that each tier sends to. Tiers know clients by X-Forwarded-For."""
    for name, tier in file.tiers.items():
        yield from _cut_faults(name, tier, file, targets)
        below = next((each for each in targets.get(name, ()) if each in file.tiers), None)
        if tier.forwarded is ForwardedFields.RFC_7239 and below is not None:
            message = (
                f"tier {below!r} below knows clients by X-Forwarded-For: write both, or write forwarded at the tier "
                "that sends to pools"
            )
            yield Fault(("tiers", name, "forwarded"), message)


def _cut_faults(name: str, tier: TierShape, file: FileShape, targets: Mapping[str, Collection[str]]) -> Iterator[Fault]:
    """A tier above that passes Forwarded of trusted peers on, and adds them to X-Forwarded-For alone."""
    if tier.forwarded in (None, ForwardedFields.X_FORWARDED):
        return
    for above, each in targets.items():
        upper = file.tiers[above]
        if name in each and upper.trusted_peers and upper.forwarded in (None, ForwardedFields.X_FORWARDED):
            message = (
                f"tier {above!r} above does not continue Forwarded of its trusted peers, which would be missing here: "
                "write forwarded: both there"
            )
            yield Fault(("tiers", name, "forwarded"), message)
