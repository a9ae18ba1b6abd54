"""A node's file: what it served is there again, and nothing that is wrong with the file stops a node."""

import hashlib
import os
import resource
import stat
import tempfile
from pathlib import Path
from typing import Any

import attrs
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.channel.durable import StoreError
from tierlb.model.address import Address
from tierlb.model.snapshot import Destination, HostSpec, Listener, Rule, Send, Snapshot
from tierlb.model.topology import Kind, Match, Respond
from tierlb.node.snapshot_cache import FILE, MAGIC, SnapshotCache, load, save
from tierlb.wire.frames import Ack, Configure, ParentAddress, ReportTo, encode_frame

SNAPSHOT = Snapshot(
    7,
    "shop",
    "web",
    Kind.L7,
    (Listener(Address("127.0.0.1", 0), inner=True), Listener(Address("::1", 8080))),
    (
        Rule(Match(path="/healthz"), Respond(body="ok\n")),
        Rule(Match(), Send((Destination(1.0, ("app",), (HostSpec("app/1", "app", Address("10.0.0.1", 80)),)),))),
    ),
)
GOOD = SnapshotCache(
    "web-1",
    SNAPSHOT,
    (Address("127.0.0.1", 40123), Address("::1", 8080)),
    (ParentAddress("edge-1", "ws://127.0.0.1:40000"), ParentAddress("edge-2", "wss://[::1]:40001")),
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save(tmp_path / "web-1", GOOD)
    return tmp_path / "web-1"


def reason(directory: Path, node: str = "web-1", tier: str = "web", cluster: str = "shop") -> str:
    """Why the file is of no use."""
    good, why = load(directory, node, tier, cluster)
    assert good is None
    return why


def sealed(body: bytes) -> bytes:
    return MAGIC + hashlib.sha256(body).digest() + body


@pytest.mark.parametrize("cluster", ["shop", ""])
def test_a_node_finds_what_it_served(directory: Path, cluster: str) -> None:
    assert load(directory, "web-1", "web", cluster) == (GOOD, "")


def test_what_is_served_later_replaces_it(directory: Path) -> None:
    later = attrs.evolve(GOOD, snapshot=attrs.evolve(SNAPSHOT, revision=8), addresses=(), parents=())
    save(directory, later)
    assert load(directory, "web-1", "web", "shop") == (later, "")
    assert [path.name for path in directory.iterdir()] == [FILE]


def test_the_file_is_private(directory: Path) -> None:
    assert stat.S_IMODE((directory / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_new_node_has_none_which_is_no_fault(tmp_path: Path) -> None:
    assert reason(tmp_path) == ""
    assert reason(tmp_path / "no such directory") == ""


@pytest.mark.parametrize(
    ("node", "tier", "cluster", "said"),
    [
        ("web-2", "web", "shop", "node 'web-1', not 'web-2'"),
        ("web-1", "api", "shop", "tier 'web', not 'api'"),
        ("web-1", "web", "bank", "cluster 'shop', not 'bank'"),
    ],
)
def test_what_another_node_left_is_not_used(directory: Path, node: str, tier: str, cluster: str, said: str) -> None:
    assert said in reason(directory, node, tier, cluster)


def test_a_file_that_was_cut_off_anywhere_is_not_used(directory: Path) -> None:
    content = (directory / FILE).read_bytes()
    for length in range(len(content)):
        (directory / FILE).write_bytes(content[:length])
        assert f"{directory / FILE} is not used" in reason(directory)


def test_any_bit_that_changed_is_noticed(directory: Path) -> None:
    content = (directory / FILE).read_bytes()
    for place in range(len(content)):
        changed = bytes([content[place] ^ 1 << place % 8])
        (directory / FILE).write_bytes(content[:place] + changed + content[place + 1 :])
        assert "is not used" in reason(directory)


CONFIGURE, ACK, REPORT_TO = encode_frame(Configure(SNAPSHOT)), encode_frame(Ack(7, ())), encode_frame(ReportTo(()))
TAG, PLAIN = msgpack.unpackb(CONFIGURE)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not written by this version"),
        (MAGIC.replace(b"1", b"2"), "not written by this version"),
        (MAGIC, "damaged"),
        (sealed(b""), "no record"),
        (sealed(b"\xc1"), "no record"),
        (sealed(b"\x91" * 5000), "no record"),
        (sealed(msgpack.packb(5)), "no record"),
        (sealed(msgpack.packb([])), "no record"),
        (sealed(msgpack.packb({})), "no record"),
        (sealed(msgpack.packb(["web-1", 5, 5, 5])), "no record"),
        (sealed(msgpack.packb(["web-1", "a", "b", "c"])), "no record"),
        (sealed(msgpack.packb(["web-1", CONFIGURE, ACK])), "no record"),
        (sealed(msgpack.packb(["web-1", ACK, CONFIGURE, REPORT_TO])), "no record"),
        (sealed(msgpack.packb([5, CONFIGURE, ACK, REPORT_TO])), "no record"),
        (sealed(msgpack.packb(["web-1", msgpack.packb([TAG, {}]), ACK, REPORT_TO])), "field 'snapshot'"),
    ],
)
def test_what_is_no_record_is_not_used_and_the_reason_is_said(directory: Path, content: bytes, said: str) -> None:
    (directory / FILE).write_bytes(content)
    assert said in reason(directory)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def load_sealed(body: bytes) -> tuple[SnapshotCache | None, str]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_bytes(sealed(body))
        return load(Path(folder), "web-1", "web")


@given(st.binary(max_size=60) | VALUES.map(msgpack.packb))
def test_any_body_with_a_right_checksum_is_refused(body: bytes) -> None:
    good, why = load_sealed(body)
    assert good is None
    assert why


@given(st.data())
def test_any_value_anywhere_in_a_snapshot_is_read_or_refused(data: st.DataObject) -> None:
    def spoil(plain: Any) -> Any:
        """With one value in it replaced."""
        if not isinstance(plain, dict | list) or not plain or data.draw(st.integers(0, 4)) == 0:
            return data.draw(VALUES)
        place = data.draw(st.sampled_from(list(plain) if isinstance(plain, dict) else range(len(plain))))
        copy = plain.copy()
        copy[place] = spoil(plain[place])
        return copy

    configure = msgpack.packb([TAG, spoil(PLAIN)])
    good, why = load_sealed(msgpack.packb(["web-1", configure, ACK, REPORT_TO]))
    assert (good is None) == bool(why)


def test_a_file_that_is_too_large_is_not_read_to_its_end(directory: Path) -> None:
    with (directory / FILE).open("wb") as stream:
        stream.truncate(2**30)
    assert "too large" in reason(directory)


def test_a_link_in_the_place_of_the_file_is_not_followed(directory: Path, tmp_path: Path) -> None:
    """Another user may have put it there, with a configuration of their own behind it."""
    (directory / FILE).rename(tmp_path / "elsewhere")
    (directory / FILE).symlink_to(tmp_path / "elsewhere")
    assert "it is a symbolic link" in reason(directory)


def test_a_file_that_cannot_be_read_is_not_used(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    assert "cannot be read" in reason(tmp_path)
    (tmp_path / "file").write_text("")
    assert "cannot be read" in reason(tmp_path / "file")
    assert "cannot be read" in reason(Path("\0"))


def test_a_save_that_fails_leaves_the_old_file(directory: Path) -> None:
    """In a process of its own, whose files may not grow."""
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        try:
            save(directory, attrs.evolve(GOOD, addresses=()))
        except StoreError as error:
            os._exit(3 if "File too large" in str(error) else 4)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert load(directory, "web-1", "web", "shop") == (GOOD, "")
    assert [path.name for path in directory.iterdir()] == [FILE]


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_crash_at_any_step_leaves_the_old_one_or_the_new_one(
    directory: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    later = attrs.evolve(GOOD, addresses=())
    with monkeypatch.context() as patch:
        patch.setattr(os, step, crash)
        with pytest.raises(Crash):
            save(directory, later)
    good, why = load(directory, "web-1", "web", "shop")
    assert good in (GOOD, later)
    assert why == ""
