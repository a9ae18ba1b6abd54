import pytest

from tierlb.dataplane.l7 import date
from tierlb.dataplane.l7.date import date_line


class Clock:
    now = 784111777.9

    def time(self) -> float:
        return self.now


def test_the_date_is_that_of_the_clock_and_written_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(date, "time", clock)
    line = date_line()
    assert line == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    assert date_line() is line
    clock.now += 0.2
    assert date_line() == b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
