"""TLS as the topology file has it, as values: for the control channel, the admin API, and the clients of a tier."""

import enum

import attrs


@attrs.frozen
class Tls:
    """PEM files for the control channel and for connections between tiers. Both ends present `certificate` and require
    one that `ca` signed."""

    certificate: str
    key: str
    ca: str


@attrs.frozen
class AdminTls:
    """PEM files for the admin API, which presents the certificate and requires none."""

    certificate: str
    key: str


class LeastTls(enum.Enum):
    """The oldest version of TLS that clients may speak."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


class Alpn(enum.Enum):
    """A protocol that is offered over TLS (RFC 7301)."""

    HTTP_2 = "h2"
    HTTP_1_1 = "http/1.1"


class ClientCertificates(enum.Enum):
    """Whether clients have to show a certificate, or may."""

    REQUIRE = "require"
    OPTIONAL = "optional"


@attrs.frozen
class CertificateFiles:
    """A certificate, with those of the authorities between, and its key, in PEM files."""

    certificate: str
    key: str


class NoTls(enum.Enum):
    """At one listener of a tier clients speak no TLS."""

    OFF = "off"


@attrs.frozen(cache_hash=True)  # a node looks up by it what it shows to the client of each connection
class ListenerTls:
    """The TLS that clients of a tier, or of one of its listeners, speak. The first of `certificates` is for names
    that none is for. `alpn`: empty where the protocol is not negotiated. `client_ca`: a PEM file of the authorities
    whose certificates clients show; None: they are asked for none."""

    certificates: tuple[CertificateFiles, ...]
    alpn: tuple[Alpn, ...] = ()
    minimum: LeastTls = LeastTls.TLS_1_2
    client_ca: str | None = None
    client_certificates: ClientCertificates = ClientCertificates.REQUIRE


@attrs.frozen
class PoolTls:
    """The TLS that endpoints of a pool speak. `ca`: a PEM file of the authorities that sign their certificates; None:
    those that the machine trusts. `server_name`: what their certificates are for; None: the name in DNS, or each its
    address. `certificate` and `key` are shown to them. Without `verify` any certificate is taken."""

    ca: str | None = None
    server_name: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify: bool = True
