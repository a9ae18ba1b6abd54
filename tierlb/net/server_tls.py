"""What a tier shows to clients that speak TLS: its certificates, of which the client's SNI chooses one.

Left out: stapled OCSP answers and keys of session tickets that nodes share, for which `ssl` has no calls. A ticket is
good at the process that made it, until its certificates are renewed; elsewhere the handshake is a full one.
"""

import ssl
from typing import Any, Final

import attrs

from tierlb.model.tls import CertificateFiles, ClientCertificates, LeastTls, ListenerTls
from tierlb.net.tls import TlsProblem, load_chain, load_client_ca
from tierlb.topology.certificates import CertificateFields, UnusableCertificate, read_certificate
from tierlb.wire.client_hello import normal_server_name
from tierlb.wire.shown_certificate import ShownCertificate

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: those with forward secrecy and authenticated encryption. Those of TLS 1.3 all are."""
VERSIONS: Final = {LeastTls.TLS_1_2: ssl.TLSVersion.TLSv1_2, LeastTls.TLS_1_3: ssl.TLSVersion.TLSv1_3}


@attrs.frozen
class ServedCertificate:
    """One certificate, as it was read from its files, ready for handshakes."""

    files: CertificateFiles
    fields: CertificateFields
    context: ssl.SSLContext = attrs.field(eq=False, repr=False)


class ServerTls:
    """`context` is that of the first certificate. It gives the handshake to that of another one which is for the name
    that the client asks for."""

    def __init__(self, tls: ListenerTls, certificates: tuple[ServedCertificate, ...]) -> None:
        self.tls: Final = tls
        self.certificates: Final = certificates
        self.context: Final = certificates[0].context
        self._by_name: dict[str, ServedCertificate] = {}
        for certificate in certificates:
            for name in certificate.fields.names:
                self._by_name.setdefault(name, certificate)
        self._shown: dict[CertificateFiles, ShownCertificate] = {}
        self.context.sni_callback = self._named

    def certificate_for(self, name: str | None) -> ServedCertificate:
        """The one for a name: exactly, by a wildcard, or the first one."""
        if name is None:
            return self.certificates[0]
        wanted = normal_server_name(name)
        found = self._by_name.get(wanted) or self._by_name.get("*." + wanted.partition(".")[2])
        return found or self.certificates[0]

    def shown_for(self, name: str | None) -> ShownCertificate | None:
        """What a client got that asked for the name; None where that decided nothing."""
        if name is None or len(self.certificates) == 1:
            return None
        certificate = self.certificate_for(name)
        shown = self._shown.get(certificate.files)
        if shown is None:
            own = {each for each, found in self._by_name.items() if found is certificate}
            others = self._by_name.keys() - own
            shown = ShownCertificate(own, others, is_default=certificate is self.certificates[0])
            self._shown[certificate.files] = shown
        return shown

    def _named(self, tls: Any, name: str | None, context: ssl.SSLContext) -> None:
        certificate = self.certificate_for(name)
        if certificate.context is not context:
            tls.context = certificate.context


def load_server_tls(tls: ListenerTls) -> ServerTls:
    """Read the files. Raises TlsProblem; an expired certificate is none here."""
    return ServerTls(tls, tuple(load_certificate(files, tls) for files in tls.certificates))


def load_certificate(files: CertificateFiles, tls: ListenerTls) -> ServedCertificate:
    """Read one certificate with its key. Raises TlsProblem."""
    try:
        fields = read_certificate(files.certificate, files.key)
    except UnusableCertificate as error:
        named = files.key if error.about == "key" else files.certificate
        raise TlsProblem(f"{error.about} {named}: {error}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[tls.minimum]
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    if tls.alpn:
        context.set_alpn_protocols([protocol.value for protocol in tls.alpn])
    load_chain(context, files.certificate, files.key)
    if tls.client_ca is not None:
        load_client_ca(context, tls.client_ca)
        required = tls.client_certificates is ClientCertificates.REQUIRE
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return ServedCertificate(files, fields, context)
