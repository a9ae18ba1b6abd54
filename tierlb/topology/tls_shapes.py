"""The shapes of mappings about TLS with clients (see `shapes`)."""

from typing import Annotated, ClassVar

import attrs

from tierlb.model.tls import Alpn, CertificateFiles, ClientCertificates, LeastTls, ListenerTls, NoTls, PoolTls
from tierlb.topology import forms
from tierlb.topology import net_forms as net
from tierlb.topology.typed import Form, Scalar, needs, optional, required
from tierlb.topology.units import shown


def _no_tls(scalar: Scalar) -> NoTls:
    if scalar.text not in ("off", "false"):
        raise ValueError(f"{shown(scalar.text)} is not known: write off, or a mapping with certificates")
    return NoTls.OFF


NoTlsWord = Annotated[NoTls, Form(_no_tls, {"enum": ["off", False]}, write=lambda _: "off")]
"""Some editors write false for off."""


@attrs.frozen(kw_only=True)
class CertificateShape:
    MODEL: ClassVar = CertificateFiles
    certificate: forms.FileName = required("PEM file of the certificate, followed by those of authorities in between")
    key: forms.FileName = required("PEM file of its private key, without a passphrase")


@attrs.frozen(kw_only=True)
class ListenerTlsShape:
    MODEL: ClassVar = ListenerTls
    RULES: ClassVar = (needs({"client_certificates": "client_ca"}),)
    certificates: tuple[CertificateShape, ...] = required(
        "the certificates; a client gets the first that is for the name that it asks for, else the first of all"
    )
    alpn: tuple[Alpn, ...] | None = optional(
        "protocols that are offered (ALPN), the best first (default [h2, http/1.1], at l4 none)"
    )
    minimum: LeastTls | None = optional("the oldest version that clients may speak: 1.2 (the default) or 1.3")
    client_ca: forms.FileName | None = optional(
        "PEM file of the authorities one of which must have signed the certificates that clients show"
    )
    client_certificates: ClientCertificates | None = optional(
        "with client_ca: require (the default: clients without a certificate are refused) or optional"
    )


@attrs.frozen(kw_only=True)
class PoolTlsShape:
    MODEL: ClassVar = PoolTls
    RULES: ClassVar = (needs({"certificate": "key", "key": "certificate"}),)
    ca: forms.FileName | None = optional(
        "PEM file of the authorities that signed the endpoints' certificates (default those that the machine trusts)"
    )
    server_name: net.ApiHost | None = optional(
        "what these certificates are for (default the name in DNS, or each endpoint's address, which for a unix socket "
        "is localhost)"
    )
    certificate: forms.FileName | None = optional("PEM file of the certificate that endpoints are shown")
    key: forms.FileName | None = optional("PEM file of its private key, without a passphrase")
    verify: forms.Switch | None = optional("false: take any certificate (default true)")
