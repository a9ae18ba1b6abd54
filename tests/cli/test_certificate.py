"""Certificates for trying TLS out: servers and clients take them, and a second run keeps the authority."""

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from tierlb.cli.main import main
from tierlb.topology.certificates import read_certificate

DAY_S = 86_400


def made(folder: Path, *arguments: str) -> str:
    result = CliRunner().invoke(main, ["dev-certificate", "--output", str(folder), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def fields(folder: Path):
    return read_certificate(str(folder / "certificate.pem"), str(folder / "certificate.key"))


def test_a_client_that_trusts_the_authority_takes_it(tmp_path: Path) -> None:
    made(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "certificate.key")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    near, far = socket.socketpair()

    def serve() -> None:
        with server.wrap_socket(far, server_side=True) as secured:
            secured.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(near, server_hostname="localhost") as secured:
        assert secured.recv(10) == b"hello"
    thread.join()


def test_names_and_days_are_those_that_were_asked_for(tmp_path: Path) -> None:
    """They are written where --output says."""
    said = made(tmp_path, "shop.example", "*.shop.example", "192.0.2.1", "--days", "7")
    found = fields(tmp_path)
    assert set(found.names) == {"shop.example", "*.shop.example", "192.0.2.1"}
    assert 7 * DAY_S <= found.expires - found.begins < 8 * DAY_S
    assert "shop.example" in said
    assert f"--cacert {tmp_path}/ca.pem" in said


def test_a_second_run_keeps_the_authority(tmp_path: Path) -> None:
    made(tmp_path)
    authority, before = (tmp_path / "ca.pem").read_bytes(), (tmp_path / "certificate.pem").read_bytes()
    made(tmp_path)
    assert (tmp_path / "ca.pem").read_bytes() == authority
    assert (tmp_path / "certificate.pem").read_bytes() != before
    assert fields(tmp_path).names


@pytest.mark.parametrize("name", ["ca.key", "certificate.key"])
def test_keys_are_for_their_owner_alone(tmp_path: Path, name: str) -> None:
    made(tmp_path)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["dev-certificate", "--output", str(tmp_path / "file" / "x")])
    assert result.exit_code == 1
    assert "no certificate was made" in result.output
