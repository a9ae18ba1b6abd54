"""What a certificate says of itself, and pairs of files that do not belong together."""

from pathlib import Path

import pytest

from tests.certificates import Authority
from tierlb.topology.certificates import CertificateFields, UnusableCertificate, read_certificate

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
