"""What the log says of certificates in use: which were renewed, and once a day which expire soon or have expired."""

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from tierlb.model.load import CertificateExpiry
from tierlb.topology.certificates import DAY_S

EXPIRY_SOON_S: Final = 7 * DAY_S
"""A certificate that expires within this is logged once a day. Renewals come 30 days before, as a rule."""


class ExpiryWatch:
    """`epoch`: the time in seconds since 1970."""

    def __init__(self, log: Any, epoch: Callable[[], float] = time.time) -> None:
        self.epoch: Final = epoch
        self._log = log
        self._warned_at = -DAY_S

    def begin_anew(self) -> None:
        """Other certificates are in use: log what is to be said of them at the next look, whatever was said before."""
        self._warned_at = -DAY_S

    def look(self, certificates: Iterable[CertificateExpiry]) -> None:
        """Log those that expire soon, unless some were logged within a day."""
        now = self.epoch()
        if now - self._warned_at < DAY_S:
            return
        for each in certificates:
            if each.expires - now >= EXPIRY_SOON_S:
                continue
            self._warned_at = now
            name, names, days = self._said(each)
            if days <= 0:
                self._log.error("certificate_expired", certificate=name, names=names, days_left=days)
            else:
                self._log.warning("certificate_expires_soon", certificate=name, names=names, days_left=days)

    def renewed(self, certificates: Iterable[CertificateExpiry]) -> None:
        """Log that new connections get these from now on."""
        for each in certificates:
            name, names, days = self._said(each)
            self._log.info("certificate_renewed", certificate=name, names=names, days_left=days)

    def _said(self, certificate: CertificateExpiry) -> tuple[str, list[str], float]:
        """Its file, its names and the days until it expires."""
        return certificate.file, list(certificate.names), round((certificate.expires - self.epoch()) / DAY_S, 1)
