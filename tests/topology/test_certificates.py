"""What a certificate says of itself, and pairs of files that do not belong together."""

from pathlib import Path

import pytest

from tests.certificates import Authority
from tierlb.topology.certificates import (
    CertificateFields,
    UnusableCertificate,
    read_certificate,
    read_client_certificate,
)

DAY_S = 86_400


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_names_and_times_are_read(authority: Authority) -> None:
    files = authority.issue("Shop.example", "*.shop.example", "192.0.2.1", days=90)
    fields = read_certificate(files.certificate, files.key)
    assert set(fields.names) == {"shop.example", "*.shop.example", "192.0.2.1"}
    assert fields.expires - fields.begins == pytest.approx(90 * DAY_S, abs=2)


def test_an_expired_certificate_is_read_too(authority: Authority) -> None:
    files = authority.issue(days=1, since=-10)
    assert read_certificate(files.certificate, files.key).names


@pytest.mark.parametrize(("now", "problem"), [(9, "is not valid yet"), (10, ""), (19, ""), (20, "has expired")])
def test_a_certificate_is_valid_from_its_first_second_to_its_last(now: float, problem: str) -> None:
    assert CertificateFields((), 10, 20).problem(now) == problem


@pytest.mark.parametrize("about", ["key", "certificate"])
def test_what_cannot_be_used_says_which_file_is_to_blame(authority: Authority, about: str) -> None:
    files, other = authority.issue(), authority.issue(file="other")
    certificate, key = (files.certificate, other.key) if about == "key" else (files.key, files.key)
    with pytest.raises(UnusableCertificate) as caught:
        read_certificate(certificate, key)
    assert caught.value.about == about


@pytest.mark.parametrize("days", [90, 5])
def test_what_servers_are_shown_is_read_too(authority: Authority, days: float) -> None:
    files = authority.issue("node.example", days=days, since=-10)
    fields = read_client_certificate(files.certificate, files.key)
    assert fields is not None
    assert fields.names == ("node.example",)
    assert fields == read_certificate(files.certificate, files.key)


def test_nothing_is_known_of_files_that_servers_cannot_be_shown(authority: Authority) -> None:
    files, other = authority.issue(), authority.issue(file="other")
    assert read_client_certificate(files.certificate, other.key) is None
    assert read_client_certificate(str(authority.folder / "none.pem"), files.key) is None
