"""A tier that hides clients from those below."""

import pytest

from tierlb.model.topology import ForwardedFields, Kind
from tierlb.topology.forwarded_rules import forwarded_faults
from tierlb.topology.shapes import FileShape, TierShape


@pytest.mark.parametrize(
    ("fields", "to", "faults"),
    [
        (ForwardedFields.RFC_7239, "web", 1),
        (ForwardedFields.BOTH, "web", 0),
        (ForwardedFields.RFC_7239, "p", 0),
        (None, "web", 0),
    ],
)
def test_tiers_below_need_x_forwarded_for(fields: ForwardedFields | None, to: str, faults: int) -> None:
    tiers = {"front": TierShape(kind=Kind.L7, to=to, forwarded=fields), "web": TierShape(kind=Kind.L7, to="p")}
    found = list(forwarded_faults(FileShape(cluster="x", tiers=tiers), {"front": {to}, "web": {"p"}}))
    assert [fault.path for fault in found] == [("tiers", "front", "forwarded")] * faults


@pytest.mark.parametrize(
    ("above", "peers", "below", "faults"),
    [
        (None, ("10.0.0.0/8",), ForwardedFields.RFC_7239, 1),
        (ForwardedFields.X_FORWARDED, ("10.0.0.0/8",), ForwardedFields.BOTH, 1),
        (ForwardedFields.BOTH, ("10.0.0.0/8",), ForwardedFields.RFC_7239, 0),
        (None, None, ForwardedFields.RFC_7239, 0),
        (None, ("10.0.0.0/8",), None, 0),
    ],
)
def test_each_tier_on_the_way_continues_forwarded(
    above: ForwardedFields | None, peers: tuple[str, ...] | None, below: ForwardedFields | None, faults: int
) -> None:
    tiers = {
        "front": TierShape(kind=Kind.L7, to="web", forwarded=above, trusted_peers=peers),
        "web": TierShape(kind=Kind.L7, to="p", forwarded=below),
    }
    found = list(forwarded_faults(FileShape(cluster="x", tiers=tiers), {"front": {"web"}, "web": {"p"}}))
    assert [fault.path for fault in found] == [("tiers", "web", "forwarded")] * faults
