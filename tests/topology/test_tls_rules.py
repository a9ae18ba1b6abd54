"""`tls` that would do nothing; with places and files in `test_files`."""

import pytest

from tierlb.model.tls import LeastTls
from tierlb.model.topology import Kind
from tierlb.topology.shapes import FileShape, PoolShape, TierShape
from tierlb.topology.tls_rules import tls_faults
from tierlb.topology.tls_shapes import CertificateShape, ListenerTlsShape, PoolTlsShape

TLS = ListenerTlsShape(certificates=(CertificateShape(certificate="a", key="b"),), minimum=LeastTls.TLS_1_2)


def file(pool: PoolShape | None = None, **tiers: TierShape) -> FileShape:
    return FileShape(cluster="x", tiers=tiers, pools={"p": pool or PoolShape(agents=True)})


@pytest.mark.parametrize(
    ("above", "faults"),
    [
        (TierShape(kind=Kind.L4, to="web"), 0),
        (TierShape(kind=Kind.L4, to="web", tls=TLS), 1),
        (TierShape(kind=Kind.L7, to="web"), 1),
    ],
)
def test_a_tier_without_a_listener_needs_one_above_that_passes_tls_on(above: TierShape, faults: int) -> None:
    web = TierShape(kind=Kind.L7, to="p", tls=TLS)
    found = list(tls_faults(file(edge=above, web=web), {"edge": {"web"}, "web": {"p"}}))
    assert sum(fault.path == ("tiers", "web", "tls") for fault in found) == faults


@pytest.mark.parametrize(("kind", "faults"), [(Kind.L4, 1), (Kind.L7, 0)])
def test_only_l7_tiers_speak_tls_to_endpoints(kind: Kind, faults: int) -> None:
    pool = PoolShape(agents=True, tls=PoolTlsShape())
    assert len(list(tls_faults(file(pool, web=TierShape(kind=kind, to="p")), {"web": {"p"}}))) == faults
