"""What is measured over UDP: clients that ask an echo server, what dnsperf prints, the configurations of the peers."""

import os
import shutil
import subprocess
import sys

import pytest
import trio

from scripts.benchmarks import configs, udp
from scripts.benchmarks.processes import free_addresses, running
from scripts.benchmarks.udp_load import Asking, address_of
from tierlb.model.address import Transport
from tierlb.topology.load import load_text

DNSPERF = """
Statistics:

  Queries sent:         60009
  Queries completed:    60000 (99.98%)
  Queries lost:         9 (0.02%)

  Response codes:       NOERROR 59999 (100.00%), SERVFAIL 1 (0.00%)
  Run time (s):         2.000100
  Queries per second:   29998.500
"""


@pytest.mark.parametrize("new_each", [False, True])
async def test_clients_ask_again_when_they_are_answered(tmp_path, new_each) -> None:
    (at,) = free_addresses(1)
    async with running([sys.executable, str(udp.LOAD), "echo", at], tmp_path / "log"):
        with trio.fail_after(60):
            answers = 0.0
            while not answers:  # it may not have begun to listen
                done = await trio.to_thread.run_sync(Asking(address_of(at), 100, new_each).run, 0.3, 4)
                answers = done["answers"]
    assert (done["wrong"], done["seconds"] >= 0.3) == (0, True)


def test_what_dnsperf_prints_is_read() -> None:
    assert udp.dns_figures(DNSPERF) == {"answers": 60000.0, "lost": 9.0, "wrong": 1.0, "seconds": 2.0001}
    assert udp.dns_figures("unknown host")["answers"] == 0.0


def test_the_topology_is_one_over_udp() -> None:
    for one_answer in (True, False):
        text = configs.tierlb_datagrams("127.0.0.1:1", "127.0.0.1:2", ["127.0.0.1:3"], one_answer=one_answer)
        tier = load_text(text, "f").tiers["edge"]
        assert (tier.protocol, tier.responses) == (Transport.UDP, 1 if one_answer else None)


@pytest.mark.skipif(not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"), reason="nginx is not installed")
def test_nginx_takes_its_configuration(tmp_path) -> None:
    if not configs.NGINX_STREAM_MODULE.exists():
        pytest.skip("nginx has no stream module")
    config = configs.nginx_datagrams("127.0.0.1:1", ["127.0.0.1:2"], tmp_path, one_answer=True)
    (tmp_path / "nginx.conf").write_text(config)
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    command = [program, "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "syntax is ok" in done.stderr
