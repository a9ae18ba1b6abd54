"""Which files the nodes of each tier read, and where containers have them."""

import pytest

from tests.certificates import Authority
from tierlb.deploy.named_files import below_topology, file_key, files_of_tiers
from tierlb.topology.load import load_text

TEXT = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:443", to: [web, own]}
  web:
    kind: l7
    tls: {certificates: [{certificate: shop.pem, key: shop.key}], client_ca: pki/../ca.pem}
    to: app
  own:
    kind: l7
    listen:
      - "127.0.0.1:80"
      - address: 127.0.0.1:8443
        tls: {certificates: [{certificate: other.pem, key: other.key}, {certificate: ./shop.pem, key: shop.key}]}
      - {address: "127.0.0.1:81", redirect_https: 8443}
    to: [app, bare]
pools:
  app: {agents: true, tls: {ca: ca.pem, certificate: other.pem, key: other.key}}
  bare: {agents: true, tls: {}}
"""


@pytest.fixture
def files(tmp_path):
    authority = Authority(tmp_path)
    (tmp_path / "pki").mkdir()
    authority.issue()
    authority.issue(file="other")
    topology = load_text(TEXT, str(tmp_path / "shop.yaml"))
    return files_of_tiers(topology, TEXT)


def test_nodes_have_the_files_of_their_tier_its_listeners_and_its_pools(files):
    assert {tier: sorted(names) for tier, names in files.items()} == {
        "web": ["ca.pem", "other.key", "other.pem", "shop.key", "shop.pem"],
        "own": ["./shop.pem", "ca.pem", "other.key", "other.pem", "shop.key"],
    }


def test_each_place_has_one_key_however_it_is_named_and_no_two_have_the_same():
    assert file_key("shop.pem") == file_key("./pki/../shop.pem")
    keys = {file_key(name) for name in ("a/b.pem", "a-b.pem", "a b.pem", "/a/b.pem", "../a/b.pem", "é.pem", "x" * 300)}
    assert len(keys) == 7
    assert all(len(key) < 100 and key.isascii() and not set(key) & set("/ ") for key in keys)


@pytest.mark.parametrize(
    ("name", "place"),
    [("shop.pem", "shop.pem"), ("pki/../a/b.pem", "a/b.pem"), ("../shop.pem", ""), ("/etc/ssl/shop.pem", "")],
)
def test_what_is_below_the_topology_file_has_a_place_there(name, place):
    assert below_topology(name) == place
