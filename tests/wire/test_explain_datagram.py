"""The datagram in which nodes over UDP explain how they chose."""

from tierlb.wire.explain_datagram import MOST_TOLD_BYTES, choices_in, explain_question, nonce_in, with_choice


def test_lines_are_added_from_the_first_tier_down() -> None:
    datagram = explain_question("n1")
    for line in (b'{"node":"edge-1"}', b'{"node":"mid-1"}'):
        assert nonce_in(datagram) == b"n1"
        datagram = with_choice(datagram, line)
    assert choices_in(datagram, "n1") == ['{"node":"edge-1"}', '{"node":"mid-1"}']


def test_only_the_answer_to_the_question_counts() -> None:
    assert nonce_in(b"anything else") is None
    assert nonce_in(b"") is None
    assert choices_in(explain_question("other"), "n1") is None
    assert choices_in(explain_question("n1"), "n1") == []


def test_it_stays_a_datagram_however_many_tiers_there_are() -> None:
    datagram = explain_question("n1")
    for _ in range(100):
        datagram = with_choice(datagram, b"x" * 4000)
    assert len(datagram) <= MOST_TOLD_BYTES
