"""How etcd is reached: URLs, files for TLS, a password that may change."""

import os
import ssl
from pathlib import Path

import attrs
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.etcd import CLIENT_FILES, PASSWORD, USER, Access
from tierlb.channel.durable import StoreError
from tierlb.controller.etcd_access import Denied, EtcdUrl, Login, login_of, parse_store_url, tls_context
from tierlb.model.topology import SharedStore

URL = "etcds://127.0.0.1:2379"


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(tmp_path / "access", trustme.CA())


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("etcd://127.0.0.1:2379", EtcdUrl(("127.0.0.1:2379",), "tierlb")),
        ("etcd://etcd:2379/", EtcdUrl(("etcd:2379",), "tierlb")),
        ("etcd://a:1,b.c:2,[::1]:65535/x", EtcdUrl(("a:1", "b.c:2", "[::1]:65535"), "x")),
        ("etcd://a:1/x/y.z-_/", EtcdUrl(("a:1",), "x/y.z-_")),
        ("etcds://a:1,b:2/x", EtcdUrl(("a:1", "b:2"), "x", tls=True)),
    ],
)
def test_a_url_names_members_and_a_prefix(text: str, url: EtcdUrl) -> None:
    assert parse_store_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        *("", "etcd://", "etcd://a", "etcd://a:0", "etcd://a:65536", "etcd://a:1,", "etcd://,a:1", "etcd://a:1 /x"),
        *("http://a:1", "etcd:a:1", "ETCD://a:1", "etcd://a:1//x", "etcd://a:1/x y", "etcd://u:p@a:1", "etcd://a:1?x"),
        *("etcds://", "etcds:a:1", "https://a:1", "etcds://etcd://a:1"),
        *("etcd://[1.2.3.4]:1", "etcd://a..b:1", "etcd://999.1.1.1:1", f"etcd://{'a' * 64}:1"),
    ],
)
def test_of_what_is_no_url_is_said_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no store: write etcd://HOST:PORT or .*, with TLS etcds://"):
        parse_store_url(text)


def test_keys_of_clusters_are_kept_apart() -> None:
    assert EtcdUrl(("a:1",), "x").directory("shop") == "x/shop"


def test_without_tls_no_file_is_looked_at() -> None:
    assert tls_context(SharedStore("etcd://a:1")) is None


def test_with_tls_a_member_must_be_trusted_and_be_who_was_called(access: Access) -> None:
    context = tls_context(access.store(URL))
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.get_ca_certs(binary_form=True) == [ssl.PEM_cert_to_DER_cert(access.file("ca.pem").read_text())]


def test_where_no_authority_is_named_those_of_the_machine_are_trusted(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(access.file("ca.pem")))
    monkeypatch.setenv("SSL_CERT_DIR", str(access.directory / "none"))
    context = tls_context(SharedStore(URL))
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ca": "none.pem"}, r"`ca` of `store`, .*none.pem, cannot be used: No such file"),
        ({"ca": "password"}, r"`ca` of `store`, .*password, cannot be used: no certificate or crl found"),
        ({"certificate": "none.pem"}, r"`certificate` of `store`, .*none.pem, cannot be used with the key .*: No such"),
        ({"key": "stranger.key"}, r"with the key .*stranger.key: key values mismatch"),
        ({"key": "locked.key"}, r"with the key .*locked.key: the key has a passphrase, which no process can type"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(access: Access, changes: dict[str, str], said: str) -> None:
    plain = load_pem_private_key(access.file("client.key").read_bytes(), None)
    locked = plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    access.file("locked.key").write_bytes(locked)
    store = access.store(URL, **{key: str(access.file(name)) for key, name in changes.items()})
    with pytest.raises(StoreError, match=said):
        tls_context(store)


def test_whoever_logs_in_has_the_password_that_the_file_has_then(access: Access) -> None:
    login = login_of(access.store(URL))
    assert login == Login(USER, access.file(CLIENT_FILES["password_file"]))
    assert login is not None
    assert login.password() == PASSWORD
    access.file("password").write_text("another")
    assert login.password() == "another"
    assert PASSWORD not in repr(login)
    assert login_of(attrs.evolve(access.store(URL), user=None, password_file=None)) is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        (b"", "it does not hold one line"),
        (b"\n", "it does not hold one line"),
        (b"a\nb\n", "it does not hold one line"),
        (b"\xff", "it is not UTF-8 text"),
    ],
)
def test_a_password_that_cannot_be_read_is_asked_for(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Denied, match=rf"the password of ann cannot be read from .*password \({why}\): write it there"):
        Login("ann", file).password()


def test_a_pipe_in_the_place_of_a_password_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "password")
    with pytest.raises(Denied, match=r"\(it is not a file\)"):
        Login("ann", tmp_path / "password").password()
