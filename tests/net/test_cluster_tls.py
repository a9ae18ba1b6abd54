"""The certificate of a process: what its contexts demand, and how it is renewed."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.certificates import Authority
from tests.dataplane.conftest import Log
from tierlb.model.tls import Tls
from tierlb.net.cluster_tls import ClusterTls, parent_refusal
from tierlb.net.file_stamp import LOOK_EVERY_S
from tierlb.net.tls import TlsProblem
from tierlb.topology.certificates import DAY_S


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls_of(authority: Authority, log: Log | None = None, **more: Any) -> ClusterTls:
    files = authority.issue("web", "127.0.0.1", file="node")
    return ClusterTls(Tls(files.certificate, files.key, str(authority.folder / "ca.pem")), log or Log(), **more)


def met(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake in memory. Raises ssl.SSLError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


def test_data_connections_are_tls_1_3_with_certificates_of_both_ends(authority: Authority) -> None:
    tls = tls_of(authority)
    client, server = met(tls.now.data_server, tls.now.data_client, "web")
    assert client.version() == "TLSv1.3"
    assert server.getpeercert() == client.getpeercert()
    with pytest.raises(ssl.SSLCertVerificationError):
        met(tls.now.data_server, tls.now.data_client, "edge")


def test_a_name_in_the_subject_alone_counts_for_nothing(authority: Authority) -> None:
    tls = tls_of(authority)
    assert not tls.now.data_client.hostname_checks_common_name


def test_only_the_authority_of_the_cluster_counts(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    tls, other = tls_of(authority), tls_of(Authority(tmp_path / "other"))
    with pytest.raises(ssl.SSLError):
        met(tls.now.data_server, other.now.data_client, "web")
    with pytest.raises(ssl.SSLError):
        met(other.now.data_server, tls.now.data_client, "web")


def test_a_renewed_certificate_is_shown_from_then_on(authority: Authority) -> None:
    log = Log()
    tls = tls_of(authority, log)
    before = tls.now
    assert not tls.look()
    authority.issue("web", "127.0.0.1", file="node", days=30)
    assert tls.look()
    assert tls.now.data_client is not before.data_client
    assert tls.control_server() is not before.control_server
    assert tls.control_client() is tls.now.control_client
    ((event, fields),) = log.events
    assert (event, fields["names"], fields["days_left"]) == ("certificate_renewed", ["web", "127.0.0.1"], 29.0)


@pytest.mark.parametrize("wrong", ["expired", "another key", "no CA", "other names", "another authority"])
def test_one_that_cannot_be_used_is_refused_once_and_the_one_before_stays(authority: Authority, wrong: str) -> None:
    log = Log()
    tls = tls_of(authority, log)
    before = tls.now
    if wrong == "expired":
        authority.issue("web", "127.0.0.1", file="node", since=-9, days=8)
    elif wrong == "another key":
        other = authority.issue("web", file="other")
        Path(tls.files.key).write_bytes(Path(other.key).read_bytes())
    elif wrong == "another authority":
        before_ca = Path(tls.files.ca).read_bytes()
        Authority(authority.folder).issue("web", "127.0.0.1", file="node")
        Path(tls.files.ca).write_bytes(before_ca)
    elif wrong == "no CA":
        Path(tls.files.ca).write_text("nothing")
    else:
        authority.issue("web-1", file="node")
    for _ in range(3):
        assert not tls.look()
    assert tls.now is before
    ((event, fields),) = log.events
    assert event == "certificate_refused"
    assert {
        "expired": f"the certificate {tls.files.certificate} has expired",
        "another key": "cannot be used with the key",
        "another authority": "would be refused with the CA file: unable to get local issuer certificate",
        "no CA": f"the CA file {tls.files.ca} cannot be used",
        "other names": f"the certificate {tls.files.certificate} is not for 127.0.0.1, web any more; restart to use it",
    }[wrong] in fields["reason"]


def test_an_expiry_that_comes_soon_is_logged_once_a_day(authority: Authority) -> None:
    log, times = Log(), [0.0]
    tls = tls_of(authority, log, epoch=lambda: times[0])
    expires = tls.now.fields.expires
    for before_s in (8 * DAY_S, 6 * DAY_S, 5.5 * DAY_S, 4.9 * DAY_S, -1.0):
        times[0] = expires - before_s
        tls.look()
    assert [event for event, _ in log.events] == ["certificate_expires_soon"] * 2 + ["certificate_expired"]


async def test_where_nothing_else_looks_the_watch_does(
    authority: Authority, autojump_clock: trio.testing.MockClock
) -> None:
    tls = tls_of(authority)
    before = tls.now
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tls.watch)
        authority.issue("web", "127.0.0.1", file="node", days=30)
        await trio.sleep(LOOK_EVERY_S + 0.1)
        assert tls.now is not before
        nursery.cancel_scope.cancel()


def test_files_that_cannot_be_used_are_a_problem_at_the_start(authority: Authority) -> None:
    with pytest.raises(TlsProblem):
        ClusterTls(Tls("none.pem", "none.key", str(authority.folder / "ca.pem")), Log())


def test_what_a_certificate_lacks_for_a_tier_is_said(authority: Authority) -> None:
    tls = tls_of(authority)
    assert tls.lack_for("web") == ""
    assert tls.lack_for("edge").endswith("is not for the tier edge: add DNS:edge to its subjectAltName")


@pytest.mark.parametrize(
    ("names", "parents", "refused"),
    [
        (("edge",), ("edge",), ""),
        (("x", "EDGE"), ("mid", "edge"), ""),
        (("web",), ("mid", "edge"), "its certificate is for web, and connections come from mid or edge alone"),
        (("*.edge",), ("edge",), "its certificate is for *.edge, and connections come from edge alone"),
        ((), ("edge",), "its certificate is for no name, and connections come from edge alone"),
        (("edge",), (), "its certificate is for edge, and connections come from no tier alone"),
    ],
)
def test_a_parent_is_of_a_tier_above_by_name(names: tuple[str, ...], parents: tuple[str, ...], refused: str) -> None:
    shown = {"subjectAltName": (*(("DNS", name) for name in names), ("IP Address", "127.0.0.1"))}
    assert parent_refusal(shown, parents) == refused
