import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.model.load import SubtreeLoad
from tierlb.model.topology import Admin
from tierlb.wire.agent_check import AgentReply, NodeReplies, encode_reply, parse_reply


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"up\n", AgentReply(health=True)),
        (b"UP Ready 75%\r\n", AgentReply(0.75, admin=Admin.READY, health=True)),
        (b"75%,maxconn:30,maint,down\n", AgentReply(0.75, 30, Admin.MAINTENANCE, False, "down")),
        (b"drain\tmaxconn:0\n", AgentReply(maxconn=0, admin=Admin.DRAIN)),
        (b"stopped # gone home, 100%\n", AgentReply(health=False, reason="gone home, 100%")),
        (b"fail#x\n", AgentReply(health=False, reason="x")),
        (b"ready # said without a health word\n", AgentReply(admin=Admin.READY)),
        (b"drain up ready 5% 7%\n", AgentReply(0.07, admin=Admin.READY, health=True)),
        (b"down up\n", AgentReply(health=True)),
        (b"150%", AgentReply(1.5)),
        (b"weight:30%\n", AgentReply(0.3)),
        (b"up Weight:0%,maxconn:3\n", AgentReply(0.0, 3, health=True)),
        (b"weight:50 weight:% 40%%\n", AgentReply(problem="weight:50")),
        (b"999999999999%", AgentReply(256.0)),
        (b"0%\nup\n", AgentReply(0.0)),
        (b"up half 7.5% -3%\n", AgentReply(health=True, problem="half")),
        (b"maxconn:many 50%\n", AgentReply(0.5, problem="maxconn:many")),
        (b"maxconn:%s\n" % (b"9" * 40), AgentReply(problem="maxconn:" + "9" * 40)),
        (b"", AgentReply()),
        (b"\n", AgentReply()),
        (b" , \n", AgentReply()),
        (b"down #a\x1b[31mb\xff\n", AgentReply(health=False, reason="a?[31mb\ufffd")),
    ],
)
def test_a_line_is_understood_as_haproxy_does(line, says):
    assert parse_reply(line) == says


@given(st.binary(max_size=2000))
def test_no_line_is_too_odd_to_be_read(line):
    says = parse_reply(line)
    assert says.weight is None or 0 <= says.weight <= 256
    assert says.maxconn is None or says.maxconn >= 0
    assert (says.reason + says.problem).isprintable()


@given(
    st.none() | st.integers(0, 25_600).map(lambda percent: percent / 100),
    st.none() | st.integers(0, 10**8),
    st.none() | st.sampled_from(Admin),
    st.none() | st.booleans(),
)
def test_what_is_written_is_read_again(weight, maxconn, admin, health):
    reason = "nobody home" if health is False else ""
    says = AgentReply(weight, maxconn, admin, health, reason)
    assert parse_reply(encode_reply(says)) == says
    assert encode_reply(says).endswith(b"\n")


def test_a_reason_cannot_start_a_second_line():
    assert encode_reply(AgentReply(health=False, reason="a\nup 100%")) == b"down #a?up 100%\n"


@pytest.mark.parametrize(
    ("load", "line"),
    [
        (SubtreeLoad(leaves=2, ready_leaves=2, capacity=50.0), b"ready up 100%\n"),
        (SubtreeLoad(leaves=2, ready_leaves=2), b"ready up 100%\n"),  # nothing is known yet
        (SubtreeLoad(), b"ready up 100%\n"),  # a node that answers everything itself
        (SubtreeLoad(leaves=2, utilisation=0.99, ready_leaves=1, capacity=50.0), b"ready up 100%\n"),
        (SubtreeLoad(leaves=2, ready_leaves=2, capacity=50.0, draining=True), b"drain 100%\n"),
        (SubtreeLoad(leaves=2), b"ready down 100% #nothing below is ready\n"),
    ],
)
def test_a_node_says_drain_when_it_drains_and_down_when_nothing_below_is_ready(load, line):
    assert encode_reply(NodeReplies().reply(1.0, load)) == line


def weights(capacities, step_s=1.0):
    voice = NodeReplies()
    return [
        voice.reply(100.0 + index * step_s, SubtreeLoad(capacity=capacity, leaves=1, ready_leaves=1)).weight
        for index, capacity in enumerate(capacities)
    ]


def test_the_weight_is_the_part_of_its_usual_capacity_that_a_node_has_now():
    assert weights([100.0] * 5 + [50.0] * 3 + [100.0]) == pytest.approx([1.0] * 5 + [0.5] * 3 + [1.0], abs=0.01)


def test_a_change_within_the_deadband_is_not_said_but_full_capacity_always_is():
    assert weights([100.0, 97.0, 90.0, 93.0, 100.0]) == pytest.approx([1.0, 1.0, 0.9, 0.9, 1.0], abs=0.01)


def test_one_mistaken_estimate_does_not_pass_for_the_usual():
    assert weights([100.0] * 5 + [1000.0] + [100.0] * 2)[-1] > 0.7


def test_what_a_node_has_for_hours_becomes_its_usual():
    after = weights([100.0] * 5 + [50.0] * 600, step_s=30.0)
    assert after[5] == pytest.approx(0.5, abs=0.01)
    assert after[-1] > 0.95


def test_a_node_that_can_do_next_to_nothing_is_not_drained():
    assert weights([100.0] * 5 + [0.001])[-1] == 0.01


def test_the_weight_stays_while_no_capacity_is_known():
    assert weights([100.0, 50.0, 0.0, 0.0])[-1] == pytest.approx(0.5, abs=0.01)
