"""The certificates of a node, as its snapshot names them: read when it is applied, and read again when files change.

Files are looked at with the regular work, by what stat(2) says. Those that changed are read whole. If all of them can
be used, connections from then on get the new ones, and those that are open go on as they are. If not, the reason is
logged, and the ones before stay in use until the files change again.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tierlb.model.load import CertificateExpiry
from tierlb.model.tls import ListenerTls
from tierlb.net.expiry_watch import ExpiryWatch
from tierlb.net.file_stamp import LOOK_EVERY_S, Stamp, stamp_of
from tierlb.net.server_tls import ServedCertificate, ServerTls, load_server_tls
from tierlb.net.tls import TlsProblem
from tierlb.net.wheel import NEVER

ServerByTls = Mapping[ListenerTls, ServerTls]
"""What clients are shown, by what the snapshot says of the listener that they connect to."""


class Certificates:
    """`served`: what new connections get; empty where clients speak no TLS. `shown`: with what the snapshot before had,
    for connections that come to a listener as it ends. `_prepared`: what the files were before they were read for a
    snapshot."""

    def __init__(self, log: Any, epoch: Callable[[], float] = time.time) -> None:
        """`epoch`: the time in seconds since 1970."""
        self.served: ServerByTls = {}
        self.shown: ServerByTls = {}
        self._log = log
        self._watch = ExpiryWatch(log, epoch)
        self._stamps: dict[ListenerTls, Stamp] = {}
        self._prepared: dict[ListenerTls, Stamp] = {}
        self._look_at = NEVER

    def prepare(self, wanted: Iterable[ListenerTls | None]) -> ServerByTls:
        """What a snapshot asks for, as it is served already or as its files have it. Raises TlsProblem."""
        self._prepared, found = {}, {}
        for tls in dict.fromkeys(wanted):
            if tls is not None:
                self._prepared[tls] = self._stamps.get(tls) or stamp_of(_files(tls))
                found[tls] = self.served.get(tls) or load_server_tls(tls)
        return found

    def use(self, served: ServerByTls, now: float) -> None:
        """Serve what was prepared."""
        if served != self.served:
            self.shown = {**self.served, **served}
            self.served = served
            self._stamps = self._prepared
            self._look_at = now + LOOK_EVERY_S if served else NEVER
            self._watch.begin_anew()
            self._watch.look(self.expiries())

    def tick(self, now: float) -> float:
        """Look at the files, if that is due. Returns when it is due next."""
        if not self.served or now < self._look_at:
            return self._look_at
        self._look_at = now + LOOK_EVERY_S
        for tls in self.served:
            stamp = stamp_of(_files(tls))
            if stamp != self._stamps.get(tls):
                self._stamps[tls] = stamp
                self._read_again(tls)
        self._watch.look(self.expiries())
        return self._look_at

    def _read_again(self, tls: ListenerTls) -> None:
        """The files changed."""
        try:
            found = load_server_tls(tls)
            self._refuse_invalid(found)
        except TlsProblem as error:
            self._log.error("certificate_refused", reason=str(error), action="the certificates before stay in use")
            return
        self.served = {**self.served, tls: found}
        self.shown = {**self.shown, tls: found}
        self._watch.renewed(map(_expiry, found.certificates))

    def _refuse_invalid(self, found: ServerTls) -> None:
        now = self._watch.epoch()
        for certificate in found.certificates:
            if problem := certificate.fields.problem(now):
                raise TlsProblem(f"certificate {certificate.files.certificate} {problem}")

    @property
    def certificates(self) -> tuple[ServedCertificate, ...]:
        """All that clients are shown, each file once."""
        every = (each for server in self.served.values() for each in server.certificates)
        return tuple({each.files: each for each in every}.values())

    def expiries(self) -> tuple[CertificateExpiry, ...]:
        """Of all that clients are shown."""
        return tuple(map(_expiry, self.certificates))


def _expiry(certificate: ServedCertificate) -> CertificateExpiry:
    fields = certificate.fields
    return CertificateExpiry(certificate.files.certificate, fields.names, fields.expires, "clients")


def _files(tls: ListenerTls) -> list[str]:
    pairs = [name for pair in tls.certificates for name in (pair.certificate, pair.key)]
    return pairs if tls.client_ca is None else [*pairs, tls.client_ca]
