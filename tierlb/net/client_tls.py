"""TLS towards the endpoints of one pool, by the files that the pool names, and the protocol that is agreed on in it; or
towards the nodes of one tier.

Left out: going on with sessions (kept connections make handshakes rare), and checks of revocation.
"""

import ssl
from collections.abc import Sequence
from typing import Final

from tierlb.model.tls import PoolTls
from tierlb.model.topology import PoolProtocol
from tierlb.net.tls import TlsProblem, load_chain, load_client_ca
from tierlb.topology.certificates import CertificateFields, read_client_certificate

HTTP_2: Final = "h2"
HTTP_1_1: Final = "http/1.1"
OFFERED: Final = {PoolProtocol.H2: (HTTP_2,), PoolProtocol.AUTO: (HTTP_2, HTTP_1_1)}
"""By ALPN (RFC 7301); other pools offer HTTP/1.1."""
NO_HTTP_2: Final = "no HTTP/2 (ALPN), which protocol: h2 of its pool demands: enable it there, or write protocol: auto"
"""What is wrong with an endpoint whose handshake ends without HTTP/2."""


class ClientTls:
    """`context` is that of the files as they were read last, and `shown` what is known of the certificate in them. In
    `context_http1` HTTP/1.1 alone is offered, and in `context_checks` what health checks speak. `server_name`: what
    the certificates of all endpoints are for; None: each is for its own address."""

    def __init__(
        self,
        tls: PoolTls,
        server_name: str | None = None,
        protocol: PoolProtocol | None = PoolProtocol.HTTP1,
        *,
        checks: PoolProtocol | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`server_name`: where the pool names none itself. `protocol` None: no protocol is offered. `checks`: what
        health checks speak, None: the same. `context`: where it is made elsewhere. Raises TlsProblem."""
        self.tls = tls
        self.protocol = protocol
        self.checks = checks or protocol
        self.server_name = tls.server_name or server_name
        self.shown: CertificateFields | None = None
        if context is None:
            self.read_again()
        else:
            self.take(context)

    def take(self, context: ssl.SSLContext) -> None:
        """Use this one from now on, which was made elsewhere."""
        self.context = self.context_http1 = self.context_checks = context

    def name_of(self, host: str) -> str:
        """What the certificate of the endpoint at this host is to be for. A unix socket is one of this machine."""
        return self.server_name or ("localhost" if host.startswith("/") else host)

    def read_again(self) -> None:
        """The files changed. Raises TlsProblem, and goes on as before."""
        offered, of_checks = _offered(self.protocol), _offered(self.checks)
        context = client_context_for(self.tls, offered)
        self.context_http1 = client_context_for(self.tls) if HTTP_2 in offered else context
        self.context_checks = context if of_checks == offered else client_context_for(self.tls, of_checks)
        self.context = context
        self.shown = _shown(self.tls)


def _offered(protocol: PoolProtocol | None) -> tuple[str, ...]:
    return () if protocol is None else OFFERED.get(protocol, (HTTP_1_1,))


def _shown(tls: PoolTls) -> CertificateFields | None:
    return read_client_certificate(tls.certificate, tls.key) if tls.certificate and tls.key else None


def handshake_reason(error: BaseException) -> str:
    """Why a handshake failed, in words."""
    reason = getattr(error, "verify_message", "") or getattr(error, "reason", None) or str(error)
    return str(reason).replace("_", " ").lower()


def agreed_on_nothing(reason: str) -> bool:
    """Whether a handshake failed because the server speaks none of the protocols that it was offered."""
    return "no application protocol" in reason


def client_context_for(tls: PoolTls, offered: Sequence[str] = (HTTP_1_1,)) -> ssl.SSLContext:
    """`offered`: protocols, the best first. Raises TlsProblem."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(offered)
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
