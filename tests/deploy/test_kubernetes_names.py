"""Names that Kubernetes would refuse are refused before, with what to do; labels tell pods apart."""

import pytest

from tests.deploy.manifests import EVERYTHING, ON_EACH_MACHINE, plan_of
from tierlb.deploy.kubernetes_names import NetworkEdge, problems

SHOP = """\
cluster: {cluster}
tiers:
  edge: {{kind: l4, listen: "127.0.0.1:8080", replicas: 2, to: {web}}}
  {web}: {{kind: l7, replicas: 3, to: {app}}}
pools:
  {app}: {{run: {{command: "serve {{host}} {{port}}"}}}}
"""


def shop(cluster="shop", web="web", app="app", **options):
    return plan_of(SHOP.format(cluster=cluster, web=web, app=app), **options)


@pytest.mark.parametrize(
    ("names", "options", "told"),
    [
        ({}, {}, []),
        ({"cluster": "3d"}, {"prefix": "three-d"}, []),
        ({"web": "3d", "app": "9"}, {}, []),
        ({"cluster": "3d"}, {}, ["'3d' cannot begin names in Kubernetes"]),
        ({"cluster": "shop-"}, {}, ["'shop-' cannot begin names in Kubernetes"]),
        ({}, {"prefix": "Shop"}, ["'Shop' cannot begin names in Kubernetes"]),
        ({"web": "web-"}, {}, ["tiers.web-: no name in Kubernetes ends with -"]),
        ({"app": "app-"}, {}, ["pools.app-: no name in Kubernetes ends with -"]),
        ({"web": "controller"}, {}, ["tiers.controller: shop-controller is the name of something else"]),
        ({"app": "edge-public"}, {}, ["pools.edge-public: shop-edge-public is the name of something else"]),
        ({"web": "web-public"}, {}, []),
        ({"web": "w" * 40}, {"prefix": "p" * 22}, []),
        ({"web": "w" * 40}, {"prefix": "p" * 23}, [f"tiers.{'w' * 40}: {'p' * 23}-{'w' * 40} is longer than 63"]),
        ({}, {"prefix": "p" * 41}, []),
        ({}, {"prefix": "p" * 42}, [f"the prefix {'p' * 42} is too long"]),
        ({}, {"namespace": "my_shop"}, ["--namespace: 'my_shop' is no namespace"]),
        ({}, {"scraper": "-"}, ["--metrics-from: '-' is no namespace"]),
        ({}, {"image": "tier lb"}, ["--image: 'tier lb' is not a container image"]),
        ({}, {"most": {"web": 3}}, []),
        ({}, {"most": {"wen": 3}}, ["--max-replicas wen=3: there is no such tier (did you mean 'web'?)"]),
        ({}, {"most": {"web": 2}}, ["--max-replicas web=2: the file asks for 3 already"]),
        ({}, {"most": {"edge": 3}}, ["--max-replicas edge=3: only l7 tiers"]),
    ],
)
def test_what_cannot_be_a_name_is_told(names, options, told):
    found = problems(shop(**names, **options))
    assert len(found) == len(told)
    assert all(problem.startswith(begin) for problem, begin in zip(found, told, strict=True))


@pytest.mark.parametrize("edge", NetworkEdge)
def test_cores_of_the_machine_that_renders_say_nothing_of_pods(edge):
    text = SHOP.format(cluster="shop", web="web", app="app").replace("replicas: 2, ", "")
    assert problems(plan_of(text, edge=edge)) == []
    (problem,) = problems(plan_of(text.replace("replicas: 3", "replicas: auto"), edge=edge))
    assert problem.startswith("tiers.web.replicas: auto counts the cores of the machine that runs `tierlb up`")


@pytest.mark.parametrize("cpus", ["[0, 1]", "auto"])
def test_pods_are_not_pinned(cpus):
    (problem,) = problems(plan_of(SHOP.format(cluster="shop", web="web", app="app").replace("3,", f"3, cpus: {cpus},")))
    assert problem.startswith("tiers.web.cpus: pods run on machines with other CPUs each: leave this out")


def test_a_daemon_set_has_no_number_of_its_own():
    (problem,) = problems(plan_of(edge=NetworkEdge.DAEMON_SET))
    assert problem.startswith(
        "tiers.edge.replicas: as a DaemonSet it has a node on each machine, not 2: leave this out"
    )
    assert problems(plan_of(ON_EACH_MACHINE, edge=NetworkEdge.DAEMON_SET)) == problems(plan_of()) == []


@pytest.mark.parametrize(
    ("listen", "told"),
    [
        ("127.0.0.1:7911", ""),
        ("0.0.0.0:7911", ""),
        ("10.0.0.7:7911", "admin.listen: no pod has the address 10.0.0.7: write 127.0.0.1:7911"),
        ("127.0.0.1:0", "admin.listen: port 0 cannot be the API's in a pod"),
        ("127.0.0.1:7901", "admin.listen: port 7901 cannot be the API's in a pod"),
    ],
)
def test_the_api_listens_where_a_pod_can(listen, told):
    found = problems(plan_of(f'admin: {{listen: "{listen}"}}\n' + EVERYTHING))
    assert len(found) == bool(told)
    assert all(problem.startswith(told) for problem in found)


def test_all_problems_are_told_at_once():
    assert len(problems(shop(cluster="3d", web="web-", app="controller", namespace="A"))) == 4


@pytest.mark.parametrize(
    ("store", "urls"),
    [
        ("", "ws://shop-controller-0.shop-controller:7901"),
        (
            "store: etcd://10.0.0.5:2379\n",
            "ws://shop-controller-0.shop-controller:7901,ws://shop-controller-1.shop-controller:7901",
        ),
    ],
)
def test_each_controller_is_joined_by_a_name_of_its_own(store, urls):
    assert plan_of(store + SHOP.format(cluster="shop", web="web", app="app")).join_urls == urls


@pytest.mark.parametrize(
    ("options", "edge", "web", "direct"),
    [({}, 2, 12, 1), ({"most": {"web": 20}}, 2, 20, 1), ({"edge": NetworkEdge.DAEMON_SET}, 2, 12, 1)],
)
def test_l7_tiers_may_grow_and_no_others(options, edge, web, direct):
    plan = plan_of(**options)
    assert [plan.most(plan.topology.tiers[name]) for name in ("edge", "web", "direct")] == [edge, web, direct]


def test_an_l7_tier_on_each_machine_does_not_grow():
    text = """\
cluster: small
tiers: {web: {kind: l7, listen: "127.0.0.1:8080", to: app}}
pools: {app: {run: {command: "serve {host} {port}"}}}
"""
    grows = [
        plan.most(plan.topology.tiers["web"]) for plan in (plan_of(text), plan_of(text, edge=NetworkEdge.DAEMON_SET))
    ]
    assert grows == [4, 1]


def test_those_who_report_are_tiers_and_applications_with_agents():
    plan = plan_of()
    reporters = {name: plan.reporters(tier) for name, tier in plan.topology.tiers.items()}
    assert reporters["edge"] == [plan.tier_selector("web")]
    assert reporters["web"] == [plan.tier_selector("far"), plan.pool_selector("joining")]
    assert reporters["far"] == []


def test_selectors_tell_all_pods_apart():
    plan = plan_of()
    selectors = [plan.controller_selector(), *map(plan.tier_selector, plan.topology.tiers)]
    selectors += map(plan.pool_selector, plan.topology.pools)
    for one in selectors:
        labels = plan.labels("controller" if one == plan.controller_selector() else "other", one)
        assert [each for each in selectors if each.items() <= labels.items()] == [one]
