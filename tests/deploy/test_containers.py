"""From containers that run to those that a compose file has: what comes, what goes, and what cannot be."""

import sys

import attrs
import pytest

from tierlb.deploy.compose import DEFINITION_LABEL, Rendering, compose_document
from tierlb.deploy.containers import (
    Container,
    ContainerLink,
    Decline,
    Growth,
    Scene,
    awaited,
    conflicts,
    decline,
    growth,
    in_use,
    outdated,
    stop_rounds,
)
from tierlb.topology.edit import AddTier, RemoveTier, Scale, edited
from tierlb.topology.load import load_text

TEXT = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web: {kind: l7, replicas: 3, to: app}
pools:
  app: {run: {command: "tierlb demo-backend --host {host} --port {port}", replicas: 2}}
"""
MID = edited(TEXT, AddTier("mid", "l7", between=("edge", "web"), replicas=2))


def file(text=TEXT, image="tierlb:1"):
    return compose_document(Rendering(load_text(text, "shop.yaml"), image))


def published(port):
    """As engines tell of a port without an address."""
    address = port.rpartition(":")[0]
    return address if ":" in address else f":{address}"


def scene(text=TEXT, image="tierlb:1"):
    """As compose brings it up."""
    wanted = file(text, image)
    containers = [
        Container(
            f"{service}-{number}",
            service,
            number,
            spec["labels"][DEFINITION_LABEL],
            networks=dict.fromkeys(spec["networks"], "172.18.0.2"),
            published=frozenset(map(published, spec.get("ports", ()))),
        )
        for service, spec in wanted["services"].items()
        for number in range(1, spec.get("scale", 1) + 1)
    ]
    return Scene("shop", tuple(containers), frozenset(wanted["networks"]))


def carried_out(there, wanted, come):
    """The scene after growth, as an engine would have it."""
    made = [
        Container(
            f"{service}-{number}",
            service,
            number,
            wanted["services"][service]["labels"][DEFINITION_LABEL],
            networks=dict.fromkeys(wanted["services"][service]["networks"], "172.18.0.2"),
        )
        for service, count in come.numbers.items()
        for number in range(len(there.of(service)) + 1, count + 1)
    ]
    linked = [
        attrs.evolve(
            each, networks={**each.networks, **{at.network: "" for at in come.links if at.container == each.id}}
        )
        for each in there.containers
    ]
    return attrs.evolve(there, containers=(*linked, *made), networks=there.networks | come.networks.keys())


def names(containers):
    return sorted(each.id for each in containers)


def test_where_all_is_there_nothing_is_done():
    assert growth(file(), scene()) == Growth({}, (), {})
    assert decline(file(), scene()) == Decline((), (), ())
    assert (conflicts(file(), scene()), outdated(file(), scene()), awaited(file(), scene())) == ((), (), ())


def test_a_tier_put_in_is_connected_with_those_above_it_before_it_starts():
    come = growth(file(MID), scene())
    assert come.networks == {"to-mid": True}
    assert {*come.links} == {
        ContainerLink("to-mid", "controller-1", ("controller", "controller-mid")),
        ContainerLink("to-mid", "edge-1", ("edge",)),
    }
    assert come.numbers == {"mid": 2}
    gone = decline(file(MID), carried_out(scene(), file(MID), come))
    assert gone == Decline((), (ContainerLink("to-web", "edge-1"),), ())


def test_a_tier_taken_out_stays_until_the_end_with_its_network():
    without = edited(MID, RemoveTier("mid"))
    come = growth(file(without), scene(MID))
    assert come == Growth({}, (ContainerLink("to-web", "edge-1", ("edge",)),), {})
    gone = decline(file(without), carried_out(scene(MID), file(without), come))
    assert names(gone.containers) == ["mid-1", "mid-2"]
    assert {*gone.links} == {ContainerLink("to-mid", "edge-1"), ContainerLink("to-mid", "controller-1")}
    assert gone.networks == ("to-mid",)


def test_a_tier_grows_by_what_it_lacks_and_the_last_ones_go_when_it_shrinks():
    more, fewer = (file(edited(TEXT, Scale({"web": number}))) for number in (5, 1))
    assert growth(more, scene()).numbers == {"web": 5}
    assert growth(fewer, scene()).numbers == {}
    assert names(decline(fewer, scene()).containers) == ["web-2", "web-3"]


def test_what_is_to_be_made_anew_is_started_beside_what_is_there():
    newer = file(TEXT.replace("demo-backend", "demo-backend --slots 9"))
    come = growth(newer, scene())
    assert come.numbers == {"app": 4}
    after = carried_out(scene(), newer, come)
    assert names(decline(newer, after).containers) == ["app-1", "app-2"]
    assert (growth(newer, after).numbers, awaited(newer, after)) == ({}, ())


def test_nothing_goes_before_its_successors_are_ready():
    newer = file(TEXT.replace("demo-backend", "demo-backend --slots 9"))
    after = carried_out(scene(), newer, growth(newer, scene()))
    assert awaited(newer, scene()) == ("app",)
    starting = [attrs.evolve(each, ready=each.id != "app-4") for each in after.containers]
    assert awaited(newer, attrs.evolve(after, containers=tuple(starting))) == ("app",)


def test_who_publishes_a_port_stays_as_it_was_made_and_that_is_said():
    newer = file(image="tierlb:2")
    assert outdated(newer, scene()) == ("controller", "edge")
    come = growth(newer, scene())
    assert come.numbers == {"web": 6, "app": 4}
    assert names(decline(newer, carried_out(scene(), newer, come)).containers) == [
        "app-1",
        "app-2",
        "web-1",
        "web-2",
        "web-3",
    ]


def test_what_does_not_run_is_started_again():
    stopped = [attrs.evolve(each, running=each.id != "web-2", ready=each.id != "web-2") for each in scene().containers]
    assert growth(file(), attrs.evolve(scene(), containers=tuple(stopped))).numbers == {"web": 3}


TAKEN = "is to publish 127.0.0.1:8080, which the container of edge does"
ANEW = "is to publish 127.0.0.1:{}, for which its container would have to be made anew"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (edited(TEXT, AddTier("top", "l4", above="edge")), [f"top {TAKEN}"]),
        (edited(TEXT, RemoveTier("edge")), [f"web {ANEW.format(8080)}", f"web {TAKEN}"]),
        (TEXT.replace("8080", "8081"), [f"edge {ANEW.format(8081)}"]),
        (MID, []),
        (edited(TEXT, Scale({"web": 9, "app": 1})), []),
    ],
)
def test_a_port_that_changes_hands_is_a_conflict(text, told):
    topology = load_text(text.replace("replicas: 3,", ""), "shop.yaml")
    assert [*conflicts(compose_document(Rendering(topology, "tierlb:1")), scene())] == told


def row(local, remote, state="01"):
    def place(address):
        host, _, port = address.rpartition(":")
        number = int.from_bytes(bytes(map(int, host.split("."))), sys.byteorder)
        return f"{number:08X}:{int(port):04X}"

    return f"   0: {place(local)} {place(remote)} {state} 00000000:00000000 00:00000000 00000000 10001 0 1 1 0"


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        ([], 0),
        ([row("172.18.0.3:41000", "172.18.0.4:7945")], 1),
        ([row("172.18.0.3:7945", "172.18.0.9:51000"), row("172.18.0.3:41000", "172.18.0.4:9000")], 2),
        ([row("172.18.0.3:41000", "172.18.0.4:7945", "06")], 0),
        ([row("172.19.0.3:41000", "172.19.0.4:7945")], 0),
        ([row("172.18.0.3:41000", "172.18.0.4:7946"), row("172.18.0.3:7946", "172.18.0.4:41000")], 0),
        ([row("0.0.0.0:7945", "0.0.0.0:0", "0A")], 0),
    ],
)
def test_connections_that_carry_data_are_counted_by_the_kernel_s_table(rows, count):
    assert in_use("\n".join(["  sl  local_address rem_address   st ...", *rows, ""]), "172.18.0.3") == count


def test_a_published_port_for_datagrams_is_another_than_that_for_connections():
    tcp = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: app}
pools:
  app: {endpoints: [10.0.0.7:53]}
"""
    (conflict,) = conflicts(file(tcp.replace("l4,", "l4, protocol: udp,")), scene(tcp))
    assert "edge is to publish 127.0.0.1:8080/udp" in conflict


def test_a_port_for_every_address_is_the_one_that_the_container_has():
    text = TEXT.replace('"127.0.0.1:8080"', '"*:8080"')
    assert text != TEXT
    assert conflicts(file(text), scene(text)) == ()
    (conflict,) = conflicts(file(text), scene())
    assert "edge is to publish :8080, for which its container would have to be made anew" in conflict


def test_sessions_over_udp_count_as_use():
    header = "  sl  local_address rem_address   st tx_queue rx_queue\n"
    socket = f"   0: {number_text('10.0.0.2')}:D431 {number_text('10.0.0.3')}:1F09 01 0:0 00\n"
    assert in_use(header + header + socket, "10.0.0.2") == 1


def number_text(address):
    """As the kernel prints an address."""
    return f"{int.from_bytes(bytes(map(int, address.split('.'))), sys.byteorder):08X}"


def test_endpoints_of_a_pool_end_one_after_the_other_and_nodes_all_at_once():
    going = tuple(
        Container(f"{service}-{number}", service, number, "old", endpoint=service != "web")
        for service in ("web", "app", "more")
        for number in range(1, 3 if service != "more" else 2)
    )
    rounds = [[each.id for each in ending] for ending in stop_rounds(going)]
    assert rounds == [["web-1", "web-2", "app-1", "more-1"], ["app-2"]]
    assert stop_rounds(()) == []
