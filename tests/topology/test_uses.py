import os

import pytest

from tierlb.topology.load import check_text
from tierlb.topology.problems import TopologyError
from tierlb.topology.uses import Use

TEXT = """\
cluster: shop
tiers:
  web: {kind: l7, listen: "127.0.0.1:8080", to: app}
pools:
  app: {endpoints: ["127.0.0.1:9001"]}
store: etcd://10.0.0.7:2379
"""


def test_a_store_is_refused_under_up_with_its_place_and_where_it_acts():
    with pytest.raises(TopologyError) as caught:
        check_text(TEXT, "shop.yaml", Use.UP)
    (problem,) = caught.value.problems
    assert str(problem).startswith("shop.yaml:6:1: store: is for `tierlb controller`, of which several share it")


@pytest.mark.parametrize("use", [None, Use.CONTROLLER])
def test_a_store_is_right_elsewhere(use):
    assert check_text(TEXT, "shop.yaml", use).topology.store is not None


def test_what_other_faults_there_are_is_told_in_the_same_go():
    with pytest.raises(TopologyError) as caught:
        check_text(TEXT.replace("to: app", "to: ap"), "shop.yaml", Use.UP)
    assert [problem.path for problem in caught.value.problems] == ["tiers.web.to", "store"]


PINNED = """\
cluster: shop
tiers:
  web: {kind: l7, listen: "127.0.0.1:8080", cpus: [0-1, 4095], routes: [{respond: {}}]}
"""


def test_cpus_that_cannot_be_used_here_are_a_fault_where_nodes_are_started_and_a_warning_elsewhere():
    cpus = sorted(os.sched_getaffinity(0))
    text = PINNED.replace("0-1", str(cpus[0]))
    told = "f:3:51: tiers.web.cpus: CPU 4095 cannot be used here: write some of those that `tierlb up` may use, as "
    with pytest.raises(TopologyError) as caught:
        check_text(text, "f", Use.UP)
    assert str(caught.value.problems[0]).startswith(told)
    (warning,) = check_text(text, "f").warnings
    assert str(warning).startswith(told.replace("tiers", "warning: tiers"))
    assert check_text(text, "f", Use.CONTROLLER).warnings == ()
    assert check_text(text.replace(", 4095", ""), "f", Use.UP).warnings == ()
    assert sorted(os.sched_getaffinity(0)) == cpus


def test_nodes_that_are_started_elsewhere_have_no_numbers_to_be_pinned_by():
    text = PINNED.replace("[0-1, 4095]", "auto")
    with pytest.raises(TopologyError) as caught:
        check_text(text, "f", Use.CONTROLLER)
    assert str(caught.value.problems[0]).startswith("f:3:51: tiers.web.cpus: auto gives each node of `tierlb up` a CPU")
    assert check_text(text, "f", Use.UP).topology.tiers["web"].cpus == ()
