"""Which certificate a client is shown, and which files cannot be served."""

import ssl
from pathlib import Path

import pytest

from tests.certificates import NAME, Authority
from tierlb.model.tls import Alpn, CertificateFiles, LeastTls, ListenerTls
from tierlb.net.server_tls import ServerTls, load_server_tls
from tierlb.net.tls import TlsProblem


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def shown(server: ServerTls, client: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """What a client got that asked for the name."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client.check_hostname = False
    mine = client.wrap_bio(back, there, server_hostname=name)
    its = server.context.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for end in (mine, its):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return mine


def names_shown(server: ServerTls, client: ssl.SSLContext, name: str | None) -> set[str]:
    found = shown(server, client, name).getpeercert() or {}
    return {value for _, value in found["subjectAltName"]}  # type: ignore[misc]


def test_the_name_that_a_client_asks_for_chooses_exactly_by_a_wildcard_or_the_first(authority: Authority) -> None:
    pairs = tuple(
        authority.issue(name, file=str(number))
        for number, name in enumerate(("first.example", "*.shop.example", "www.shop.example"))
    )
    server = load_server_tls(ListenerTls(certificates=pairs))
    for asked, expected in (
        ("first.example", "first.example"),
        ("www.shop.example", "www.shop.example"),
        ("WWW.Shop.Example", "www.shop.example"),
        ("api.shop.example", "*.shop.example"),
        ("api.shop.example.", "*.shop.example"),
        ("a.b.shop.example", "first.example"),
        ("shop.example", "first.example"),
        ("elsewhere.example", "first.example"),
        (None, "first.example"),
    ):
        assert names_shown(server, authority.client(), asked) == {expected}, asked


def test_the_oldest_version_is_the_one_that_the_file_says(authority: Authority) -> None:
    old = authority.client(maximum_version=ssl.TLSVersion.TLSv1_2)
    assert shown(load_server_tls(authority.tls()), old, NAME).version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError, match="unsupported protocol"):
        shown(load_server_tls(authority.tls(minimum=LeastTls.TLS_1_3)), old, NAME)


def test_protocols_are_offered_as_the_file_says(authority: Authority) -> None:
    client = authority.client()
    client.set_alpn_protocols(["h2", "http/1.1"])
    offers = load_server_tls(authority.tls(alpn=(Alpn.HTTP_1_1,)))
    assert shown(offers, client, NAME).selected_alpn_protocol() == "http/1.1"
    assert shown(load_server_tls(authority.tls()), client, NAME).selected_alpn_protocol() is None


def test_ciphers_without_forward_secrecy_or_authenticated_encryption_are_refused(authority: Authority) -> None:
    server = load_server_tls(authority.tls())
    for cipher in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256"):
        client = authority.client(maximum_version=ssl.TLSVersion.TLSv1_2)
        client.set_ciphers(cipher)
        with pytest.raises(ssl.SSLError):
            shown(server, client, NAME)


def test_a_session_goes_on_with_its_ticket(authority: Authority) -> None:
    server, client = load_server_tls(authority.tls()), authority.client(maximum_version=ssl.TLSVersion.TLSv1_2)
    session = shown(server, client, NAME).session
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    again = client.wrap_bio(back, there, server_hostname=NAME, session=session)
    its = server.context.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for end in (again, its):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert again.session_reused


def test_files_that_cannot_be_served_are_named(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.issue(file="one"), authority.issue(file="other")
    for files, said in (
        (CertificateFiles(one.certificate, other.key), rf"key {other.key}: does not fit"),
        (CertificateFiles(str(tmp_path / "none"), one.key), "No such file"),
        (CertificateFiles(one.key, one.key), "certificate .*one.key"),
    ):
        with pytest.raises(TlsProblem, match=said):
            load_server_tls(ListenerTls((files,)))
