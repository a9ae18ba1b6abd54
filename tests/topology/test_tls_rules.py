"""`tls` that would do nothing; with places and files in `test_files`."""

from typing import Any

import attrs
import pytest

from tierlb.model.address import Address, Transport
from tierlb.model.tls import Alpn, LeastTls, NoTls
from tierlb.model.topology import Forwarding, Kind
from tierlb.topology.route_shapes import MatchShape, RouteShape
from tierlb.topology.shapes import FileShape, ListenerShape, PoolShape, TierShape
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


AT = Address("127.0.0.1", 443)


@pytest.mark.parametrize(
    ("listener", "more", "path"),
    [
        (ListenerShape(address=AT, tls=TLS), {}, None),
        (ListenerShape(address=AT, tls=TLS), {"tls": TLS}, ("tls",)),
        (ListenerShape(address=AT, tls=NoTls.OFF), {"tls": TLS}, ("tls",)),
        (ListenerShape(address=AT, tls=NoTls.OFF), {}, ("listen", 0, "tls")),
        (ListenerShape(address=AT, tls=TLS, redirect_https=443), {}, ("listen", 0, "tls")),
        (ListenerShape(address=AT, redirect_https=443), {"tls": TLS}, ("tls",)),
        (ListenerShape(address=AT), {"tls": TLS}, None),
    ],
)
def test_tls_that_no_listener_goes_by_has_no_effect(
    listener: ListenerShape, more: dict[str, Any], path: tuple[str | int, ...] | None
) -> None:
    web = TierShape(kind=Kind.L7, to="p", listen=(listener,), **more)
    found = [fault.path for fault in tls_faults(file(web=web), {"web": {"p"}})]
    assert found == ([("tiers", "web", *path)] if path else [])


@pytest.mark.parametrize(("own", "faults"), [(TLS, 1), (None, 0)])
def test_an_edge_with_tls_at_each_listener_passes_none_on(own: ListenerTlsShape | None, faults: int) -> None:
    listeners = (ListenerShape(address=AT, tls=TLS), ListenerShape(address=Address("127.0.0.1", 80), tls=own))
    edge = TierShape(kind=Kind.L4, to="web", listen=listeners)
    web = TierShape(kind=Kind.L7, to="p", tls=TLS)
    assert len(list(tls_faults(file(edge=edge, web=web), {"edge": {"web"}, "web": {"p"}}))) == faults


@pytest.mark.parametrize(
    ("tier", "faults"),
    [
        (TierShape(kind=Kind.L4, to="p"), []),
        (TierShape(kind=Kind.L7, to="p"), []),
        (TierShape(kind=Kind.L4, to="p", protocol=Transport.UDP), ["write protocol: tcp there"]),
        (TierShape(kind=Kind.L4, to="p", forward=Forwarding.NFTABLES), ["write forward: auto there"]),
    ],
)
def test_tiers_that_see_connections_speak_tls_to_endpoints(tier: TierShape, faults: list[str]) -> None:
    pool = PoolShape(agents=True, tls=PoolTlsShape())
    found = list(tls_faults(file(pool, web=tier), {"web": {"p"}}))
    assert [fault.path for fault in found] == [("pools", "p", "tls")] * len(faults)
    assert all(advice in fault.message for fault, advice in zip(found, faults, strict=True))


@pytest.mark.parametrize(("verify", "faults"), [(False, 1), (True, 0), (None, 0)])
def test_authorities_have_no_effect_where_any_certificate_is_taken(verify: bool | None, faults: int) -> None:
    pool = PoolShape(agents=True, tls=PoolTlsShape(ca="ca.pem", verify=verify))
    found = list(tls_faults(file(pool, web=TierShape(kind=Kind.L7, to="p")), {"web": {"p"}}))
    assert [fault.path for fault in found] == [("pools", "p", "tls", "ca")] * faults


def routed(key: str, **more: Any) -> TierShape:
    """An l4 tier with a route by this."""
    return TierShape(kind=Kind.L4, routes=(RouteShape(match=MatchShape(**{key: "x"}), to="p"),), **more)


@pytest.mark.parametrize(("key", "faults"), [("alpn", 1), ("sni", 0)])
def test_a_tier_that_ends_tls_agrees_on_those_protocols_that_it_offers(key: str, faults: int) -> None:
    edge = routed(key, tls=TLS, listen=Address("127.0.0.1", 443))
    assert len(list(tls_faults(file(edge=edge), {"edge": {"p"}}))) == faults
    offering = routed(key, tls=attrs.evolve(TLS, alpn=(Alpn.HTTP_2,)), listen=Address("127.0.0.1", 443))
    assert list(tls_faults(file(edge=offering), {"edge": {"p"}})) == []


@pytest.mark.parametrize("key", ["alpn", "sni"])
@pytest.mark.parametrize(("tls", "faults"), [(TLS, 1), (None, 0)])
def test_below_a_tier_that_ends_tls_nothing_goes_by_a_hello(
    key: str, tls: ListenerTlsShape | None, faults: int
) -> None:
    edge = TierShape(kind=Kind.L4, to="inner", tls=tls, listen=Address("127.0.0.1", 443))
    found = list(tls_faults(file(edge=edge, inner=routed(key)), {"edge": {"inner"}, "inner": {"p"}}))
    assert len(found) == faults
