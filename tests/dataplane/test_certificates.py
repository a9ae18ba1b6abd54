"""Certificates that are renewed while a node serves, those that are refused, and those that expire."""

from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.dataplane.conftest import Log
from tierlb.dataplane.certificates import Certificates
from tierlb.model.tls import ListenerTls
from tierlb.net.file_stamp import LOOK_EVERY_S
from tierlb.net.tls import TlsProblem
from tierlb.topology.certificates import DAY_S


class Times:
    """What the certificates take for the time of day."""

    def __init__(self) -> None:
        import time

        self.epoch = time.time()


class Desk:
    """The certificates of a node, and the files that its snapshot names."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.log = Log()
        self.times = Times()
        self.now = 0.0
        self.certificates = Certificates(self.log, lambda: self.times.epoch)
        self.tls = authority.tls()
        self.certificates.use(self.certificates.prepare([self.tls]), self.now)

    def looks(self) -> None:
        self.now += LOOK_EVERY_S
        self.certificates.tick(self.now)

    @property
    def names(self) -> tuple[str, ...]:
        return self.certificates.served[self.tls].certificates[0].fields.names


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Authority(tmp_path))


def test_a_renewed_certificate_is_taken_within_seconds(desk: Desk) -> None:
    desk.authority.issue("new.example")
    desk.certificates.tick(desk.now + LOOK_EVERY_S / 2)
    assert desk.names == ("shop.example",)
    desk.looks()
    assert desk.names == ("new.example",)
    assert desk.log.count("certificate_renewed") == 1


def test_files_that_stay_are_not_read_again(desk: Desk) -> None:
    served = desk.certificates.served
    desk.looks()
    assert desk.certificates.served is served


def spoil(desk: Desk, how: str) -> None:
    (files,) = desk.tls.certificates
    if how == "another key":
        other = desk.authority.issue(file="other")
        Path(files.key).write_bytes(Path(other.key).read_bytes())
    elif how == "expired":
        desk.authority.issue(days=1, since=-10)
    elif how == "not valid yet":
        desk.authority.issue(since=5)
    elif how == "gone":
        Path(files.certificate).unlink()
    else:
        Path(files.certificate).write_text("half of a cert")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("another key", "does not fit"),
        ("expired", "has expired"),
        ("not valid yet", "is not valid yet"),
        ("gone", "No such file"),
        ("half written", "certificate"),
    ],
)
def test_what_cannot_be_served_is_refused_once_and_the_one_before_stays(desk: Desk, how: str, said: str) -> None:
    before = desk.certificates.served
    spoil(desk, how)
    desk.looks()
    desk.looks()
    assert desk.certificates.served is before
    ((_, fields),) = [each for each in desk.log.events if each[0] == "certificate_refused"]
    assert said in fields["reason"]
    desk.authority.issue("mended.example")
    desk.looks()
    assert desk.names == ("mended.example",)


def test_a_snapshot_that_asks_for_the_same_reads_nothing(desk: Desk) -> None:
    assert desk.certificates.prepare([desk.tls, None, desk.tls]) == desk.certificates.served


def test_a_snapshot_whose_files_cannot_be_served_is_a_problem(desk: Desk) -> None:
    spoil(desk, "gone")
    with pytest.raises(TlsProblem, match="No such file"):
        Certificates(desk.log).prepare([desk.tls])


def test_a_snapshot_without_tls_ends_it(desk: Desk) -> None:
    desk.certificates.use(desk.certificates.prepare([None]), 0.0)
    assert desk.certificates.served == {}
    assert desk.tls in desk.certificates.shown, "to connections that come as the listener ends"
    desk.looks()


def test_of_several_that_are_served_the_one_whose_files_changed_is_read_again(desk: Desk) -> None:
    other = ListenerTls((desk.authority.issue("other.example", file="other"),))
    desk.certificates.use(desk.certificates.prepare([desk.tls, other]), desk.now)
    before = desk.certificates.served[desk.tls]
    desk.authority.issue("new.example", file="other")
    desk.looks()
    assert desk.certificates.served[desk.tls] is before
    assert desk.certificates.served[other].certificates[0].fields.names == ("new.example",)
    assert desk.certificates.shown == desk.certificates.served


def test_a_certificate_that_is_about_to_expire_is_logged_once_a_day(desk: Desk) -> None:
    desk.times.epoch += 83 * DAY_S
    desk.looks()
    desk.looks()
    assert desk.log.count("certificate_expires_soon") == 1
    desk.times.epoch += 7 * DAY_S
    desk.looks()
    assert desk.log.count("certificate_expired") == 1
    assert desk.certificates.served, "it is served all the same: some clients may take it"
