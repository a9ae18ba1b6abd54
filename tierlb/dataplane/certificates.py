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
from tierlb.net.cluster_tls import EXPIRY_SOON_S, LOOK_EVERY_S
from tierlb.net.file_stamp import Stamp, stamp_of
from tierlb.net.server_tls import ServedCertificate, ServerTls, load_server_tls
from tierlb.net.tls import TlsProblem
from tierlb.net.wheel import NEVER
from tierlb.topology.certificates import DAY_S

ServerByTls = Mapping[ListenerTls, ServerTls]
"""What clients are shown, by what the snapshot says of the listener that they connect to."""


class Certificates:
    """`served`: what new connections get; empty where clients speak no TLS. `shown`: with what the snapshot before had,
    for connections that come to a listener as it ends. `_prepared`: what the files were before they were read for a
    snapshot. `epoch`: the time in seconds since 1970."""

    def __init__(self, log: Any, epoch: Callable[[], float] = time.time) -> None:
        self.served: ServerByTls = {}
        self.shown: ServerByTls = {}
        self._log = log
        self._epoch = epoch
        self._stamps: dict[ListenerTls, Stamp] = {}
        self._prepared: dict[ListenerTls, Stamp] = {}
        self._look_at = NEVER
        self._warned_at = -DAY_S

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
            self._warned_at = -DAY_S
            self._look_at_expiry()

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
        self._look_at_expiry()
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
        for certificate in found.certificates:
            name, names, days = self._said(certificate)
            self._log.info("certificate_renewed", certificate=name, names=names, days_left=days)

    def _refuse_invalid(self, found: ServerTls) -> None:
        now = self._epoch()
        for certificate in found.certificates:
            if problem := certificate.fields.problem(now):
                raise TlsProblem(f"certificate {certificate.files.certificate} {problem}")

    def _look_at_expiry(self) -> None:
        now = self._epoch()
        if now - self._warned_at < DAY_S:
            return
        for certificate in self.certificates:
            if certificate.fields.expires - now >= EXPIRY_SOON_S:
                continue
            self._warned_at = now
            name, names, days = self._said(certificate)
            if days <= 0:
                self._log.error("certificate_expired", certificate=name, names=names, days_left=days)
            else:
                self._log.warning("certificate_expires_soon", certificate=name, names=names, days_left=days)

    @property
    def certificates(self) -> tuple[ServedCertificate, ...]:
        """All that clients are shown, each file once."""
        every = (each for server in self.served.values() for each in server.certificates)
        return tuple({each.files: each for each in every}.values())

    def expiries(self) -> tuple[CertificateExpiry, ...]:
        """Of all that clients are shown."""
        return tuple(
            CertificateExpiry(each.files.certificate, each.fields.names, each.fields.expires, "clients")
            for each in self.certificates
        )

    def _said(self, certificate: ServedCertificate) -> tuple[str, list[str], float]:
        """Its file, its names and the days until it expires."""
        days = (certificate.fields.expires - self._epoch()) / DAY_S
        return certificate.files.certificate, list(certificate.fields.names), round(days, 1)


def _files(tls: ListenerTls) -> list[str]:
    pairs = [name for pair in tls.certificates for name in (pair.certificate, pair.key)]
    return pairs if tls.client_ca is None else [*pairs, tls.client_ca]
