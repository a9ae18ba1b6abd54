"""`tierlb kubernetes`: objects on the standard output or in a file, what is wrong on the other."""

import pytest
import yaml

from tests.cli.conftest import GOOD, run


def objects(text):
    return list(yaml.safe_load_all(text))


def test_objects_are_printed_and_warnings_are_not_among_them(write):
    file = write(GOOD)
    result = run("kubernetes", file)
    assert result.exit_code == 0
    assert {"shop-edge", "shop-web", "shop-controller"} <= {each["metadata"]["name"] for each in objects(result.stdout)}
    assert f"{file}: warning: pools.app.endpoints: 127.0.0.1:9001 is each pod itself" in result.stderr


def test_a_file_gets_what_would_be_printed(write, tmp_path):
    file, output = write(GOOD), tmp_path / "out.yaml"
    result = run("kubernetes", file, "--output", str(output))
    assert (result.exit_code, result.stdout) == (0, "")
    assert output.read_text() == run("kubernetes", file).stdout


@pytest.mark.parametrize(
    ("arguments", "kind", "find"),
    [
        (
            ["--image", "here/tierlb:2"],
            "StatefulSet",
            lambda o: o["spec"]["template"]["spec"]["containers"][0]["image"],
        ),
        (["--namespace", "apart"], "Service", lambda o: o["metadata"]["namespace"]),
        (["--prefix", "mine"], "ServiceAccount", lambda o: o["metadata"]["name"]),
        (["--max-replicas", "web=7"], "HorizontalPodAutoscaler", lambda o: str(o["spec"]["maxReplicas"])),
        (["--edge", "daemonset"], "DaemonSet", lambda o: o["kind"].lower()),
    ],
)
def test_each_option_shows_in_the_objects(write, arguments, kind, find):
    found = next(each for each in objects(run("kubernetes", write(GOOD), *arguments).stdout) if each["kind"] == kind)
    assert find(found) == arguments[1].removeprefix("web=")


def test_the_namespace_that_reads_metrics_is_let_in(write):
    told = run("kubernetes", write(GOOD), "--metrics-from", "watching").stdout
    assert told.count("kubernetes.io/metadata.name: watching") == 2


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        ("cluster: shop\n", [], "nothing was rendered"),
        (GOOD.replace("web", "web-"), [], "shop.yaml: tiers.web-: no name in Kubernetes ends with -"),
        (GOOD.replace("8080", "7946"), [], "shop.yaml: tiers.edge.listen: port 7946 is a node's own in a container"),
        (GOOD, ["--prefix", "9"], "shop.yaml: '9' cannot begin names in Kubernetes"),
        (GOOD, ["--max-replicas", "web"], "--max-replicas: 'web' is not complete"),
        (GOOD, ["--max-replicas", "web=auto"], "--max-replicas: web: 'auto' is not a whole number"),
        (GOOD, ["--max-replicas", "edge=5"], "shop.yaml: --max-replicas edge=5: only l7 tiers"),
        (GOOD, ["--edge", "both"], "'both' is not one of"),
    ],
)
def test_what_cannot_be_rendered_exits_with_2(write, text, arguments, told):
    result = run("kubernetes", write(text), *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_a_place_that_cannot_be_written_exits_with_1(write, tmp_path):
    result = run("kubernetes", write(GOOD), "--output", str(tmp_path / "nowhere" / "out.yaml"))
    assert result.exit_code == 1
    assert "out.yaml cannot be written: No such file or directory" in result.stderr
