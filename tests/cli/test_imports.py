"""What each kind of process may import: a cluster starts one per node, so an import is paid many times."""

import subprocess
import sys

import pytest

HEAVY = ("asyncio", "hypercorn", "rich", "ruamel", "starlette", "statistics", "structlog")
CHANGING = ("tierlb.controller.changes", "tierlb.controller.store", "tierlb.admin", "tierlb.cli.client")
KINDS = ("tierlb.dataplane.l4.front", "tierlb.dataplane.l4.udp_front", "tierlb.dataplane.l7.front")


@pytest.mark.parametrize(
    ("modules", "never"),
    [
        (("tierlb.cli.main",), (*HEAVY, "trio", "cattrs", "msgpack")),
        (("tierlb.cli.main", "tierlb.cli.node"), (*HEAVY, *KINDS, "prometheus_client", "tierlb.cli.verbs", *CHANGING)),
        (("tierlb.cli.main", "tierlb.cli.change", "tierlb.cli.history"), ("asyncio", "hypercorn", "rich", "trio")),
        (
            ("tierlb.cli.main", "tierlb.demo.endpoint"),
            (*HEAVY, "cattrs", "msgpack", "httptools", "trio_websocket"),
        ),
        (
            ("tierlb.cli.main", "tierlb.cli.explain"),
            ("asyncio", "hypercorn", "msgpack", "starlette", "structlog", "trio"),
        ),
        (("tierlb.cli.main", "tierlb.cli.up"), ("asyncio", "hypercorn", "rich", "starlette", "structlog")),
    ],
)
def test_a_process_imports_only_what_it_needs(modules, never):
    script = f"import sys, {', '.join(modules)}; print(*(m for m in {never} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
