from tierlb.controller.progress import MAX_LINES, Progress


def test_a_change_says_so_much_and_no_more():
    progress = Progress("x", 1, "ann")
    for number in range(MAX_LINES + 10):
        progress.add(str(number))
    assert [line.text for line in progress.lines] == [str(number) for number in range(MAX_LINES)]
    assert progress.lines[0].at_s >= 0


def test_a_change_is_over_when_it_has_an_outcome():
    progress = Progress("x", 1, "ann")
    assert not progress.over
    progress.outcome = "done"
    assert progress.over
