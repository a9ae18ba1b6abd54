"""TLS for the control channel: both ends show a certificate and demand one that the cluster's CA signed.

Errors are explained with what to do, because the texts of `ssl` are OpenSSL's. Files that changed are read again by
`net.cluster_tls`. Left out: revocation lists, and system-wide trust: only the one CA that is named counts.
"""

import ssl
from collections.abc import Callable
from typing import TypeAlias

from tierlb.model.load import CertificateExpiry
from tierlb.model.tls import AdminTls, Tls
from tierlb.topology.certificates import (
    UnusableCertificate,
    read_certificate,
)

ContextNow: TypeAlias = Callable[[], ssl.SSLContext]
"""Gives the context for the next connection: files may have changed."""


class TlsProblem(Exception):  # noqa: N818 (the text is the whole message)
    """A certificate, key or CA file cannot be used; the text says which and why."""


def server_context(tls: Tls) -> ssl.SSLContext:
    """For a parent: it refuses clients without a certificate from the CA. Raises TlsProblem."""
    context = _context(ssl.Purpose.CLIENT_AUTH, tls)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def admin_context(tls: AdminTls) -> ssl.SSLContext:
    """For the admin API: clients prove themselves by a token, if at all. Raises TlsProblem."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_chain(context, tls.certificate, tls.key)
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """For a child: the parent's certificate must be from the CA and name the host of its URL. Raises TlsProblem."""
    return _context(ssl.Purpose.SERVER_AUTH, tls)


def admin_expiry(tls: AdminTls | None) -> tuple[CertificateExpiry, ...]:
    """Until when the certificate of the admin API is valid, as its files are now; empty where that cannot be known."""
    if tls is None:
        return ()
    try:
        fields = read_certificate(tls.certificate, tls.key)
    except UnusableCertificate:
        return ()
    return (CertificateExpiry(tls.certificate, fields.names, fields.expires, "admin API"),)


def explain_tls_problem(error: BaseException, host: str) -> str:
    """What went wrong in a handshake with `host`, and what to do; `error` or its cause is from `ssl`."""
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        if "doesn't match" in str(cause) or "not valid for" in str(cause) or cause.verify_code in (62, 64):
            return f"the certificate of {host} is for another name: add {host} to its subjectAltName"
        return f"the certificate of {host} is not trusted ({cause.verify_message}): is it signed by the CA given?"
    if isinstance(cause, ssl.SSLError):
        reason = (getattr(cause, "reason", "") or "").replace("_", " ").lower()
        if "wrong version number" in reason or "record layer failure" in reason:
            return f"{host} does not speak TLS: give the parent its certificate, or join it by ws://"
        if "alert" in reason or "certificate" in reason:
            return f"{host} refused this node's certificate ({reason}): is it signed by the parent's CA?"
        return f"TLS with {host} failed ({reason or cause})"
    return f"{host} broke the connection off during the TLS handshake"


def _context(purpose: ssl.Purpose, tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise TlsProblem(f"the CA file {tls.ca} cannot be used: {_short(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_chain(context, tls.certificate, tls.key)
    return context


def load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Show this certificate. Raises TlsProblem."""
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise TlsProblem(f"the certificate {certificate} cannot be used with the key {key}: {_short(error)}") from error


def load_client_ca(context: ssl.SSLContext, ca: str) -> None:
    """Trust what these authorities signed, and nothing else. Raises TlsProblem."""
    try:
        context.load_verify_locations(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise TlsProblem(f"the CA file {ca} cannot be used: {_short(error)}") from error


def _no_passphrase() -> str:
    """Without this OpenSSL would ask at the terminal."""
    raise ValueError("the key is encrypted; write it without a passphrase")


def _short(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is not in PEM form").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
