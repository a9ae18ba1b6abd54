"""A flood of one event costs a few lines."""

from tierlb.telemetry.log_quota import BURST, LINES_PER_S, MAX_EVENTS, OTHER_EVENTS, LogQuota


def written(quota, event, times, now):
    return [said for _ in range(times) if (said := quota.admit(event, now)) is not None]


def test_a_burst_is_written_and_the_rest_of_a_flood_is_counted():
    quota = LogQuota()
    assert written(quota, "child_turned_away", 1000, 5.0) == [0] * int(BURST)
    assert quota.losses.suppressed == {"child_turned_away": 1000 - BURST}


def test_the_next_line_says_how_many_were_left_out():
    quota = LogQuota()
    written(quota, "x", int(BURST) + 7, 5.0)
    assert quota.admit("x", 5.0 + 1 / LINES_PER_S) == 7
    assert quota.admit("x", 5.0 + 2 / LINES_PER_S) == 0


def test_a_flood_that_lasts_gets_a_few_lines_a_second():
    quota = LogQuota()
    written(quota, "x", int(BURST), 0.0)
    lines = sum(len(written(quota, "x", 100, tenth / 10)) for tenth in range(1, 101))
    assert lines in (10 * LINES_PER_S - 1, 10 * LINES_PER_S)


def test_events_do_not_take_each_others_places():
    quota = LogQuota()
    written(quota, "x", 1000, 5.0)
    assert quota.admit("y", 5.0) == 0


def test_a_clock_that_jumps_back_gives_and_takes_nothing():
    quota = LogQuota()
    written(quota, "x", int(BURST), 100.0)
    assert quota.admit("x", 1.0) is None
    assert quota.admit("x", 1.0 + 1.5 / LINES_PER_S) == 1


def test_names_that_are_made_of_data_share_one_bucket():
    quota = LogQuota()
    lines = sum(quota.admit(f"event {number}", 5.0) is not None for number in range(5000))
    assert lines == MAX_EVENTS + BURST
    assert quota.losses.suppressed == {OTHER_EVENTS: 5000 - lines}
