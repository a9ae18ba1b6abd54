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
