"""The two questions a topology answers by itself: who sends to whom."""

from tierlb.model.topology import Forward, Kind, Match, Pool, Respond, Route, Share, Tier, Topology


def tier(name: str, *actions: Forward | Respond) -> Tier:
    return Tier(name, Kind.L7, tuple(Route(Match(), action) for action in actions))


def to(*names: str) -> Forward:
    return Forward((Share(1, names),))


def test_targets_are_named_once_in_the_files_order() -> None:
    split = Forward((Share(9, ("b", "a")), Share(1, ("c",))))
    assert tier("web", to("a"), Respond(), split).targets == ("a", "b", "c")
    assert tier("web", Respond()).targets == ()


def test_parents_are_the_tiers_that_send_there() -> None:
    tiers = [tier("edge", to("web", "old")), tier("web", to("app")), tier("old", Respond(), to("app"))]
    topology = Topology("shop", {t.name: t for t in tiers}, {"app": Pool("app")})
    assert [parent.name for parent in topology.parents("app")] == ["web", "old"]
    assert [parent.name for parent in topology.parents("old")] == ["edge"]
    assert topology.parents("edge") == ()
