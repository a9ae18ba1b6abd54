"""What is logged of certificates, and how often."""

import pytest

from tests.dataplane.conftest import Log
from tierlb.model.load import CertificateExpiry
from tierlb.net.expiry_watch import ExpiryWatch
from tierlb.topology.certificates import DAY_S


def certificate(expires: float) -> CertificateExpiry:
    return CertificateExpiry("shop.pem", ("shop.example",), expires, "clients")


@pytest.mark.parametrize(
    ("days", "event"), [(8.0, None), (6.0, "certificate_expires_soon"), (-1.0, "certificate_expired")]
)
def test_what_expires_within_a_week_is_logged_once_a_day(days: float, event: str | None) -> None:
    log, now = Log(), [0.0]
    watch = ExpiryWatch(log, lambda: now[0])
    for now[0] in (0.0, 0.5 * DAY_S, 0.9 * DAY_S):
        watch.look([certificate(days * DAY_S)])
    fields = {"certificate": "shop.pem", "names": ["shop.example"], "days_left": days}
    assert log.events == ([] if event is None else [(event, fields)])
    now[0] = DAY_S
    watch.look([certificate(days * DAY_S)])
    assert len(log.events) == 2 * (event is not None)


def test_other_certificates_are_looked_at_anew() -> None:
    log = Log()
    watch = ExpiryWatch(log, lambda: 0.0)
    for _ in range(2):
        watch.look([certificate(DAY_S)])
    watch.begin_anew()
    watch.look([certificate(DAY_S)])
    watch.renewed([certificate(90 * DAY_S)])
    soon = "certificate_expires_soon"
    assert [name for name, _ in log.events] == [soon, soon, "certificate_renewed"]
