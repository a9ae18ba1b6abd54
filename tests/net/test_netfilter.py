"""The kernel is asked in a namespace of its own; what is lacking is said with what to do about it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.network import Network, require
from tierlb.net import netfilter
from tierlb.net.netfilter import REST_S, is_own_address, run_nft, why_not

ROOT = Path(__file__).parents[2]
ASK = "from tierlb.net.netfilter import why_not; print(why_not())"
WORK = """
import json, trio
from tierlb.net.netfilter import dump_netlink, forwarded_families, is_own_address, run_nft
from tierlb.wire.netlink import ask_counters, ask_tables, counters, table_names

async def main():
    said = [await run_nft("add table inet a"), await run_nft("add table inet b; delete table inet nothing")]
    names, many = [], {}
    told = await dump_netlink(ask_tables(), lambda portion: names.extend(table_names(portion)))
    await run_nft("".join(f"add counter inet a c{n}\\n" for n in range(2000)))
    portions = []
    await dump_netlink(ask_counters("a"), lambda portion: (portions.append(portion), many.update(counters(portion))))
    print(json.dumps({
        "said": said, "names": names, "told": told.code, "many": len(many), "portions": len(portions),
        "most": max(map(len, portions)), "families": sorted(each.value for each in forwarded_families()),
        "own": [is_own_address(f"10.{each}") for each in ("77.0.1", "77.0.2", "99.0.1")],
        "own_v6": [is_own_address(f"fd77::{each}") for each in (1, 2)],
    }))
trio.run(main)
"""


def test_the_kernel_is_programmed_and_asked() -> None:
    require()
    with Network(1).up() as net:
        net.sets("net.ipv4.ip_forward=0")
        told = json.loads(net.runs("edge", sys.executable, "-c", WORK))
    assert told["said"][0] == ""
    assert "nothing" in told["said"][1]
    assert (told["names"], told["told"]) == (["a"], 0), "b was part of a transaction that failed"
    assert told["many"] == 2000
    assert told["portions"] > 1
    assert told["most"] < netfilter.PORTION_BYTES
    assert told["families"] == ["ip6"]
    assert told["own"] == [True, False, False]
    assert told["own_v6"] == [True, False]


def test_without_the_capability_it_says_what_to_do() -> None:
    require()
    if shutil.which("setpriv") is None:
        pytest.skip("NOT TESTED: needs setpriv (util-linux)")
    command = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", sys.executable, "-c", ASK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    assert "lacks the capability CAP_NET_ADMIN" in done.stdout
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""


async def test_without_nft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(netfilter, "SYSTEM_PATHS", "")
    assert "install the package nftables" in why_not()
    assert "install the package nftables" in await run_nft("add table inet a")


async def test_an_nft_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "nft"
    fake.write_text("#!/bin/sh\nexec sleep 1000\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(netfilter, "NFT_S", 0.05)
    assert "longer than" in await run_nft("add table inet a")


def test_a_dump_leaves_most_of_the_time_to_others() -> None:
    """A portion and what is made of it take about 0.4 ms."""
    assert REST_S > 20 * 0.0004


def test_loopback_is_own() -> None:
    assert is_own_address("127.0.0.1")
