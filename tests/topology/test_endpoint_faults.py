import pytest

from tests.topology.test_graph import problems_of


@pytest.mark.parametrize(
    ("tier", "pool", "problem"),
    [
        (
            "{kind: l4, listen: ':80', forward: nftables, to: p}",
            "{endpoints: ['unix:/b']}",
            "pools.p.endpoints[0]: what the kernel forwards from 'a' cannot go to a unix socket",
        ),
        (
            "{kind: l4, listen: ':80', protocol: udp, to: p}",
            "{endpoints: {'unix:/b': 1}}",
            "datagrams from 'a' cannot go to a unix socket",
        ),
        (
            "{kind: l4, listen: ':80', forward: nftables, to: p}",
            "{endpoints: ['10.0.0.1:1'], proxy_protocol: v2}",
            "pools.p.proxy_protocol: the kernel forwards from 'a' and writes no PROXY headers",
        ),
        (
            "{kind: l4, listen: ':80', protocol: udp, to: p}",
            "{endpoints: ['10.0.0.1:1'], proxy_protocol: v2}",
            "pools.p.proxy_protocol: 'a' sends datagrams there, which have no PROXY header",
        ),
        ("{kind: l7, listen: ':80', to: p}", "{endpoints: ['unix:/b'], agent_check: 9}", "has no host that answers"),
        (
            "{kind: l7, listen: ':80', to: p}",
            "{endpoints: ['10.0.0.1:1'], proxy_protocol: v2, protocol: h2c}",
            "pools.p.proxy_protocol: a connection of HTTP/2 carries requests of many clients",
        ),
    ],
)
def test_endpoints_that_no_connection_of_this_kind_gets_to(tier: str, pool: str, problem: str) -> None:
    (found,) = problems_of(f"a: {tier}", f"p: {pool}")
    assert problem in found


def test_behind_two_l7_tiers_the_client_cannot_be_named() -> None:
    tiers = "a: {kind: l7, listen: ':80', to: b}\nb: {kind: l7, to: c}\nc: {kind: l7, to: p}"
    pool = "p: {endpoints: ['10.0.0.1:1'], proxy_protocol: v2}"
    (found,) = problems_of(tiers, pool)
    assert found.startswith("pools.p.proxy_protocol: the client is known to 'c' only through two l7 tiers")
    assert problems_of("a: {kind: l7, listen: ':80', to: c}\nc: {kind: l7, to: p}", pool) == []
