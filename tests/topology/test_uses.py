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
