"""`tierlb dev-certificate`: an authority and a certificate of its own, to try TLS out.

Every run signs a new certificate; the authority stays, so that what trusts it once goes on to. Left out: anything that
production needs, such as renewal, revocation and a key that is kept elsewhere.
"""

import datetime
import ipaddress
import os
from pathlib import Path
from typing import Any, Final

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

AUTHORITY_DAYS: Final = 3650
DEFAULT_NAMES: Final = ("localhost", "127.0.0.1", "::1")


def make_certificate(folder: Path, names: tuple[str, ...], days: int) -> None:
    """Write ca.pem and ca.key unless they are there, and certificate.pem and certificate.key. Raises OSError, and
    ValueError for an authority that cannot be read."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    authority, authority_key = _authority(folder, now)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        _builder(subject, authority.subject, key, now, days)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _write_pair(folder, "certificate", certificate, key)


def _authority(folder: Path, now: datetime.datetime) -> tuple[Any, Any]:
    """That of before, or a new one."""
    certificate, key = folder / "ca.pem", folder / "ca.key"
    if certificate.exists() and key.exists():
        known = load_pem_private_key(key.read_bytes(), None)
        return x509.load_pem_x509_certificate(certificate.read_bytes()), known
    made = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tierlb dev-certificate authority")])
    signs = {"digital_signature": True, "key_cert_sign": True, "crl_sign": True}
    not_for = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage = x509.KeyUsage(**signs, **dict.fromkeys((*not_for, "encipher_only", "decipher_only"), False))
    authority = (
        _builder(name, name, made, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(made, hashes.SHA256())
    )
    _write_pair(folder, "ca", authority, made)
    return authority, made


def _builder(subject: Any, issuer: Any, key: Any, now: datetime.datetime, days: int) -> Any:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _general_name(name: str) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_pair(folder: Path, name: str, certificate: Any, key: Any) -> None:
    """The key first, so that nothing looks for it in vain."""
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for suffix, content, mode in (("key", private, 0o600), ("pem", certificate.public_bytes(Encoding.PEM), 0o644)):
        place = folder / f"{name}.{suffix}"
        fresh = place.with_name(f"{place.name}.new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
            stream.write(content)
        fresh.replace(place)


def run_dev_certificate(names: tuple[str, ...], output: Path, days: int) -> None:
    """Make it, and say how it is used. Raises ClickException."""
    wanted = names or DEFAULT_NAMES
    try:
        make_certificate(output, wanted, days)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"no certificate was made in {output}: {error}") from error
    pair = f"certificate: {output}/certificate.pem, key: {output}/certificate.key"
    click.echo(f"{output}/certificate.pem and certificate.key are for {', '.join(wanted)}, for {days} days.")
    click.echo(f"A tier shows them by:   tls: {{certificates: [{{{pair}}}]}}")
    click.echo(f"Clients trust them by:  curl --cacert {output}/ca.pem https://{wanted[0]}:PORT/")
