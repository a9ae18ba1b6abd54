from pathlib import Path

import attrs
import pytest

from tierlb.admin.access import Hosts, host_of_field
from tierlb.cli.example import Source
from tierlb.cli.up import admin_url, ready_block
from tierlb.model.address import Address, parse_address
from tierlb.model.tls import AdminTls, CertificateFiles, ListenerTls
from tierlb.model.topology import (
    Forward,
    Kind,
    Match,
    Pool,
    Route,
    Share,
    Tier,
    Topology,
)


def tier(name, kind, target, **more):
    return Tier(name, kind, (Route(Match(), Forward((Share(1.0, (target,)),))),), **more)


def block(*tiers):
    pools = {"app": Pool("app", (Address("127.0.0.1", 9001),))}
    return ready_block(Topology("shop", {t.name: t for t in tiers}, pools), "http://127.0.0.1:7900", "Ctrl-C ends it.")


LISTEN = Address("127.0.0.1", 8080)


def test_addresses_and_what_to_try_are_told():
    text = block(tier("edge", Kind.L4, "web", listen=LISTEN), tier("web", Kind.L7, "app"))
    assert "shop is ready" in text
    assert "curl http://127.0.0.1:8080/" in text
    assert " status --admin http://127.0.0.1:7900" in text
    assert text.endswith("  Ctrl-C ends it.\n")


def test_https_is_offered_where_clients_speak_tls():
    secured = attrs.evolve(tier("web", Kind.L7, "app"), tls=ListenerTls((CertificateFiles("a.pem", "a.key"),)))
    assert "curl --insecure https://127.0.0.1:8080/" in block(tier("edge", Kind.L4, "web", listen=LISTEN), secured)


def test_how_an_agent_joins_is_told_where_one_can():
    text = ready_block(
        Topology("shop", {"web": tier("web", Kind.L7, "app", listen=LISTEN)}, {"app": Pool("app", agents=True)}),
        "http://127.0.0.1:7900",
        "",
    )
    assert " agent --join-file .tierlb/shop --pool app --name app-1 --address HOST:PORT" in text
    assert "--join-file" not in block(tier("web", Kind.L7, "app", listen=LISTEN))


def test_curl_is_not_offered_where_no_http_is_spoken():
    assert "curl" not in block(tier("edge", Kind.L4, "app", listen=LISTEN))


def test_the_file_is_named_where_it_is_a_copy_of_an_example():
    topology = Topology("shop", {"web": tier("web", Kind.L7, "app", listen=LISTEN)}, {"app": Pool("app", agents=True)})
    copy = Source(Path("state/shop.yaml"), Path("topology/shop.yaml"))
    text = ready_block(topology, "http://127.0.0.1:7900", "Ctrl-C ends it.", None, copy)
    assert "  file         state/shop.yaml (a copy of shop.yaml, which stays as it is)\n" in text
    own = ready_block(topology, "http://127.0.0.1:7900", "Ctrl-C ends it.", None, Source(Path("shop.yaml")))
    assert "shop.yaml" not in own


TLS = AdminTls("cert.pem", "key.pem")


@pytest.mark.parametrize(
    ("listen", "hosts", "tls", "url"),
    [
        ("127.0.0.1:7900", (), None, "http://127.0.0.1:7"),
        ("10.0.0.5:7900", ("lb.internal",), None, "http://10.0.0.5:7"),
        ("0.0.0.0:7900", (), None, "http://127.0.0.1:7"),
        ("0.0.0.0:7900", ("lb.internal",), None, "http://127.0.0.1:7"),
        ("[::]:7900", (), None, "http://[::1]:7"),
        ("0.0.0.0:7900", ("lb.internal", "other"), TLS, "https://lb.internal:7"),
        ("0.0.0.0:7900", ("2001:db8::1",), TLS, "https://[2001:db8::1]:7"),
        ("0.0.0.0:7900", (), TLS, "https://127.0.0.1:7"),
    ],
)
def test_the_url_of_the_admin_api_is_one_that_it_serves(listen, hosts, tls, url):
    topology = Topology("shop", {}, {}, admin=parse_address(listen), admin_hosts=hosts, admin_tls=tls)
    assert admin_url(topology, 7) == url
    assert Hosts(str(topology.admin.host), hosts).means_here(host_of_field(url.partition("//")[2]), "127.0.0.1")
