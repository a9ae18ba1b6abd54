"""Certificates of a throw-away CA, as the files that a topology names."""

import attrs
import pytest
import trustme

from tierlb.model.tls import Tls


@attrs.frozen
class Authority:
    """Issues certificates, each with its key in files."""

    ca: trustme.CA
    directory: object
    ca_file: str

    def issue(self, *names):
        """A certificate for the names or addresses."""
        issued = self.ca.issue_cert(*names)
        stem = self.directory / "-".join(names).replace(":", "_")
        certificate, key = f"{stem}.pem", f"{stem}.key"
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(certificate, append=number > 0)
        issued.private_key_pem.write_to_path(key)
        return Tls(certificate, key, self.ca_file)


@pytest.fixture
def make_authority(tmp_path):
    def make(name):
        directory = tmp_path / name
        directory.mkdir()
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(directory / "ca.pem"))
        return Authority(ca, directory, str(directory / "ca.pem"))

    return make


@pytest.fixture
def authority(make_authority):
    return make_authority("ours")


@pytest.fixture
def stranger(make_authority):
    return make_authority("theirs")
