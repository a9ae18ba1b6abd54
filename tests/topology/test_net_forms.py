"""Addresses, hosts, networks, DNS names, stores and images, right and wrong, as a table."""

from typing import Any

import pytest

from tests.topology.form_tables import check_right, check_wrong, forms_in
from tierlb.model.address import Address
from tierlb.topology import net_forms as forms
from tierlb.topology.typed import Scalar

RIGHT: list[tuple[Any, str, object]] = [
    (forms.ApiHost, "lb.internal", "lb.internal"),
    (forms.ApiHost, "10.0.0.1", "10.0.0.1"),
    (forms.Listen, ":0", Address("0.0.0.0", 0)),
    (forms.Listen, "[::1]:80", Address("::1", 80)),
    (forms.FixedListen, ":9777", Address("0.0.0.0", 9777)),
    (forms.PublicListen, "*:443", Address("*", 443)),
    (forms.PublicListen, "[::]:443", Address("::", 443)),
    (forms.PublicListen, "unix:/run/shop/edge.sock", Address("/run/shop/edge.sock", 0)),
    (forms.SocketMode, "0660", 0o660),
    (forms.HttpsPort, "true", 443),
    (forms.HttpsPort, "8443", 8443),
    (forms.Endpoint, "unix:/run/app.sock", Address("/run/app.sock", 0)),
    (forms.Endpoint, "[::1]:9001", Address("::1", 9001)),
    (forms.Endpoint, "localhost:9001", Address("127.0.0.1", 9001)),
    (forms.CidrNetwork, "10.0.0.0/8", "10.0.0.0/8"),
    (forms.CidrNetwork, "::1", "::1/128"),
    (forms.Port, "65535", 65_535),
    (forms.HostField, "Shop.example:8080", "shop.example:8080"),
    (forms.HostField, "[::1]:80", "[::1]:80"),
    (forms.HostName, "*.Example.com", "*.example.com"),
    (forms.HostName, "10.0.0.1", "10.0.0.1"),
    (forms.ServerName, "*.Example.com", "*.example.com"),
    (forms.ServerName, "localhost", "localhost"),
    (forms.AlpnName, "http/1.1", "http/1.1"),
    (forms.HostName, "[2001:DB8:0::1]", "[2001:db8::1]"),
    (forms.DnsName, "API.internal:8000", "api.internal:8000"),
    (forms.DnsName, "my_service:80", "my_service:80"),
    (forms.DnsName, "api.internal.:65535", "api.internal.:65535"),
    (forms.DnsName, f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}:1", f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}:1"),
    (forms.DnsName, "_http._tcp.API.internal", "_http._tcp.api.internal"),
    (forms.DnsName, "_web._tcp.service.consul.", "_web._tcp.service.consul."),
    (forms.StoreUrlText, "etcd://127.0.0.1:2379", "etcd://127.0.0.1:2379"),
    (
        forms.StoreUrlText,
        "etcd://a.internal:2379,b_2:2379,[::1]:1/shop/Blue-1/",
        "etcd://a.internal:2379,b_2:2379,[::1]:1/shop/Blue-1",
    ),
    (forms.StoreUrlText, "etcds://a:2379,b:2379/shop", "etcds://a:2379,b:2379/shop"),
    (
        forms.StoreUrlText,
        f"etcd://_A.{'b' * 63}:1,1.2.3:1,[::ffff:1.2.3.4]:1",
        f"etcd://_A.{'b' * 63}:1,1.2.3:1,[::ffff:1.2.3.4]:1",
    ),
    (forms.Image, "api", "api"),
    (forms.Image, "registry.example.com:5000/team/api__x:1.2-rc", "registry.example.com:5000/team/api__x:1.2-rc"),
    (forms.Image, f"api@sha256:{'0a' * 32}", f"api@sha256:{'0a' * 32}"),
]
WRONG: list[tuple[Any, Scalar, str]] = [
    (forms.Listen, Scalar("8080"), "write HOST:PORT"),
    (forms.FixedListen, Scalar("127.0.0.1:0"), "needs a port"),
    (forms.FixedListen, Scalar("unix:/run/a.sock"), "is not an address"),
    (forms.PublicListen, Scalar("*:0"), "needs a port"),
    (forms.PublicListen, Scalar("unix:app.sock"), "absolute path"),
    (forms.PublicListen, Scalar(f"unix:/{'a' * 107}"), "at most 107"),
    (forms.SocketMode, Scalar("660"), "is not a mode"),
    (forms.HttpsPort, Scalar("yes"), "write true for port 443"),
    (forms.HttpsPort, Scalar("0"), "is no port"),
    (forms.HttpsPort, Scalar("65536"), "is no port"),
    (forms.HttpsPort, Scalar("8443", quoted=True), "is no port"),
    (forms.Endpoint, Scalar("unix:/run/app/"), "is not a unix socket"),
    (forms.FixedListen, Scalar("9777"), "write HOST:PORT"),
    (forms.Endpoint, Scalar("127.0.0.1:0"), "needs a port"),
    (forms.Endpoint, Scalar(":9001"), "needs the host"),
    (forms.CidrNetwork, Scalar("10.0.0.1/8"), "host bits"),
    (forms.CidrNetwork, Scalar("ten"), "write a network"),
    (forms.Port, Scalar("0"), "write 1 to 65535"),
    (forms.HostField, Scalar("*.example.com"), "is not a host"),
    (forms.HostField, Scalar("a\r\nx: y"), "is not a host"),
    (forms.HostName, Scalar("example.com:80"), "no port"),
    (forms.HostName, Scalar("a.*.com"), "is not a host"),
    (forms.ServerName, Scalar("a.*.com"), "is not a server name"),
    (forms.ServerName, Scalar("a:443"), "is not a server name"),
    (forms.ServerName, Scalar("10.0.0.1"), "is an address"),
    (forms.AlpnName, Scalar("h 2"), "is not a protocol"),
    (forms.AlpnName, Scalar(""), "is not a protocol"),
    (forms.HostName, Scalar("[::1::2]"), "is not an IPv6 address"),
    (forms.DnsName, Scalar("api.internal"), "needs a port: write NAME:PORT"),
    (forms.DnsName, Scalar("10.0.0.1:80"), r"needs no DNS: write endpoints: \[10.0.0.1:80\]"),
    (
        forms.Endpoint,
        Scalar("api.internal:80"),
        r"'api.internal' is a name, .* write dns: 'api.internal:80' in the place",
    ),
    (forms.DnsName, Scalar("[::1]:80"), "needs no DNS"),
    (forms.DnsName, Scalar("api.internal:0"), "is not NAME:PORT"),
    (forms.DnsName, Scalar("api.internal:65536"), "is not NAME:PORT"),
    (forms.DnsName, Scalar("http://api:80"), "is not NAME:PORT"),
    (forms.DnsName, Scalar("api..internal:80"), "is not NAME:PORT"),
    (forms.DnsName, Scalar(f"{'a' * 64}:80"), "is not NAME:PORT"),
    (forms.DnsName, Scalar(f"{'a.' * 127}:80"), "is not NAME:PORT"),
    (forms.DnsName, Scalar(":80"), "is not NAME:PORT"),
    (forms.DnsName, Scalar("_http._tcp.api:80"), "SRV records hold the port"),
    (forms.DnsName, Scalar("_http.api.internal"), "write one such as _http._tcp.api.internal"),
    (forms.DnsName, Scalar("_http._tcp"), "is not a name of SRV records"),
    (forms.DnsName, Scalar(f"_http._tcp{'.a' * 130}"), "is not a name of SRV records"),
    (
        forms.StoreUrlText,
        Scalar("etcd+https://a:1"),
        "'etcd\\+https' is not offered: write etcd://HOST:PORT, or with TLS etcds://HOST:PORT",
    ),
    (forms.StoreUrlText, Scalar("state"), "or leave the key out for a directory"),
    (forms.StoreUrlText, Scalar("etcd://a"), "is not a store"),
    (forms.StoreUrlText, Scalar("etcd://me:secret@a:1"), "is not a store"),
    (forms.StoreUrlText, Scalar("etcd://a:1,/x"), "is not a store"),
    (forms.StoreUrlText, Scalar("etcd://a:1/x//y"), "is not a store"),
    (forms.StoreUrlText, Scalar("etcd://a:1/x?y=z"), "is not a store"),
    (forms.StoreUrlText, Scalar("etcd://a:1,b:65536"), "'b:65536' needs a port from 1 to 65535"),
    (forms.StoreUrlText, Scalar("etcd://[:::]:1"), "is not an IPv6 address"),
    (forms.StoreUrlText, Scalar("etcd://[1.2.3.4]:1"), "'\\[1.2.3.4\\]' is not an IPv6 address"),
    (forms.StoreUrlText, Scalar("etcd://a:1,999.1.1.1:1"), "'999.1.1.1' is not an IPv4 address"),
    (forms.StoreUrlText, Scalar("etcd://01.2.3.4:1"), "is not an IPv4 address"),
    (forms.StoreUrlText, Scalar("etcd://a..b:1"), "is not a store"),
    (forms.StoreUrlText, Scalar(f"etcd://{'a' * 64}:1"), "is not a store"),
    (forms.StoreUrlText, Scalar(f"etcd://{'a.' * 127}a:1"), "a name has at most 253 characters"),
    (forms.Image, Scalar("My Image"), "is not a container image"),
    (forms.Image, Scalar("api:"), "is not a container image"),
    (forms.Image, Scalar("--privileged"), "is not a container image"),
    (forms.Image, Scalar("a" * 513), "is not a container image"),
]


@pytest.mark.parametrize(("kind", "text", "value"), RIGHT)
def test_right_values_are_read_and_the_schema_takes_them(kind: Any, text: str, value: object) -> None:
    check_right(kind, text, value)


@pytest.mark.parametrize(("kind", "scalar", "said"), WRONG)
def test_wrong_values_are_refused_with_advice(kind: Any, scalar: Scalar, said: str) -> None:
    check_wrong(kind, scalar, said)


def test_every_form_is_in_the_table() -> None:
    assert {id(kind) for kind, _, _ in RIGHT} >= {id(kind) for kind in forms_in(forms)}
