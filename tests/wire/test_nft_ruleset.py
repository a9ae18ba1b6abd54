"""Rules as text: what goes where from which view, only what changed, and names that are names."""

import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.slots import drawn, hashed, in_turn
from tierlb.model.address import Address
from tierlb.wire.nft_ruleset import Family, HostAt, Ruleset, View, change, cluster_prefix, removal, table_name

FAR, FAR_V6 = HostAt(1, "app/10.0.0.1:80", Address("10.0.0.1", 80)), HostAt(2, "v6", Address("2001:db8::1", 80))
BESIDE = HostAt(3, "beside", Address("127.0.0.1", 81))
OWN = HostAt(4, "own", Address("192.0.2.1", 82))
HERE = HostAt(5, "web-1", Address("127.0.0.1", 83), here=True)
NODE = HostAt(6, "web-2", Address("10.0.0.2", 83), wants_header=True)
ALL = (FAR, FAR_V6, BESIDE, OWN, HERE, NODE)
ANY, ANY_V6 = Address("0.0.0.0", 443), Address("::", 443)


def rules(*hosts: HostAt, listens: tuple[Address, ...] = (ANY, ANY_V6), **options: object) -> Ruleset:
    base = Ruleset("t", listens, hosts, drawn([1.0] * len(hosts)) if hosts else None, own=frozenset(["192.0.2.1"]))
    return attrs.evolve(base, **options)


@pytest.mark.parametrize(
    ("view", "forwards", "reached"),
    [
        (View.ELSEWHERE, True, {FAR, OWN, HERE}),
        (View.ELSEWHERE, False, {OWN, HERE}),
        (View.OWN, True, {FAR, BESIDE, OWN, HERE}),
        (View.OWN, False, {FAR, BESIDE, OWN, HERE}),
        (View.LOOPBACK, True, {BESIDE, OWN, HERE}),
    ],
)
def test_what_is_reached_depends_on_where_a_client_is(view: View, forwards: bool, reached: set[HostAt]) -> None:
    ruleset = rules(*ALL, forwards=frozenset(Family) if forwards else frozenset())
    assert set(ruleset.reached(view, Family.IPV4)) == reached
    assert set(ruleset.reached(view, Family.IPV6)) <= {FAR_V6}


def test_a_whole_table() -> None:
    two = (HostAt(1, "app/10.0.0.1:80", Address("10.0.0.1", 80)), HostAt(2, "b", Address("10.0.0.2", 80)))
    ruleset = Ruleset("t", (Address("0.0.0.0", 443),), two, drawn([0.75, 0.25]), label=9)
    match = "meta nfproto ipv4 meta l4proto tcp"
    assert change(None, ruleset).split("\n") == [
        "add table inet t",
        "delete table inet t",
        "add table inet t",
        "add chain inet t tracking",
        "add rule inet t tracking ct state new",
        "add counter inet t host_1",
        "add chain inet t host_1",
        "flush chain inet t host_1",
        f'add rule inet t host_1 {match} counter name "host_1" ct label set 9 dnat ip to 10.0.0.1:80 '
        'comment "app/10.0.0.1:80"',
        "add counter inet t host_2",
        "add chain inet t host_2",
        "flush chain inet t host_2",
        f'add rule inet t host_2 {match} counter name "host_2" ct label set 9 dnat ip to 10.0.0.2:80 comment "b"',
        "add chain inet t pick_ip_elsewhere",
        "add rule inet t pick_ip_elsewhere numgen random mod 10000 vmap "
        "{ 0-7499 : goto host_1, 7500-9999 : goto host_2 }",
        "add chain inet t prerouting { type nat hook prerouting priority -100; policy accept; }",
        "flush chain inet t prerouting",
        "add rule inet t prerouting meta nfproto ipv4 fib daddr type local tcp dport 443 goto pick_ip_elsewhere",
        "add chain inet t output { type nat hook output priority -100; policy accept; }",
        "flush chain inet t output",
        "add rule inet t output meta nfproto ipv4 fib daddr type local ip daddr != 127.0.0.0/8 tcp dport 443 "
        "goto pick_ip_elsewhere",
        "add chain inet t postrouting { type nat hook postrouting priority 100; policy accept; }",
        "flush chain inet t postrouting",
        "add rule inet t postrouting ct label 9 ip saddr . ip daddr { 10.0.0.1 . 10.0.0.1, 10.0.0.2 . 10.0.0.2 } "
        "masquerade",
        "",
    ]


def test_over_udp_refusals_are_counted_for_each_host() -> None:
    twin = attrs.evolve(FAR, number=7)
    script = change(None, rules(FAR, FAR_V6, HERE, twin, protocol="udp", label=9)).split("\n")
    own = "ct label 9 ct direction reply"
    for hook in ("prerouting", "output"):
        found = [line for line in script if line.startswith(f"add rule inet t refusals_{hook} ")]
        assert found == [
            f"add rule inet t refusals_{hook} icmp type destination-unreachable icmp code port-unreachable {own} "
            "ip saddr . ct reply proto-src vmap { 10.0.0.1 . 80 : goto refused_7 }",
            f"add rule inet t refusals_{hook} icmpv6 type destination-unreachable icmpv6 code port-unreachable {own} "
            "ip6 saddr . ct reply proto-src vmap { 2001:db8::1 . 80 : goto refused_2 }",
        ]
    assert "refus" not in change(None, rules(FAR))
    left = change(rules(FAR, FAR_V6, protocol="udp"), rules(FAR, protocol="udp")).split("\n")
    assert left[-4:] == [
        "delete counter inet t host_2",
        "delete chain inet t refused_2",
        "delete counter inet t refused_2",
        "",
    ]


def test_a_change_touches_what_changed() -> None:
    stays, goes, comes = FAR, OWN, HostAt(7, "new", Address("10.0.0.7", 80))
    text = change(rules(stays, goes), rules(stays, comes))
    assert "delete table" not in text
    assert "host_1\n" not in text, "its counter and chain stay as they are"
    assert "add counter inet t host_7" in text
    assert "delete chain inet t host_4\ndelete counter inet t host_4" in text
    assert text.index("flush chain inet t pick_ip_elsewhere") < text.index("delete chain inet t host_4")


def test_without_hosts_nothing_is_forwarded() -> None:
    text = change(rules(FAR), rules())
    assert "goto" not in text
    assert "delete chain inet t pick_ip_elsewhere" in text


@pytest.mark.parametrize(
    ("listen", "matches"),
    [
        ("192.0.2.1", {"prerouting": ["ip daddr 192.0.2.1"], "output": ["ip daddr 192.0.2.1"]}),
        ("127.0.0.1", {"prerouting": ["ip daddr 127.0.0.1"], "output": ["ip daddr 127.0.0.1"]}),
        (
            "0.0.0.0",
            {
                "prerouting": ["meta nfproto ipv4 fib daddr type local"],
                "output": ["ip daddr 127.0.0.0/8", "meta nfproto ipv4 fib daddr type local ip daddr != 127.0.0.0/8"],
            },
        ),
    ],
)
def test_only_what_is_for_the_listening_address_is_taken(listen: str, matches: dict[str, list[str]]) -> None:
    text = change(None, rules(HERE, listens=(Address(listen, 443),)))
    for hook, expected in matches.items():
        assert re.findall(rf"add rule inet t {hook} (.*) tcp dport 443 goto", text) == expected


def test_numbers_that_lead_to_hosts_out_of_reach_are_left_to_the_node() -> None:
    text = change(None, rules(FAR, BESIDE, slots=in_turn([1.0, 1.0])))
    assert "pick_ip_elsewhere numgen inc mod 2 vmap { 0 : goto host_1 }" in text
    assert "pick_ip_loopback numgen inc mod 2 vmap { 1 : goto host_3 }" in text


def test_a_host_that_is_its_own_client_sees_this_machine() -> None:
    lines = [line for line in change(None, rules(*ALL)).split("\n") if "masquerade" in line]
    assert [line.partition(" saddr . ")[2] for line in lines] == [
        "ip daddr { 10.0.0.1 . 10.0.0.1, 192.0.2.1 . 192.0.2.1 } masquerade",
        "ip6 daddr { 2001:db8::1 . 2001:db8::1 } masquerade",
    ]


def test_hashes_are_of_the_source_address_of_the_family() -> None:
    text = change(None, rules(FAR, FAR_V6, slots=hashed({"a": 1.0, "b": 1.0})))
    assert "pick_ip_elsewhere jhash ip saddr mod 4093 seed 0x" in text
    assert "pick_ip6_elsewhere jhash ip6 saddr mod 4093 seed 0x" in text


def test_a_host_on_this_machine_keeps_the_address_that_the_client_used() -> None:
    assert 'dnat to :83 comment "web-1"' in change(None, rules(HERE))


def test_udp() -> None:
    text = change(None, rules(FAR, protocol="udp"))
    assert "meta l4proto udp" in text
    assert "udp dport 443 goto" in text
    assert "tcp" not in text


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_names_make_names_of_tables(cluster: str, node: str) -> None:
    name = table_name(cluster, node)
    assert re.fullmatch(r"tierlb_[A-Za-z0-9/-]{0,40}_[A-Za-z0-9/-]{0,40}", name)
    assert len(name) <= 90
    assert name.startswith(cluster_prefix(cluster))


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), unique=True, max_size=10))
def test_different_nodes_have_different_tables(nodes: list[tuple[str, str]]) -> None:
    assert len({table_name(*each) for each in nodes}) == len(nodes)


def test_usual_names_stay_as_they_are() -> None:
    assert table_name("shop", "edge-1") == "tierlb_shop_edge-1"
    assert not table_name("shop_eu", "edge-1").startswith(cluster_prefix("shop"))


@given(st.text(max_size=300))
def test_no_name_of_a_host_ends_its_comment(name: str) -> None:
    text = change(None, rules(attrs.evolve(FAR, name=name)))
    (line,) = [line for line in text.split("\n") if "comment" in line]
    comment = line.partition(" comment ")[2]
    assert re.fullmatch(r'"[^"\\;{}]{0,100}"', comment)


def test_a_removal_asks_for_nothing_that_is_not_there() -> None:
    assert removal(["a", "b"]) == "add table inet a\ndelete table inet a\nadd table inet b\ndelete table inet b\n"
