from tierlb.cli.printable import printable


def test_nothing_that_was_written_elsewhere_moves_the_cursor():
    assert printable("web-1\x1b[2J\n→\x9b\u202e") == "web-1�[2J�→��"
