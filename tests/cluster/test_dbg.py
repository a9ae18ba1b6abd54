import pytest, trio
from tests.cluster.test_without_controller import *

@pytest.mark.parametrize("kind,fresh", [("l4", 6), ("l7", 6)])
async def test_recover(tmp_path, nursery, kind, fresh, monkeypatch):
    fast = Endpoint()
    await nursery.start(fast.serve)
    listen, control = free_address(), free_address()
    file, log = tmp_path / "orphans.yaml", tmp_path / "log"
    file.write_text(TOPOLOGY.replace("kind: l4", "kind: "+kind).format(listen=listen, slow=free_address(), fast=fast.address))
    orphans = Orphans(file, log, parse_address(listen), control, fast)
    with contextlib.ExitStack() as stack:
        for name, tier in NODES.items():
            argv = tierlb("node", name=name, tier=tier, join=f"ws://{control}")
            orphans.nodes[name] = stack.enter_context(running(argv, log, {TOKEN_VARIABLE: TOKEN}))
        traffic = Traffic((orphans.listen.host, orphans.listen.port), work="/work")
        with orphans.controlled() as controller:
            await orphans.until_whole(controller)
            async with traffic.flowing(kept=0, fresh=fresh):
                for i in range(5):
                    s=trio.current_time()
                    await trio.sleep(1)
                    print("REC", kind, fresh, i, traffic.reached(s), len(traffic.failures), traffic.failures[-1:])
                st = await orphans.until_whole(controller)
                print("REC", [(n["name"], n["subtree"]["capacity"], n["subtree"]["ready_leaves"], n["subtree"]["leaves"]) for t in st["tiers"].values() for n in t["nodes"] if n["subtree"]])
