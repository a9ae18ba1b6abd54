"""What a certificate is for and until when, and whether it can be used with its key.

A handshake in memory with a client that trusts this certificate alone proves it. That finds a key of another
certificate and one that no server can show, and `ssl` has no other way to read the fields of a certificate.
"""

import ssl
from collections.abc import Callable
from typing import Any, Final

import attrs

DAY_S: Final = 86_400.0
WITHOUT_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL: an expired certificate can be read, too."""


class UnusableCertificate(ValueError):  # noqa: N818 (a verdict on the input)
    """Why the certificate cannot be used with the key; `about` is the key of the topology file to blame."""

    def __init__(self, about: str, reason: str) -> None:
        super().__init__(reason)
        self.about = about


@attrs.frozen
class CertificateFields:
    """`names`: DNS names in lower case, some of which may begin with `*.`, and addresses. `begins` and `expires`: in
    seconds since 1970."""

    names: tuple[str, ...]
    begins: float
    expires: float

    def problem(self, now: float) -> str:
        """Why clients refuse it at this time; empty if they do not."""
        if now >= self.expires:
            return "has expired"
        return "" if now >= self.begins else "is not valid yet"


def read_certificate(certificate: str, key: str) -> CertificateFields:
    """The fields of the first certificate of a PEM file. Raises UnusableCertificate."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(certificate, key, password=_no_passphrase)
    except ssl.SSLError as error:
        fits = error.reason != "KEY_VALUES_MISMATCH"
        reason = tls_reason(error) if fits else "does not fit the certificate, whose key is another one"
        raise UnusableCertificate("certificate" if fits else "key", reason) from error
    except (OSError, ValueError) as error:
        raise UnusableCertificate("certificate", getattr(error, "strerror", None) or str(error)) from error
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | WITHOUT_TIME)
    try:
        client.load_verify_locations(cafile=certificate)
        found = meet_in_memory(server, client)[0].getpeercert() or {}
    except ssl.SSLError as error:
        reason = f"cannot be used by a server: {getattr(error, 'verify_message', '') or tls_reason(error)}"
        raise UnusableCertificate("certificate", reason) from error
    return _fields(found)


def read_client_certificate(certificate: str, key: str) -> CertificateFields | None:
    """The fields of a certificate that servers are shown; None where they cannot be known. The same files serve as the
    server's, whose certificate the client does not look at."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | WITHOUT_TIME)
    try:
        for context in (server, client):
            context.load_cert_chain(certificate, key, password=_no_passphrase)
        server.load_verify_locations(cafile=certificate)
        return _fields(meet_in_memory(server, client)[1].getpeercert() or {})
    except (OSError, ValueError, KeyError):
        return None


def _fields(found: dict[str, Any]) -> CertificateFields:
    names = tuple(value.lower() for kind, value in found.get("subjectAltName", ()) if kind in ("DNS", "IP Address"))
    begins, expires = (ssl.cert_time_to_seconds(found[each]) for each in ("notBefore", "notAfter"))
    return CertificateFields(names, begins, expires)


def tls_reason(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words."""
    return (error.reason or "it is not in PEM form").replace("_", " ").lower()


def _no_passphrase() -> str:
    """Without this OpenSSL would ask at the terminal."""
    raise ValueError("the key is encrypted; write it without a passphrase")


def meet_in_memory(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """The client's and the server's end after a handshake in memory. `name`: which server the client expects. Raises
    ssl.SSLError where one of them refuses the other."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)
    steps: list[Callable[[], None]] = [end.do_handshake for end in ends]
    while steps:
        for step in list(steps):
            try:
                step()
            except ssl.SSLWantReadError:
                continue
            steps.remove(step)
    return ends
