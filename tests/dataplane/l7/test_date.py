from tierlb.dataplane.l7.date import DateField


def test_the_date_is_that_of_the_clock_and_written_once_a_second() -> None:
    now = 784111777.9
    date = DateField(lambda: now)
    line = date.line()
    assert line == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    assert date.line() is line
    now += 0.2
    assert date.line() == b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
