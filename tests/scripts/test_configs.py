import json
from pathlib import Path

import pytest

from scripts.benchmarks import configs
from scripts.benchmarks.configs import Hop, Speaks
from scripts.benchmarks.peers import PEERS, Shape, hops_of

ENDPOINTS = ("127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003", "127.0.0.1:9004")
HOP = Hop("127.0.0.1:8080", ENDPOINTS)
PLACE = Path("/somewhere")

ALL = {
    "nginx http": configs.nginx_http(HOP, PLACE),
    "nginx stream": configs.nginx_stream(HOP, PLACE),
    "haproxy http": configs.haproxy(HOP, "http"),
    "haproxy tcp": configs.haproxy(HOP, "tcp"),
    "tierlb l7": configs.tierlb("l7", HOP.listen, "127.0.0.1:7900", ENDPOINTS),
    "tierlb l4": configs.tierlb("l4", HOP.listen, "127.0.0.1:7900", ENDPOINTS),
}


@pytest.mark.parametrize("name", ALL)
def test_every_config_listens_where_told_and_names_every_endpoint_once(name: str) -> None:
    assert [ALL[name].count(address) for address in (HOP.listen, *ENDPOINTS)] == [1] * 5


@pytest.mark.parametrize("config", [configs.envoy_http(HOP), configs.envoy_tcp(HOP)])
def test_envoy_gets_every_endpoint_in_order(config: str) -> None:
    [cluster] = json.loads(config)["static_resources"]["clusters"]
    ends = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    addresses = [end["endpoint"]["address"]["socket_address"] for end in ends]
    assert tuple(f"{each['address']}:{each['port_value']}" for each in addresses) == ENDPOINTS


def test_the_proxy_protocol_is_spoken_by_an_edge_and_expected_behind_it() -> None:
    edge = Hop(HOP.listen, ENDPOINTS, before_proxy=True)
    inner = Hop(HOP.listen, ENDPOINTS, after_proxy=True)
    assert "proxy_protocol on;" in configs.nginx_stream(edge, PLACE)
    assert "8080 proxy_protocol" in configs.nginx_http(inner, PLACE)
    assert configs.haproxy(edge, "tcp").count("send-proxy-v2") == len(ENDPOINTS)
    assert "accept-proxy" in configs.haproxy(inner, "http")
    assert not [name for name, config in ALL.items() if "proxy_protocol" in config or "-proxy" in config]


def test_bodies_are_collected_unless_they_flow_both_ways_at_once() -> None:
    streaming = configs.nginx_http(Hop(HOP.listen, ENDPOINTS, streams=True), PLACE)
    assert "proxy_request_buffering off;" in streaming
    assert "buffering off" not in ALL["nginx http"]


@pytest.mark.parametrize(("uid", "user"), [(0, "user root;\n"), (1000, "")])
def test_nginx_may_write_bodies_into_its_directory(uid: int, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert configs.nginx_http(HOP, PLACE).startswith(f"{user}daemon off;")


def test_envoy_does_not_end_long_answers() -> None:
    assert '"timeout": "0s"' in configs.envoy_http(HOP)


@pytest.mark.parametrize("shape", [Shape.L7, Shape.L4])
def test_a_single_proxy_sends_to_the_endpoints(shape: Shape) -> None:
    [(level, hop)] = hops_of(shape, ENDPOINTS)
    assert (level, hop.upstreams, hop.after_proxy, hop.before_proxy) == (shape, ENDPOINTS, False, False)


def test_a_stack_is_two_l7_proxies_and_then_the_edge_over_them() -> None:
    (_, left), (_, right), (level, edge) = hops_of(Shape.STACKED, ENDPOINTS)
    assert level is Shape.L4
    assert edge.upstreams == (left.listen, right.listen)
    assert left.upstreams == right.upstreams == ENDPOINTS
    assert (left.after_proxy, right.after_proxy, edge.before_proxy) == (True, True, True)


@pytest.mark.parametrize("name", ["nginx", "haproxy", "envoy", "tierlb"])
def test_with_a_certificate_a_proxy_offers_http2_over_tls(name: str) -> None:
    pem = PLACE / "c.pem"
    hop = Hop(HOP.listen, ENDPOINTS, speaks=Speaks(tls=True), certificate=pem)
    text, offer = {
        "nginx": (configs.nginx_http(hop, PLACE), "8080 ssl http2"),
        "haproxy": (configs.haproxy(hop, "http"), "alpn h2,http/1.1"),
        "envoy": (configs.envoy_http(hop), '"h2",'),
        "tierlb": (configs.tierlb("l7", HOP.listen, "127.0.0.1:7900", ENDPOINTS, certificate=pem), '"h2",'),
    }[name]
    assert str(pem) in text
    assert offer in text


@pytest.mark.parametrize("name", ["nginx", "haproxy", "envoy", "tierlb"])
def test_endpoints_are_asked_over_http2_where_that_is_measured(name: str) -> None:
    hop = Hop(HOP.listen, ENDPOINTS, speaks=Speaks(h2c=True, grpc=True))
    text, ask = {
        "nginx": (configs.nginx_http(hop, PLACE), "grpc_pass grpc://out;"),
        "haproxy": (configs.haproxy(hop, "http"), "9001 proto h2"),
        "envoy": (configs.envoy_http(hop), "http2_protocol_options"),
        "tierlb": (configs.tierlb("l7", HOP.listen, "127.0.0.1:7900", ENDPOINTS, h2c=True), '"protocol": "h2c"'),
    }[name]
    assert ask in text
    assert not [other for other, config in ALL.items() if ask in config]


def test_nginx_takes_part_where_it_can() -> None:
    nginx = next(peer for peer in PEERS if peer.name == "nginx")
    assert not nginx.can(Speaks(h2c=True))
    assert nginx.can(Speaks(h2c=True, grpc=True))
    assert nginx.can(Speaks(tls=True))
    assert all(peer.can(Speaks(h2c=True)) for peer in PEERS if peer is not nginx)


def test_a_backend_has_an_answer_for_calls_of_grpc_where_it_speaks_http2(tmp_path: Path) -> None:
    assert "grpc" not in configs.backend(HOP.listen, tmp_path)
    text = configs.backend(HOP.listen, tmp_path, "127.0.0.1:9443")
    assert "listen 127.0.0.1:9443 http2" in text
    assert (tmp_path / configs.CALL.lstrip("/")).read_bytes() == configs.CALLED
    assert int.from_bytes(configs.CALLED[1:5]) == len(configs.CALLED) - 5
