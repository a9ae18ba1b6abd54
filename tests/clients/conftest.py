"""One real cluster for all tests here: edge (l4) → three l7 nodes → Starlette and raw endpoints."""

import contextlib
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from scripts.benchmarks import endpoint
from scripts.benchmarks.cluster import Cluster, free_address, running_cluster

APP = shlex.join((sys.executable, str(Path(__file__).with_name("app.py")), "--bind", "127.0.0.1:{port}"))
RAW = shlex.join((sys.executable, str(endpoint.__file__), "{port}"))

TOPOLOGY = """\
cluster: clients
admin: {{listen: {admin}}}
tiers:
  edge: {{kind: l4, listen: "{listen}", to: web}}
  web:
    kind: l7
    replicas: 3
    routes:
      - match: {{path_prefix: /raw}}
        to: raw
      - to: app
pools:
  app: {{run: {{command: "{app}", replicas: 1}}}}
  raw: {{run: {{command: "{raw}", replicas: 2}}}}
"""


@attrs.frozen
class Site:
    """The cluster as a client sees it."""

    cluster: Cluster
    listen: str

    @property
    def url(self) -> str:
        return f"http://{self.listen}"

    @property
    def sockaddr(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host, int(port)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "needs(*programs): skip, saying so, where one is not installed")


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[Site]:
    """The cluster, until the end of the block."""
    listen, admin = free_address(), free_address()
    text = TOPOLOGY.format(listen=listen, admin=admin, app=APP, raw=RAW)
    with running_cluster(text, admin, directory) as cluster:
        yield Site(cluster, listen)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Started once, stopped after the last test."""
    with serving(tmp_path_factory.mktemp("clients")) as site:
        yield site


@pytest.fixture(autouse=True)
def _tools(request: pytest.FixtureRequest) -> None:
    """Skip, saying so, where a test's program is not installed."""
    marker = request.node.get_closest_marker("needs")
    for program in marker.args if marker else ():
        if shutil.which(program) is None:
            pytest.skip(f"NOT TESTED: {program} is not installed (apt-get install {program})")
