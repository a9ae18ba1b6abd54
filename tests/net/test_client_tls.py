"""What a node asks of endpoints over TLS, by the files that a pool names."""

import ssl
from pathlib import Path

import pytest

from tests.certificates import Authority
from tierlb.model.tls import PoolTls
from tierlb.model.topology import PoolProtocol
from tierlb.net.client_tls import ClientTls, handshake_reason
from tierlb.net.tls import TlsProblem


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_checks_may_offer_another_protocol() -> None:
    relayed = ClientTls(PoolTls(verify=False), None, None, checks=PoolProtocol.H2)
    assert relayed.context_checks is not relayed.context
    same = ClientTls(PoolTls(verify=False), None, PoolProtocol.H2)
    assert same.context_checks is same.context


def test_certificates_are_checked_unless_the_pool_says_otherwise(authority: Authority) -> None:
    checks = ClientTls(PoolTls(ca=str(authority.folder / "ca.pem"))).context
    assert (checks.verify_mode, checks.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(checks.get_ca_certs()) == 1
    assert ClientTls(PoolTls()).context.verify_mode is ssl.CERT_REQUIRED
    assert ClientTls(PoolTls(verify=False)).context.verify_mode is ssl.CERT_NONE


def test_a_name_is_the_pools_that_in_dns_or_the_address() -> None:
    assert ClientTls(PoolTls(server_name="own.example"), "dns.example").name_of("192.0.2.1") == "own.example"
    assert ClientTls(PoolTls(), "dns.example").name_of("192.0.2.1") == "dns.example"
    assert ClientTls(PoolTls()).name_of("192.0.2.1") == "192.0.2.1"
    assert ClientTls(PoolTls()).name_of(f"/run/{'a' * 70}/..x.sock") == "localhost", "a path is no name in a handshake"


def test_files_that_cannot_be_used_are_named_and_leave_what_was_there(authority: Authority) -> None:
    own = authority.issue()
    client = ClientTls(PoolTls(certificate=own.certificate, key=own.key))
    before = client.context
    Path(own.key).write_text("")
    with pytest.raises(TlsProblem, match=r"shop\.key"):
        client.read_again()
    assert client.context is before
    with pytest.raises(TlsProblem, match=r"none\.pem"):
        ClientTls(PoolTls(ca=str(authority.folder / "none.pem")))


def test_the_reason_of_a_failed_handshake_is_in_words() -> None:
    assert handshake_reason(OSError("cut")) == "cut"
    error = ssl.SSLError(1, "x")
    error.reason = "WRONG_VERSION_NUMBER"
    assert handshake_reason(error) == "wrong version number"
