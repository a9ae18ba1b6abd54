"""Which routes a connection takes, as the command says, for a file that an admin API has."""

import json

import pytest

from tests.cli.conftest import run

TEXT = """\
cluster: shop
tiers:
  edge:
    kind: l4
    listen: ["127.0.0.1:8443", "127.0.0.1:8080"]
    routes:
      - match: {sni: "*.db.example.com", source: 10.0.0.0/8}
        to: inner
      - match: {alpn: [h2, acme]}
        to: {web: 1, spare: 0}
      - match: {port: 8443}
        to: [inner, web]
  inner:
    kind: l4
    routes:
      - match: {sni: a.db.example.com}
        to: one
      - to: two
  dns: {kind: l4, protocol: udp, listen: "127.0.0.1:53", routes: [{match: {port: 53}, to: one}]}
  web: {kind: l7, to: one}
pools:
  one: {endpoints: ["127.0.0.1:1"]}
  two: {endpoints: ["127.0.0.1:2"]}
  spare: {endpoints: ["127.0.0.1:3"]}
"""
TOPOLOGY = (200, json.dumps({"cluster": "shop", "revision": 1, "text": TEXT, "file": None}).encode())


@pytest.fixture
def ask(serve):
    return lambda *arguments: run("explain", "--admin", serve(TOPOLOGY), *arguments)


def taken(result):
    assert result.exit_code == 0, result.output
    return [(each["tier"], each["route"], each["to"]) for each in json.loads(result.stdout)["routes"]]


def test_the_routes_of_all_l4_tiers_on_the_way_are_found(ask):
    db = ("--sni", "A.db.example.com", "--source", "10.1.2.3")
    assert taken(ask("edge", *db, "--json")) == [("edge", 0, ["inner"]), ("inner", 0, ["one"])]
    assert taken(ask("edge", *db, "--source", "::1", "--port", "8443", "--json")) == [
        ("edge", 2, ["inner", "web"]),
        ("inner", 0, ["one"]),
    ]
    assert taken(ask("edge", "--alpn", "http/1.1", "--alpn", "acme", "--json")) == [("edge", 1, ["web"])]
    assert taken(ask("edge", "--port", "8080", "--json")) == [("edge", None, [])]
    assert taken(ask("inner", "--json")) == [("inner", 1, ["two"])]


def test_the_port_of_a_tier_with_one_is_known(ask):
    assert taken(ask("dns", "--json")) == [("dns", 0, ["one"])]


def test_people_see_all_routes_and_which_one_it_is(ask):
    lines = ask("edge", "--sni", "b.db.example.com", "--source", "10.0.0.9").stdout.splitlines()
    assert lines[0] == "A connection sni b.db.example.com, from 10.0.0.9"
    assert lines[2:6] == [
        "edge · l4",
        "▸ routes[0]  sni *.db.example.com, source 10.0.0.0/8 → inner",
        "  routes[1]  alpn h2|acme → web",
        "  routes[2]  port 8443 → inner, web",
    ]
    assert lines[-1] == "▸ routes[1]  otherwise → two"
    assert "no route takes it" in ask("edge", "--port", "8080").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("edge", "--sni", "a.db.example.com"), "depends on what is not given: add --source"),
        (("edge",), "depends on what is not given: add --port"),
        (("edg",), "no tier named 'edg' (did you mean 'edge'?)"),
        (("cart",), "no tier named 'cart': write a URL, /PATH or the name of an l4 tier"),
        (("web",), "web is an l7 tier"),
        (("dns", "--sni", "a"), "dns takes datagrams"),
        (("edge", "--source", "here"), "--source here: write an IP address"),
        (("edge", "-X", "POST"), "-H and -X are for requests"),
        (("/", "--sni", "a"), "are for connections: write the name of an l4 tier"),
        (("edge", "--port", "0"), "--port"),
    ],
)
def test_what_is_missing_or_wrong_is_usage(ask, arguments, words):
    result = ask(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
