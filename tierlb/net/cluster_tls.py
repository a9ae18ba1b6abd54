"""The certificate with which a process of the cluster proves itself to others (`security.tls`), on every connection.

Both ends of a control connection and of a data connection between tiers show one, and demand one that the cluster's
authority signed. On data connections its name binds it to a tier: a parent demands that of the tier that it sends to, a
child that of a tier above it. OpenSSL compares the former, and `parent_refusal` the latter.

Files are looked at now and then. If those that changed can be used, connections from then on show them, and those that
are open go on as they are. If not, the reason is logged, and the ones before stay.

Left out: lists of revoked certificates, and session tickets between tiers, whose connections are kept for long.
"""

import ssl
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import attrs
import trio

from tierlb.model.load import CertificateExpiry
from tierlb.model.tls import Tls
from tierlb.net.client_tls import handshake_reason
from tierlb.net.expiry_watch import ExpiryWatch
from tierlb.net.file_stamp import LOOK_EVERY_S, stamp_of
from tierlb.net.tls import TlsProblem, client_context, load_chain, load_client_ca, server_context
from tierlb.net.wheel import NEVER
from tierlb.topology.certificates import (
    CertificateFields,
    UnusableCertificate,
    meet_in_memory,
    read_certificate,
    read_client_certificate,
)


@attrs.frozen(eq=False)
class Contexts:
    """What was made of the files: two for each end, for control connections and for data connections."""

    fields: CertificateFields
    control_server: ssl.SSLContext
    control_client: ssl.SSLContext
    data_server: ssl.SSLContext
    data_client: ssl.SSLContext


class ClusterTls:
    """`now` has the contexts for the next connection. `epoch`: the time in seconds since 1970."""

    def __init__(self, files: Tls, log: Any, epoch: Callable[[], float] = time.time) -> None:
        """Read the files. Raises TlsProblem; an expired certificate is none here."""
        self.files: Final = files
        self._log = log
        self._watch = ExpiryWatch(log, epoch)
        self._stamp = self._look()
        self.now = _load(files)

    def look(self) -> bool:
        """Look at the files, and read them if they changed. Whether there are new contexts."""
        stamp, renewed = self._look(), False
        if stamp != self._stamp:
            self._stamp = stamp
            renewed = self._read_again()
        self._watch.look(self.expiries())
        return renewed

    async def watch(self) -> None:
        """Look again and again, for ever: where nothing else does."""
        while True:
            await trio.sleep(LOOK_EVERY_S)
            self.look()

    def expiries(self) -> tuple[CertificateExpiry, ...]:
        """Of the certificate in use."""
        fields = self.now.fields
        return (CertificateExpiry(self.files.certificate, fields.names, fields.expires, "cluster"),)

    def control_server(self) -> ssl.SSLContext:
        """For the next control connection of a child."""
        return self.now.control_server

    def control_client(self) -> ssl.SSLContext:
        """For the next control connection to a parent."""
        return self.now.control_client

    def lack_for(self, tier: str) -> str:
        """Why nodes of other tiers refuse this certificate as that of the tier; empty if they do not."""
        return tier_lack(self.now.fields, self.files.certificate, tier)

    def _look(self) -> object:
        return stamp_of((self.files.certificate, self.files.key, self.files.ca))

    def _read_again(self) -> bool:
        before, files = self.now, self.files
        try:
            found = _load(files)
            if problem := found.fields.problem(self._watch.epoch()):
                raise TlsProblem(f"the certificate {files.certificate} {problem}")
            if lost := set(before.fields.names) - set(found.fields.names):
                told = ", ".join(sorted(lost))
                raise TlsProblem(f"the certificate {files.certificate} is not for {told} any more; restart to use it")
            refusal = _own_refusal(found)
            if refusal and not _own_refusal(before):
                raise TlsProblem(f"the certificate {files.certificate} would be refused with the CA file: {refusal}")
        except TlsProblem as error:
            self._log.error("certificate_refused", reason=str(error), action="the certificate before stays in use")
            return False
        self.now = found
        self._watch.renewed(self.expiries())
        return True


def tier_lack(fields: CertificateFields, certificate: str, tier: str) -> str:
    """What a certificate lacks for nodes of the tier, in words; empty if nothing."""
    if tier.lower() in fields.names:
        return ""
    return f"the certificate {certificate} is not for the tier {tier}: add DNS:{tier} to its subjectAltName"


def parent_refusal(shown: Mapping[str, Any], parents: Collection[str]) -> str:
    """Why a peer with this certificate (`ssl.SSLSocket.getpeercert`) is no node of one of the parent tiers; empty if it
    is."""
    names = {value.lower() for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"}
    if any(parent.lower() in names for parent in parents):
        return ""
    told = ", ".join(sorted(names)) or "no name"
    return f"its certificate is for {told}, and connections come from {' or '.join(parents) or 'no tier'} alone"


def _own_refusal(contexts: Contexts) -> str:
    """Why a process with these files would refuse itself, as a server or as a client; empty if it would not. That is
    so where each end has another authority, too, so it counts only if it was otherwise before."""
    names = contexts.fields.names
    if names:
        try:
            meet_in_memory(contexts.data_server, contexts.data_client, names[0].removeprefix("*."))
        except ssl.SSLError as error:
            return handshake_reason(error)
    return ""


def _load(files: Tls) -> Contexts:
    """Raises TlsProblem."""
    control = server_context(files), client_context(files)
    try:
        fields = read_certificate(files.certificate, files.key)
    except UnusableCertificate:  # as no server can show it, which an agent need not
        fields = read_client_certificate(files.certificate, files.key) or CertificateFields((), 0.0, NEVER)
    return Contexts(fields, *control, _data_context(files, is_server=True), _data_context(files, is_server=False))


def _data_context(files: Tls, *, is_server: bool) -> ssl.SSLContext:
    """For data connections, of which both ends are tierlb: TLS 1.3 alone. Raises TlsProblem."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED
    context.hostname_checks_common_name = False
    if is_server:
        context.num_tickets = 0
    load_client_ca(context, files.ca)
    load_chain(context, files.certificate, files.key)
    return context
