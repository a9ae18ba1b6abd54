"""Commands run in process."""

import pytest
from click.testing import CliRunner

from tierlb.cli.main import main

GOOD = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web: {kind: l7, to: app}
pools:
  app: {endpoints: ["127.0.0.1:9001"]}
"""


def run(*arguments, env=None):
    return CliRunner().invoke(main, arguments, env=env)


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "shop.yaml"
        file.write_text(text)
        return str(file)

    return write
