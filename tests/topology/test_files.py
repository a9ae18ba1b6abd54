"""Files that a topology names, right and wrong, as they are on a disk."""

import os
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.certificates import Authority
from tierlb.model.places import listener_tls
from tierlb.model.tls import Alpn, LeastTls, Tls
from tierlb.model.topology import SharedStore
from tierlb.topology.diff import listener_text
from tierlb.topology.files import password_line, resolved
from tierlb.topology.load import check_text, load_file, load_text
from tierlb.topology.problems import TopologyError

TEXT = """\
cluster: x
security:
  tls:
    certificate: tls/cert.pem
    key: tls/key.pem
    ca: tls/ca.pem
tiers: {a: {kind: l7, listen: ":80", to: p}}
pools: {p: {agents: true}}
"""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA) -> Path:
    """A topology file with all that it names beside it."""
    issued = authority.issue_cert("127.0.0.1")
    (tmp_path / "tls").mkdir()
    issued.cert_chain_pems[0].write_to_path(tmp_path / "tls/cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "tls/key.pem")
    authority.cert_pem.write_to_path(tmp_path / "tls/ca.pem")
    (tmp_path / "shop.yaml").write_text(TEXT)
    return tmp_path


def problems_of(folder: Path, text: str = TEXT) -> list[str]:
    try:
        load_text(text, str(folder / "shop.yaml"))
    except TopologyError as error:
        return [str(problem).removeprefix(f"{folder}/") for problem in error.problems]
    return []


def test_names_are_relative_to_the_topology_file_wherever_it_is_read_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Tls(str(folder / "tls/cert.pem"), str(folder / "tls/key.pem"), str(folder / "tls/ca.pem"))
    assert load_file(folder / "shop.yaml").tls == wanted
    monkeypatch.chdir(folder)
    assert load_file("shop.yaml").tls == wanted
    monkeypatch.chdir(folder / "tls")
    assert load_file("../shop.yaml").tls == Tls(*(f"{folder}/tls/../tls/{name}.pem" for name in ("cert", "key", "ca")))


def test_whole_paths_stay_as_they_are() -> None:
    assert resolved("/etc/shop", "/run/key.pem") == "/run/key.pem"


def test_a_file_that_is_not_there_is_a_problem_at_its_place(folder: Path) -> None:
    (folder / "tls/key.pem").unlink()
    assert problems_of(folder) == [
        "shop.yaml:5:10: security.tls.key: 'tls/key.pem' cannot be read: No such file or directory "
        f"(looked for at '{folder}/tls/key.pem')"
    ]


def test_all_files_are_looked_at_beside_other_problems(folder: Path) -> None:
    for name in ("cert", "key", "ca"):
        (folder / f"tls/{name}.pem").unlink()
    found = problems_of(folder, TEXT.replace("agents: true", "agents: maybe"))
    assert [line.split(": ")[1] for line in found] == [
        "security.tls.certificate",
        "security.tls.key",
        "security.tls.ca",
        "pools.p.agents",
    ]


@pytest.mark.parametrize(
    ("key", "name", "said"),
    [
        ("certificate", "key.pem", "'tls/key.pem' holds no certificate in PEM form"),
        ("ca", "key.pem", "'tls/key.pem' holds no certificate in PEM form"),
        ("key", "cert.pem", "'tls/cert.pem' holds no private key in PEM form"),
        ("key", "locked.pem", "'tls/locked.pem' has a passphrase, which nodes cannot type"),
        ("key", "", "'tls/' cannot be read: it is not a file"),
        ("ca", "pipe", "'tls/pipe' cannot be read: it is not a file"),
        ("ca", "x" * 300, "cannot be read: File name too long"),
    ],
)
def test_what_cannot_be_the_file_meant_is_refused(folder: Path, key: str, name: str, said: str) -> None:
    plain = load_pem_private_key((folder / "tls/key.pem").read_bytes(), None)
    locked = plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (folder / "tls/locked.pem").write_bytes(locked)
    os.mkfifo(folder / "tls/pipe")
    own = {"certificate": "cert.pem", "key": "key.pem", "ca": "ca.pem"}[key]
    (found,) = problems_of(folder, TEXT.replace(f"{key}: tls/{own}", f"{key}: tls/{name}"))
    assert f": security.tls.{key}: " in found
    assert said in found


STORE = """\
store:
  etcd: etcds://a:1
  ca: tls/ca.pem
  certificate: tls/cert.pem
  key: tls/key.pem
  user: ann
  password_file: secrets/etcd
"""


@pytest.fixture
def sharing(folder: Path) -> str:
    """The text of a topology whose controllers share a store."""
    (folder / "secrets").mkdir()
    (folder / "secrets/etcd").write_text("s3cret\n")
    return STORE + TEXT


def test_files_of_a_store_are_relative_to_the_topology_file_too(folder: Path, sharing: str) -> None:
    names = {"ca": "tls/ca.pem", "certificate": "tls/cert.pem", "key": "tls/key.pem", "password_file": "secrets/etcd"}
    store = load_text(sharing, str(folder / "shop.yaml")).store
    assert store == SharedStore("etcds://a:1", user="ann", **{key: str(folder / name) for key, name in names.items()})
    assert store.files == {key: str(folder / name) for key, name in names.items()}


@pytest.mark.parametrize(
    ("name", "place", "said"),
    [
        ("tls/ca.pem", "shop.yaml:3:7: store.ca: ", "'tls/ca.pem' cannot be read: No such file"),
        ("tls/key.pem", "shop.yaml:5:8: store.key: ", "'tls/key.pem' cannot be read: No such file"),
        ("secrets/etcd", "shop.yaml:7:18: store.password_file: ", "'secrets/etcd' cannot be read: No such file"),
    ],
)
def test_a_file_of_a_store_that_is_not_there_is_a_problem_at_its_place(
    folder: Path, sharing: str, name: str, place: str, said: str
) -> None:
    (folder / name).unlink()
    found = [line for line in problems_of(folder, sharing) if ": store." in line]
    assert len(found) == 1
    assert found[0].startswith(place + said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "does not hold one line: write the password into it, and nothing else"),
        (b"\n", "does not hold one line"),
        (b"a\nb\n", "does not hold one line"),
        (b"\xff", "is not UTF-8 text: write the password into it, in one line"),
    ],
)
def test_a_file_that_holds_no_password_is_refused(folder: Path, sharing: str, content: bytes, said: str) -> None:
    (folder / "secrets/etcd").write_bytes(content)
    (found,) = problems_of(folder, sharing)
    assert f": store.password_file: 'secrets/etcd' {said}" in found


@pytest.mark.parametrize(
    ("content", "password"), [(b"a", "a"), (b"a\n", "a"), (b"a\r\n", "a"), (b" a \n", " a "), ("ä".encode(), "ä")]
)
def test_a_password_is_all_of_the_line(content: bytes, password: str) -> None:
    assert password_line(content) == password


SECURED = """\
cluster: x
tiers:
  a:
    kind: l7
    listen: ":443"
    tls:
      certificates:
        - {certificate: shop.pem, key: shop.key}
      client_ca: ca.pem
    to: p
pools: {p: {agents: true}}
"""
AT = "tiers.a.tls.certificates[0]"


def secured(tmp_path: Path, text: str = SECURED) -> list[str]:
    (tmp_path / "shop.yaml").write_text(text)
    return problems_of(tmp_path, text)


def test_the_certificates_of_a_tier_are_read(tmp_path: Path) -> None:
    Authority(tmp_path).issue()
    assert secured(tmp_path) == []
    tls = load_file(tmp_path / "shop.yaml").tiers["a"].tls
    assert tls is not None
    assert tls.certificates[0].key == str(tmp_path / "shop.key")
    assert tls.client_ca == str(tmp_path / "ca.pem")


LISTENERS = """\
cluster: x
tiers:
  a:
    kind: l7
    listen:
      - {address: ":80", tls: off}
      - ":443"
      - {address: ":444", tls: {certificates: [{certificate: other.pem, key: shop.key}], minimum: 1.3}}
    tls: {certificates: [{certificate: shop.pem, key: shop.key}]}
    to: p
pools: {p: {agents: true}}
"""


def test_listeners_have_files_of_their_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    other = authority.issue(file="other")
    (problem,) = secured(tmp_path, LISTENERS)
    place = "tiers.a.listen[2].tls.certificates[0].key"
    assert problem == f"shop.yaml:8:78: {place}: 'shop.key' does not fit the certificate, whose key is another one"
    assert secured(tmp_path, LISTENERS.replace("other.pem, key: shop.key", "other.pem, key: other.key")) == []
    tier = load_file(tmp_path / "shop.yaml").tiers["a"]
    plain, usual, own = (listener_tls(tier, each) for each in tier.listen)
    assert plain is None
    assert usual is tier.tls
    assert own is not None
    assert own.certificates == (other,)
    assert own.minimum is LeastTls.TLS_1_3
    assert own.alpn == tuple(Alpn)
    said = [listener_text(each) for each in tier.listen]
    assert said[0] == "{address: 0.0.0.0:80, tls: off}"
    assert "tls: {certificates: [{certificate: " in said[2]


def test_a_word_other_than_off_is_no_tls(tmp_path: Path) -> None:
    text = LISTENERS.replace("tls: off", "tls: none").replace("other.pem, key: shop.key", "shop.pem, key: shop.key")
    Authority(tmp_path).issue()
    (problem,) = secured(tmp_path, text)
    assert "tiers.a.listen[0].tls: 'none' is not known: write off, or a mapping with certificates" in problem


def test_a_key_of_another_certificate_is_named_with_its_place(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    other = authority.issue(file="other")
    os.replace(other.key, tmp_path / "shop.key")
    (problem,) = secured(tmp_path)
    assert problem == f"shop.yaml:8:40: {AT}.key: 'shop.key' does not fit the certificate, whose key is another one"


@pytest.mark.parametrize(("since", "said"), [(-100.0, "has expired: renew it"), (5.0, "is not valid yet: renew it")])
def test_a_certificate_that_no_client_takes_is_named(tmp_path: Path, since: float, said: str) -> None:
    Authority(tmp_path).issue(days=10, since=since)
    (problem,) = secured(tmp_path)
    assert problem == f"shop.yaml:8:25: {AT}.certificate: 'shop.pem' {said}"


def test_all_files_that_are_missing_are_named_at_once(tmp_path: Path) -> None:
    found = secured(tmp_path)
    assert [problem.partition(": ")[0] for problem in found] == ["shop.yaml:8:25", "shop.yaml:8:40", "shop.yaml:9:18"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("kind: l7", "kind: l4\n    forward: handoff"), "tiers.a.tls: ends the TLS of clients here"),
        (("kind: l7", "kind: l4\n    protocol: udp"), "tiers.a.tls: is for connections"),
        (('    listen: ":443"\n', ""), "tiers.a.tls: has no effect"),
        (("      client_ca: ca.pem\n", "      client_certificates: require\n"), "no effect without 'client_ca'"),
        (("      client_ca: ca.pem\n", "      alpn: [spdy/3]\n"), "write h2 or http/1.1"),
    ],
)
def test_tls_where_it_does_nothing_is_a_fault(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    Authority(tmp_path).issue()
    before = "  b: {kind: l7, listen: ':80', to: a}\n" if "listen" in change[0] else ""
    text = SECURED.replace(*change).replace("tiers:\n", f"tiers:\n{before}")
    assert any(said in problem for problem in secured(tmp_path, text)), secured(tmp_path, text)


def test_what_a_pool_shows_and_trusts_is_looked_for(tmp_path: Path) -> None:
    pool = "pools: {p: {agents: true, tls: {ca: no.pem, certificate: c.pem, key: c.key}}}"
    text = SECURED.replace("pools: {p: {agents: true}}", pool)
    Authority(tmp_path).issue()
    found = [problem.partition(" ")[2].partition(":")[0] for problem in secured(tmp_path, text)]
    assert found == ["pools.p.tls.ca", "pools.p.tls.certificate", "pools.p.tls.key"]


def test_the_kernel_speaks_no_tls_to_endpoints(tmp_path: Path) -> None:
    text = """cluster: x
tiers: {e: {kind: l4, listen: ":80", to: p, forward: nftables}}
pools: {p: {agents: true, tls: {}}}
"""
    (problem,) = secured(tmp_path, text)
    assert problem.startswith("shop.yaml:3:27: pools.p.tls: the l4 tier 'e' has the kernel forward connections")
    assert secured(tmp_path, text.replace("nftables", "auto")) == []


def test_a_certificate_that_tiers_would_not_take_from_each_other_is_warned_of(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("edge", file="node")
    text = """cluster: x
security: {tls: {certificate: node.pem, key: node.key, ca: ca.pem}}
tiers:
  edge: {kind: l4, listen: ":80", to: web}
  web: {kind: l7, to: p}
pools: {p: {agents: true}}
"""
    assert files
    (warning,) = check_text(text, str(tmp_path / "shop.yaml")).warnings
    assert "shop.yaml:2:31: warning: security.tls.certificate: nodes that show it are refused" in str(warning)
    assert "add DNS:web to" in str(warning)
    Authority(tmp_path).issue("edge", "web", file="node")
    assert check_text(text, str(tmp_path / "shop.yaml")).warnings == ()
