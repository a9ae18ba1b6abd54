"""The TLS that a node speaks to endpoints, by pools: as its snapshot has it, with the files as they are now."""

from collections.abc import Iterable, Mapping
from typing import Any

from tierlb.model.load import CertificateExpiry
from tierlb.model.snapshot import PoolSettings
from tierlb.model.topology import Kind
from tierlb.net.client_tls import ClientTls
from tierlb.net.file_stamp import LOOK_EVERY_S, Stamp, stamp_of
from tierlb.net.tls import TlsProblem
from tierlb.net.wheel import NEVER


class EndpointTls:
    """`by_pool`: pools that speak TLS."""

    def __init__(self, log: Any) -> None:
        self.by_pool: Mapping[str, ClientTls] = {}
        self._log = log
        self._stamps: dict[str, Stamp] = {}
        self._look_at = NEVER

    def prepare(self, pools: Iterable[PoolSettings], kind: Kind = Kind.L7) -> dict[str, ClientTls]:
        """What a snapshot asks for, as it is in use already or as its files have it. At l4 no protocol is offered,
        as it is the client's, but for checks. Raises TlsProblem."""
        found = {}
        for pool in pools:
            if pool.tls is not None:
                name = pool.dns.partition(":")[0] if pool.dns else None
                known = self.by_pool.get(pool.name)
                protocol = pool.protocol if kind is Kind.L7 else None
                wanted = pool.tls, protocol, pool.protocol
                same = known is not None and (known.tls, known.protocol, known.checks) == wanted
                new = known if same else None
                found[pool.name] = new or ClientTls(pool.tls, name, protocol, checks=pool.protocol)
        return found

    def use(self, found: Mapping[str, ClientTls], now: float) -> None:
        """Speak what was prepared."""
        self.by_pool = found
        self._stamps = {name: _stamp(each) for name, each in found.items()}
        self._look_at = now + LOOK_EVERY_S if found else NEVER

    def expiries(self) -> tuple[CertificateExpiry, ...]:
        """Of the certificates that endpoints are shown."""
        return tuple(
            CertificateExpiry(each.tls.certificate, each.shown.names, each.shown.expires, f"pool {name}")
            for name, each in self.by_pool.items()
            if each.shown is not None and each.tls.certificate is not None
        )

    def tick(self, now: float) -> float:
        """Look at the files, if that is due. Returns when it is due next."""
        if now < self._look_at:
            return self._look_at
        self._look_at = now + LOOK_EVERY_S
        for name, each in self.by_pool.items():
            stamp = _stamp(each)
            if stamp == self._stamps[name]:
                continue
            self._stamps[name] = stamp
            try:
                each.read_again()
            except TlsProblem as error:
                self._log.error("certificate_refused", reason=str(error), action="the files before stay in use")
        return self._look_at


def _stamp(each: ClientTls) -> Stamp:
    tls = each.tls
    return stamp_of(name for name in (tls.ca, tls.certificate, tls.key) if name is not None)
