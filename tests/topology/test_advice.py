import pytest

from tierlb.topology.load import check_text
from tierlb.topology.uses import Use

TEXT = """\
cluster: shop
tiers:
  web: {kind: l7, listen: "127.0.0.1:8080", to: app}
pools:
  app: {run: {command: "app {port}"}}
"""
FOR_CONTAINERS = TEXT.replace("to: app", "to: app, resources: {cpus: 1}").replace(
    '{port}"', '{port}", image: "app:1", resources: {memory: 64MiB}'
)


def advice(text, use):
    return [str(warning) for warning in check_text(text, "shop.yaml", use).warnings]


def test_what_is_for_containers_is_told_under_up_with_its_place_and_where_it_acts():
    start = "has no effect under `tierlb up`"
    found = advice(FOR_CONTAINERS, Use.UP)
    assert [line.partition(start)[0] for line in found] == [
        "shop.yaml:3:54: warning: tiers.web.resources: ",
        "shop.yaml:5:38: warning: pools.app.run.image: ",
        "shop.yaml:5:54: warning: pools.app.run.resources: ",
    ]
    assert all(line.endswith("acts in compose and Kubernetes") for line in found)


@pytest.mark.parametrize(("text", "use"), [(FOR_CONTAINERS, None), (FOR_CONTAINERS, Use.CONTROLLER), (TEXT, Use.UP)])
def test_there_is_nothing_to_say_otherwise(text, use):
    assert advice(text, use) == []


@pytest.mark.parametrize(
    ("listen", "warned"),
    [("127.0.0.1:7900", False), ("'[::1]:7900'", False), ("0.0.0.0:7900", True), ("10.0.0.5:7900", True)],
)
def test_an_api_that_is_open_to_other_machines_without_tls_is_warned_of(listen, warned):
    found = advice(f"{TEXT}admin: {{listen: {listen}}}\n", None)
    assert [line.partition(": warning: ")[2].partition(": ")[0] for line in found] == ["admin.listen"] * warned
