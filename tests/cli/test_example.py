"""Examples are copied before they are run; any other file is run itself."""

import os
import shutil
import subprocess
import sys

import pytest

from scripts.benchmarks.cluster import free_address
from tests.cli.conftest import GOOD
from tierlb.channel.durable import StoreError
from tierlb.cli import example
from tierlb.cli.example import EXAMPLES, source_of

QUICKSTART = EXAMPLES / "quickstart.yaml"
DEADLINE_S = 120.0


@pytest.fixture
def state(tmp_path):
    return tmp_path / ".tierlb" / "quickstart"


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """A copy of the folder, which a test may spoil."""
    folder = shutil.copytree(EXAMPLES, tmp_path / "topology")
    monkeypatch.setattr(example, "EXAMPLES", folder)
    return folder


def test_an_example_is_run_from_a_copy_in_the_state_directory(state):
    source = source_of(QUICKSTART, state)
    assert source.file == state / "quickstart.yaml"
    assert source.file.read_bytes() == QUICKSTART.read_bytes()
    assert str(source) == f"{source.file} (a copy of quickstart.yaml, which stays as it is)"


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_no_example_is_run_itself(file, state):
    assert source_of(file, state).file.parent == state


def test_a_link_to_an_example_leads_to_a_copy_too(tmp_path, state):
    link = tmp_path / "mine.yaml"
    link.symlink_to(QUICKSTART)
    assert source_of(link, state).file == state / "mine.yaml"


def test_a_copy_that_was_edited_is_kept_and_named_so(state, examples):
    quickstart = examples / "quickstart.yaml"
    copy = source_of(quickstart, state).file
    copy.write_text(copy.read_text().replace("replicas: 3", "replicas: 5"))
    edited = source_of(quickstart, state)
    assert "replicas: 5" in edited.file.read_text()
    assert str(edited).endswith("(your edited copy of quickstart.yaml; delete it to start from the example again)")
    assert "replicas: 3" in quickstart.read_text()
    edited.file.unlink()
    assert not source_of(quickstart, state).edited


def test_any_other_file_is_run_itself(write, state):
    file = EXAMPLES.parent / "compose" / "quickstart.yaml"
    assert source_of(file, state).file == file
    mine = type(file)(write(GOOD))
    assert (source_of(mine, state).file, str(source_of(mine, state))) == (mine, str(mine))
    assert not state.exists()


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        source_of(QUICKSTART, tmp_path / "file" / "state")


def test_a_tour_leaves_the_example_as_it_was_and_edits_the_copy(tmp_path):
    for name in ("tierlb", "topology"):
        shutil.copytree(EXAMPLES.parent / name, tmp_path / name)
    file, admin = tmp_path / "topology" / "quickstart.yaml", free_address()
    text = file.read_text().replace("127.0.0.1:7900", admin).replace("127.0.0.1:8080", free_address())
    file.write_text(text)

    def tierlb(*arguments):
        command = [sys.executable, "-m", "tierlb", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}  # for the process in the background too
        return subprocess.check_output(command, cwd=tmp_path, env=environment, text=True, timeout=DEADLINE_S)

    said = tierlb("up", "topology/quickstart.yaml", "--detach")
    try:
        tierlb("scale", "web=2", "--admin", f"http://{admin}")
    finally:
        tierlb("down", "topology/quickstart.yaml")
    copy = tmp_path / ".tierlb" / "quickstart" / "quickstart.yaml"
    assert "file         .tierlb/quickstart/quickstart.yaml (a copy of quickstart.yaml" in said
    assert file.read_text() == text
    assert copy.read_text() == text.replace("replicas: 3", "replicas: 2")
