"""`tierlb compose`: what is printed, what is written, and what is said where it cannot be."""

import pytest

from tests.cli.conftest import run
from tierlb.deploy.project import read_project

TEXT = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web: {kind: l7, replicas: 2, to: app}
pools:
  app: {run: {command: "tierlb demo-backend --host {host} --port {port}"}}
"""


def test_without_a_directory_the_file_is_printed_and_nothing_written(write, tmp_path):
    result = run("compose", write(TEXT), "--image", "registry.example.com/tierlb:2")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("# The cluster shop, ")
    assert 'x-tierlb: {cluster: shop, image: "registry.example.com/tierlb:2"}' in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["shop.yaml"]


def test_a_directory_gets_all_that_it_takes_to_start(write, tmp_path):
    result = run("compose", write(TEXT), "--output", str(tmp_path / "out"), "--image", "tierlb:2")
    assert result.exit_code == 0, result.output
    assert f"cd {tmp_path}/out && docker compose up -d" in result.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"compose.yaml", "topology.yaml", "secrets"}
    printed = run("compose", write(TEXT), "--image", "tierlb:2").stdout
    assert (tmp_path / "out" / "compose.yaml").read_text() == printed
    assert read_project(tmp_path / "out").image == "tierlb:2"


@pytest.mark.parametrize(
    ("old", "new", "code", "told"),
    [
        ("to: web", "to: wab", 2, "no tier or pool named 'wab'"),
        ("to: web", "to: web, replicas: 2", 2, "tiers.edge.replicas: one port cannot be published by 2 containers"),
        (" --host {host}", "", 0, "warning: pools.app.run.command: it has no {host}"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_s_name(write, old, new, code, told):
    file = write(TEXT.replace(old, new))
    result = run("compose", file)
    assert result.exit_code == code
    assert told in result.stderr
    assert result.stderr.startswith(file)
    assert bool(result.stdout) is (code == 0)


def test_a_directory_with_something_else_in_it_is_left_alone(write, tmp_path):
    (tmp_path / "compose.yaml").write_text("services: {web: {image: nginx}}\n")
    result = run("compose", write(TEXT), "--output", str(tmp_path))
    assert result.exit_code == 1
    assert "was not written by `tierlb compose`: choose another directory" in result.stderr
    assert (tmp_path / "compose.yaml").read_text() == "services: {web: {image: nginx}}\n"


def test_where_nothing_can_be_written_it_says_so(write, tmp_path):
    (tmp_path / "file").touch()
    result = run("compose", write(TEXT), "--output", str(tmp_path / "file" / "out"))
    assert result.exit_code == 1
    assert "cannot be written: Not a directory" in result.stderr
