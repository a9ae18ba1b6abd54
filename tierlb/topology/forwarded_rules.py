"""Where `forwarded` would hide clients from tiers below."""

from collections.abc import Collection, Iterator, Mapping

from tierlb.model.topology import ForwardedFields
from tierlb.topology.problems import Fault
from tierlb.topology.shapes import FileShape


def forwarded_faults(file: FileShape, targets: Mapping[str, Collection[str]]) -> Iterator[Fault]:
    """`targets`: the names that each tier sends to. Tiers know clients by X-Forwarded-For."""
    for name, tier in file.tiers.items():
        below = next((each for each in targets.get(name, ()) if each in file.tiers), None)
        if tier.forwarded is ForwardedFields.RFC_7239 and below is not None:
            message = (
                f"tier {below!r} below knows clients by X-Forwarded-For: write both, or write forwarded at the tier "
                "that sends to pools"
            )
            yield Fault(("tiers", name, "forwarded"), message)
