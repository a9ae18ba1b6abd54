"""TLS towards the endpoints of one pool, by the files that the pool names.

Left out: going on with sessions (kept connections make handshakes rare), and checks of revocation.
"""

import ssl

from tierlb.model.tls import PoolTls
from tierlb.net.tls import TlsProblem, load_chain, load_client_ca
from tierlb.topology.certificates import CertificateFields, read_client_certificate


class ClientTls:
    """`context` is that of the files as they were read last, and `shown` what is known of the certificate in them.
    `server_name`: what the certificates of all endpoints are for; None: each is for its own address."""

    def __init__(self, tls: PoolTls, server_name: str | None = None) -> None:
        """`server_name`: where the pool names none itself. Raises TlsProblem."""
        self.tls = tls
        self.server_name = tls.server_name or server_name
        self.context = client_context_for(tls)
        self.shown = _shown(tls)

    def name_of(self, host: str) -> str:
        """What the certificate of the endpoint at this host is to be for."""
        return self.server_name or host

    def read_again(self) -> None:
        """The files changed. Raises TlsProblem, and goes on as before."""
        self.context = client_context_for(self.tls)
        self.shown = _shown(self.tls)


def _shown(tls: PoolTls) -> CertificateFields | None:
    return read_client_certificate(tls.certificate, tls.key) if tls.certificate and tls.key else None


def handshake_reason(error: BaseException) -> str:
    """Why a handshake failed, in words."""
    reason = getattr(error, "verify_message", "") or getattr(error, "reason", None) or str(error)
    return str(reason).replace("_", " ").lower()


def client_context_for(tls: PoolTls) -> ssl.SSLContext:
    """Raises TlsProblem."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca is None:
        context.load_default_certs()
    else:
        load_client_ca(context, tls.ca)
    if tls.certificate is not None:
        if tls.key is None:
            raise TlsProblem(f"the certificate {tls.certificate} has no key")
        load_chain(context, tls.certificate, tls.key)
    return context
