"""TLS between tiers: requests, connections, what they carry, and which peers are refused."""

import errno
import gc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel

from tests.certificates import Authority, connects_by_tls
from tests.dataplane.conftest import INNER, Lab, below, l4, l7, l7_parent, send
from tierlb.dataplane.plane import Refused
from tierlb.dataplane.tier_tls import PARENT_LINGER_S
from tierlb.model.snapshot import Rule, Snapshot
from tierlb.model.tls import Tls
from tierlb.model.topology import Forwarding, Match
from tierlb.net.client_tls import ClientTls
from tierlb.net.cluster_tls import ClusterTls
from tierlb.net.tls_layer import TlsLayer

GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "tls").mkdir()
    return Authority(tmp_path / "tls")


@attrs.define
class Tiers:
    """Nodes that are of tiers, each with the certificate of its own."""

    lab: Lab
    authority: Authority

    def certificate(self, tier: str, authority: Authority | None = None) -> ClusterTls:
        of = authority or self.authority
        files = of.issue(tier, file=tier)
        return ClusterTls(Tls(files.certificate, files.key, str(of.folder / "ca.pem")), self.lab.log)

    async def serves(self, tier: str, snapshot: Snapshot, *parents: str, shows: ClusterTls | None = None) -> Any:
        """A node of a tier, as a host for those above."""
        self.lab.cluster_tls = shows or self.certificate(tier)
        at = await self.lab.serves(attrs.evolve(snapshot, tier=tier, parent_tiers=parents))
        host = below(at, self.lab.plane.name)
        host.spec = attrs.evolve(host.spec, target=tier)
        return host


@pytest.fixture
def tiers(lab: Lab, authority: Authority) -> Tiers:
    return Tiers(lab, authority)


@pytest.fixture
def meets(lab: Lab, tmp_path: Path) -> None:
    """The nodes meet in a directory."""
    tmp_path.chmod(0o700)
    lab.meets_in = tmp_path


async def test_requests_go_from_l7_to_l7_over_tls_on_kept_connections(lab: Lab, tiers: Tiers) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    web = await tiers.serves("web", l7(endpoint, listener=INNER), "mid")
    await tiers.serves("mid", l7(web))
    client = await lab.connects()
    for _ in range(3):
        assert (await client.asks(GET)).body == b"ok"
    assert lab.planes[0].load().connections == 1
    (host,) = lab.front.registry.named(web.spec.name)
    (kept,) = host.idle
    assert kept.layer.peer_fields["subjectAltName"] == (("DNS", "web"),)


async def test_an_edge_relays_over_tls_and_the_client_is_known_below(lab: Lab, tiers: Tiers) -> None:
    endpoint = await lab.endpoint()
    web = await tiers.serves("web", l7(endpoint, listener=INNER), "edge")
    await tiers.serves("edge", l4(web))
    client = await lab.connects()
    await client.says(GET)
    voice = await endpoint.accepts()
    assert (await voice.hears_head())["x-forwarded-for"] == "127.0.0.1"
    await voice.says(OK)
    assert (await client.hears_message()).body == b"ok"
    await client.leaves()
    await lab.until(lambda: lab.planes[0].load().connections == lab.planes[1].load().connections == 0)
    assert not lab.log.count("parent_refused")


@pytest.mark.parametrize("at_the_middle", [False, True])
async def test_what_clients_send_may_be_tls_itself(lab: Lab, tiers: Tiers, at_the_middle: bool) -> None:
    """Which l4 nodes carry to the node that ends it, inside the TLS of the tiers."""
    endpoint, tls = await lab.endpoint(), tiers.authority.tls()
    web = await tiers.serves("web", l7(endpoint, listener=INNER, tls=None if at_the_middle else tls), "mid")
    mid = await tiers.serves("mid", l4(web, listener=INNER, tls=tls if at_the_middle else None), "edge")
    await tiers.serves("edge", l4(mid))
    client = await connects_by_tls(lab, tiers.authority.client())
    much = bytes(range(256)) * 4096
    lab.background.start_soon(
        client.says, b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: %d\r\n\r\n" % len(much) + much
    )
    voice = await endpoint.accepts()
    assert (await voice.hears_head())["x-forwarded-proto"] == "https"
    assert await voice.hears_count(len(much)) == much
    lab.background.start_soon(voice.says, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(much) + much)
    assert (await client.hears_message()).body == much
    await client.leaves()
    await lab.until(lambda: not any(plane.load().connections for plane in lab.planes))


async def test_routes_by_server_name_wait_for_a_hello_that_comes_through_the_tls_of_a_parent(
    lab: Lab, tiers: Tiers
) -> None:
    endpoint, other, tls = await lab.endpoint(), await lab.endpoint(), tiers.authority.tls()
    web = await tiers.serves("web", l7(endpoint, listener=INNER, tls=tls), "mid")
    rules = (Rule(Match(sni=("shop.example",)), send(web)), Rule(Match(), send(other)))
    mid = await tiers.serves("mid", l4(listener=INNER, rules=rules), "edge")
    await tiers.serves("edge", l4(mid))
    client = await connects_by_tls(lab, tiers.authority.client())
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    plain = await lab.connects()
    await plain.says(b"another protocol")
    await (await other.accepts()).hears(b"another protocol")


def peers(tiers: Tiers, kind: str, tmp_path: Path) -> list[str]:
    """The options of openssl for one that is no parent."""
    if kind == "no certificate":
        return []
    if kind == "another authority":
        (tmp_path / "other").mkdir()
        files = Authority(tmp_path / "other").issue("edge", file="edge")
    else:
        files = tiers.authority.issue("db", file="db")
    return ["-cert", files.certificate, "-key", files.key]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize("kind", ["no certificate", "another tier", "another authority"])
@pytest.mark.parametrize("node", [l4, l7])
async def test_a_stranger_gets_nothing_at_the_inner_port_even_with_the_key_of_the_cluster(
    lab: Lab, tiers: Tiers, tmp_path: Path, kind: str, node: Callable[..., Snapshot]
) -> None:
    endpoint = await lab.endpoint()
    web = await tiers.serves("web", node(endpoint, listener=INNER), "edge")
    command = ["openssl", "s_client", "-quiet", "-connect", str(web.address), *peers(tiers, kind, tmp_path)]
    with trio.fail_after(30):
        said = await trio.run_process(
            command, stdin=l7_parent(name="edge-1") + GET, capture_stdout=True, capture_stderr=True, check=False
        )
    assert said.stdout == b""
    await lab.until(lambda: lab.log.count("parent_refused") == 1)
    ((_, fields),) = [each for each in lab.log.events if each[0] == "parent_refused"]
    assert {
        "no certificate": "peer did not return a certificate",
        "another tier": "its certificate is for db, and connections come from edge alone",
        "another authority": "unable to get local issuer certificate",
    }[kind] in fields["reason"]
    assert not endpoint.voices
    assert lab.plane.load().connections == 0


@pytest.mark.parametrize("node", [l4, l7])
async def test_a_peer_without_tls_gets_nothing_at_the_inner_port(
    lab: Lab, tiers: Tiers, node: Callable[..., Snapshot]
) -> None:
    await tiers.serves("web", node(await lab.endpoint(), listener=INNER), "edge")
    stranger = await lab.connects()
    await stranger.says(l7_parent(name="edge-1") + GET)
    await stranger.hears_no_word()
    assert lab.log.count("parent_refused") == 1


@pytest.mark.parametrize("wrong", ["another tier", "another authority", "no TLS"])
@pytest.mark.parametrize("parent", [l4, l7])
async def test_a_node_that_is_not_of_the_tier_gets_nothing_from_its_parent(
    lab: Lab, tiers: Tiers, tmp_path: Path, wrong: str, parent: Callable[..., Snapshot]
) -> None:
    endpoint = await lab.endpoint()
    (tmp_path / "other").mkdir()
    of = Authority(tmp_path / "other") if wrong == "another authority" else None
    shows = tiers.certificate("other" if wrong == "another tier" else "web", of)
    if wrong == "another tier":
        host = await tiers.serves("other", l7(endpoint, listener=INNER), "edge", shows=shows)
        host.spec = attrs.evolve(host.spec, target="web")
    elif wrong == "no TLS":
        lab.cluster_tls = None
        host = below(await lab.serves(attrs.evolve(l7(endpoint, listener=INNER), tier="web")), "node-1")
        host.spec = attrs.evolve(host.spec, target="web")
    else:
        host = await tiers.serves("web", l7(endpoint, listener=INNER), "edge", shows=shows)
    await tiers.serves("edge", parent(host))
    client = await lab.connects()
    await client.says(GET)
    if parent is l7:
        assert (await client.hears_message()).status == 502
    else:
        await client.hears_no_word()
    (reason,) = {fields["reason"] for event, fields in lab.log.events if event == "endpoint_handshake_failed"}
    assert {
        "another tier": "hostname mismatch, certificate is not valid for 'web'",
        "another authority": "self-signed certificate in certificate chain",
        "no TLS": "",
    }[wrong] in reason.replace("self signed", "self-signed")
    assert not endpoint.voices


@pytest.mark.parametrize("parent", [l4, l7])
async def test_a_node_that_fell_is_asked_by_a_handshake_and_comes_back(
    lab: Lab, tiers: Tiers, parent: Callable[..., Snapshot]
) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    web = await tiers.serves("web", l7(endpoint, listener=INNER), "edge")
    await tiers.serves("edge", parent(web))
    (host,) = lab.front.registry.named(web.spec.name)
    host.reach.connect_failed(refused=True)
    assert host.reach.ejection.ejected
    await lab.until(lambda: not host.reach.ejection.ejected)
    client = await lab.connects()
    assert (await client.asks(GET)).body == b"ok"
    assert not lab.log.count("parent_refused")


async def test_a_connection_that_came_over_tls_is_not_handed_on(lab: Lab, tiers: Tiers, meets: None) -> None:
    endpoint = await lab.endpoint()
    web = await tiers.serves("web", l7(endpoint, listener=INNER), "mid")
    mid = await tiers.serves("mid", l4(web, listener=INNER, forward=Forwarding.HANDOFF), "edge")
    await tiers.serves("edge", l4(mid, forward=Forwarding.RELAY))
    client = await lab.connects()
    await client.hears_no_word()
    (reason,) = [fields["reason"] for event, fields in lab.log.events if event == "connection_dropped"]
    assert "write forward: auto" in reason


async def test_connections_are_handed_over_without_tls(lab: Lab, tiers: Tiers, meets: None) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    web = await tiers.serves("web", l7(endpoint, listener=INNER), "edge")
    await tiers.serves("edge", l4(web, forward=Forwarding.HANDOFF))
    client = await lab.connects()
    assert (await client.asks(GET)).body == b"ok"
    assert not lab.front.connections.relayed


async def test_a_node_whose_certificate_is_not_for_its_tier_says_so_at_once(lab: Lab, tiers: Tiers) -> None:
    with pytest.raises(Refused, match="is not for the tier web: add DNS:web to its subjectAltName"):
        await tiers.serves("web", l7(await lab.endpoint()), "edge", shows=tiers.certificate("other"))


async def test_a_tier_that_was_a_parent_may_connect_for_a_moment(lab: Lab, tiers: Tiers) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    snapshot = l7(endpoint, listener=INNER)
    web = await tiers.serves("web", snapshot, "edge")
    below_plane = lab.plane
    await tiers.serves("edge", l7(web))
    below_plane.apply(attrs.evolve(snapshot, tier="web", parent_tiers=("mid",), revision=2))
    client = await lab.connects()
    assert (await client.asks(GET)).body == b"ok"
    inner: Any = below_plane.tier_tls.inner
    now = below_plane.reactor.now
    (layer,) = {each.layer for each in below_plane.serving.front.clients}  # type: ignore[attr-defined]
    assert inner.refusal(layer, now) == ""
    assert "connections come from mid alone" in inner.refusal(layer, now + PARENT_LINGER_S)


@pytest.mark.parametrize("node", [l4, l7])
async def test_a_connect_to_the_inner_port_that_says_nothing_is_no_fault(
    lab: Lab, tiers: Tiers, node: Callable[..., Snapshot]
) -> None:
    await tiers.serves("web", node(await lab.endpoint(), listener=INNER), "edge")
    probe = await lab.connects()
    await lab.until(lambda: lab.plane.load().connections == 1)
    await probe.leaves()
    await lab.until(lambda: lab.plane.load().connections == 0)
    assert not lab.log.count("parent_refused")


class Once(dict[str, ClientTls]):
    """What is spoken with each tier, until it was asked for once: then a snapshot without the tier is there."""

    def get(self, key: str, default: Any = None) -> Any:
        return self.pop(key, default)


@pytest.mark.parametrize("parent", [l4, l7])
async def test_a_connect_under_way_speaks_tls_whatever_the_next_snapshot_says(
    lab: Lab, tiers: Tiers, parent: Callable[..., Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    web = await tiers.serves("web", l7(endpoint, listener=INNER), "edge")
    await tiers.serves("edge", parent(web))
    context = lab.front.registry.context
    dial = context.dial

    def slow(*given: Any, **more: Any) -> tuple[int, int]:
        fd, _ = dial(*given, **more)
        return fd, errno.EINPROGRESS

    monkeypatch.setattr(context, "dial", slow)
    context.tls = Once(context.tls)
    client = await lab.connects()
    await client.says(GET)
    assert (await client.hears_message()).body == b"ok"
    assert not lab.log.count("parent_refused")


async def test_loads_say_when_the_certificate_expires(lab: Lab, tiers: Tiers) -> None:
    tls = tiers.certificate("web")
    await tiers.serves("web", l7(await lab.endpoint()), shows=tls)
    (shown,) = lab.plane.load().certificates
    assert (shown.file, shown.names, shown.use) == (tls.files.certificate, ("web",), "cluster")


async def test_certificates_are_renewed_again_and_again_under_load_and_nothing_fails(lab: Lab, tiers: Tiers) -> None:
    """Edge and middle relay over TLS, to a node below that speaks it over kept connections and new ones."""
    endpoint, failed, answered = await lab.endpoint(), [0], [0]
    lab.background.start_soon(endpoint.answers_all, OK)
    web = await tiers.serves("web", l7(endpoint, listener=INNER), "mid")
    mid = await tiers.serves("mid", l4(web, listener=INNER), "edge")
    await tiers.serves("edge", l4(mid))
    kept = await lab.connects()

    async def asks_on_new_connections() -> None:
        while True:
            client = await lab.connects()
            failed[0] += (await client.asks(GET)).body != b"ok"
            answered[0] += 1
            await client.leaves()

    async with trio.open_nursery() as load:
        for _ in range(2):
            load.start_soon(asks_on_new_connections)
        for round_ in range(1, 5):
            for tier, plane in zip(("web", "mid", "edge"), lab.planes, strict=True):
                tiers.authority.issue(tier, file=tier, days=30 + round_)
                plane.tier_tls.tick(plane.reactor.now + 1000.0 * round_)
            before = answered[0]
            await lab.until(lambda before=before: answered[0] >= before + 4)
            assert (await kept.asks(GET)).body == b"ok"
        load.cancel_scope.cancel()
    assert failed == [0]
    assert lab.log.count("certificate_renewed") == 12
    assert not lab.log.count("parent_refused") + lab.log.count("endpoint_handshake_failed")


@pytest.mark.parametrize("parent", [l4, l7])
async def test_a_parent_whose_certificate_is_refused_says_so_and_uses_the_node_less(
    lab: Lab, tiers: Tiers, tmp_path: Path, parent: Callable[..., Snapshot]
) -> None:
    """In TLS 1.3 it learns that after its own handshake."""
    (tmp_path / "other").mkdir()
    web = await tiers.serves("web", l7(await lab.endpoint(), listener=INNER), "edge")
    shows = tiers.certificate("edge", Authority(tmp_path / "other"))
    files = shows.files
    shows = ClusterTls(Tls(files.certificate, files.key, str(tiers.authority.folder / "ca.pem")), lab.log)
    await tiers.serves("edge", parent(web), shows=shows)
    client = await lab.connects()
    await client.says(GET)
    if parent is l7:
        assert (await client.hears_message()).status == 502
    else:
        await client.hears_no_word()
    await lab.until(lambda: lab.log.count("endpoint_handshake_failed"))
    ((_, told), *_) = [each for each in lab.log.events if each[0] == "endpoint_handshake_failed"]
    assert "alert unknown ca" in told["reason"]
    if parent is l4:
        (host,) = lab.front.registry.named(web.spec.name)
        assert host.reach.failures


@pytest.mark.parametrize("node", [l4, l7])
async def test_without_a_tier_above_the_inner_port_takes_nobody(
    lab: Lab, tiers: Tiers, node: Callable[..., Snapshot]
) -> None:
    await tiers.serves("web", node(await lab.endpoint(), listener=INNER))
    stranger = await lab.connects()
    await stranger.says(l7_parent(name="edge-1") + GET)
    await stranger.hears_no_word()
    assert lab.log.count("parent_refused") == 1


async def test_no_cycle_of_objects_is_left_of_connections_with_two_layers(lab: Lab, tiers: Tiers) -> None:
    endpoint, tls = await lab.endpoint(), tiers.authority.tls()
    lab.background.start_soon(endpoint.answers_all, OK)
    web = await tiers.serves("web", l7(endpoint, listener=INNER, tls=tls), "edge")
    await tiers.serves("edge", l4(web))
    layers = lambda: sum(isinstance(each, TlsLayer) for each in gc.get_objects())  # noqa: E731
    before = layers()
    gc.disable()
    try:
        for _ in range(3):
            client = await connects_by_tls(lab, tiers.authority.client())
            assert (await client.asks(GET)).body == b"ok"
            await client.leaves()
        await lab.until(lambda: not any(plane.load().connections for plane in lab.planes))
        await lab.until(lambda: layers() <= before)
    finally:
        gc.enable()
