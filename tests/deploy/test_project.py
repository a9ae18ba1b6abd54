"""What a directory for compose holds after it was laid out once, twice, or for something else."""

import os
import stat

import attrs
import pytest
import trustme

from tests.certificates import Authority
from tierlb.deploy.compose import compose_document, file_secret
from tierlb.deploy.project import NotOurs, Project, lay_out, read_project, rendering
from tierlb.topology.edit import AddTier, edited
from tierlb.topology.load import load_file, load_text
from tierlb.wire.credentials import Principal, Role, proven, root_key

TEXT = """\
cluster: shop
tiers:
  web: {kind: l7, listen: "127.0.0.1:8080", to: app}
pools:
  app: {run: {command: "tierlb demo-backend --host {host} --port {port}"}}
"""
TLS = "security: {tls: {certificate: node.pem, key: pki/node.key, ca: pki/ca.pem}}\n"


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "deployed" / "shop", "shop", "tierlb:test")


def laid_out(project, text=TEXT):
    lay_out(project, load_text(text, str(project.topology_file)), text)
    return {str(path.relative_to(project.directory)): path for path in project.directory.rglob("*") if path.is_file()}


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_it_holds_the_compose_file_the_topology_and_the_tokens(project):
    files = laid_out(project)
    tokens = {f"secrets/{name}" for name in ("join-token", "admin-token", "node-token-web")}
    assert {*files} == {"compose.yaml", "topology.yaml", *tokens}
    assert files["topology.yaml"].read_text() == TEXT
    assert "controller-web" in files["compose.yaml"].read_text()


def test_a_container_s_user_may_read_every_file_and_others_of_the_host_no_secret(project):
    files = laid_out(project)
    assert mode(project.directory / "secrets") == 0o700
    assert {mode(path) for name, path in files.items() if name.startswith("secrets/")} == {0o444}
    assert [mode(files[name]) for name in ("topology.yaml", "compose.yaml")] == [0o644, 0o644]


def test_tokens_are_long_unlike_each_other_and_kept(project):
    first = {name: path.read_text() for name, path in laid_out(project).items() if name.startswith("secrets/")}
    assert len({*first.values()}) == 3
    assert all(len(token.strip()) >= 40 for token in first.values())
    changed = TEXT.replace("kind: l7,", "kind: l7, balance: random,")
    files = laid_out(project, changed)
    assert {name: files[name].read_text() for name in first} == first
    assert files["topology.yaml"].read_text() == changed


def test_tokens_of_tiers_and_of_pools_with_agents_follow_from_the_join_token(project):
    text = TEXT.replace("to: app", "to: [app, own]") + "  own: {agents: true}\n"
    secrets = {name: path.read_text().strip() for name, path in laid_out(project, text).items() if "token" in name}
    root = root_key(secrets["secrets/join-token"])
    assert proven(root, secrets["secrets/node-token-web"]) == Principal(Role.NODE, "web")
    assert proven(root, secrets["secrets/agent-token-own"]) == Principal(Role.AGENT, "own")
    assert len(secrets) == 4


def test_a_tier_that_is_put_in_has_a_token_and_all_others_keep_theirs(project):
    before = {name: path.read_text() for name, path in laid_out(project).items() if "token" in name}
    more = edited(TEXT, AddTier("mid", "l7", between=("web", "app")))
    after = {name: path.read_text() for name, path in laid_out(project, more).items() if "token" in name}
    assert after.keys() - before.keys() == {"secrets/node-token-mid"}
    assert {name: after[name] for name in before} == before


def test_with_another_join_token_the_tokens_that_follow_are_others(project):
    before = laid_out(project)["secrets/node-token-web"].read_text()
    token = project.directory / "secrets" / "join-token"
    token.unlink()
    token.write_text("one of my own\n")
    files = laid_out(project)
    after = files["secrets/node-token-web"].read_text().strip()
    assert (files["secrets/join-token"].read_text(), after == before.strip()) == ("one of my own\n", False)
    assert proven(root_key("one of my own"), after) == Principal(Role.NODE, "web")


@pytest.mark.parametrize("content", [b"two\nlines\n", b"\xff\n", b"\n"])
def test_a_join_token_that_no_controller_could_read_is_told(project, content):
    token = laid_out(project)["secrets/join-token"]
    token.unlink()
    token.write_bytes(content)
    with pytest.raises(NotOurs, match="join-token holds no token in one line: remove it"):
        laid_out(project)


def test_what_was_laid_out_says_itself_what_it_is(project):
    laid_out(project)
    assert read_project(project.directory) == project
    assert read_project(project.directory).topology_file == project.directory / "topology.yaml"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_a_directory_of_another_user_is_refused(project):
    """They could put other files in the place of those that are written."""
    project.directory.mkdir(parents=True)
    os.chown(project.directory, 12345, 12345)
    with pytest.raises(OSError, match="it belongs to uid 12345"):
        laid_out(project)
    assert list(project.directory.iterdir()) == []


def test_another_cluster_is_not_written_over(project):
    files = laid_out(project)
    other = attrs.evolve(project, cluster="other")
    with pytest.raises(NotOurs, match="holds the cluster shop: choose another directory"):
        laid_out(other, TEXT.replace("shop", "other"))
    assert files["topology.yaml"].read_text() == TEXT


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("services: {web: {image: nginx}}\n", "was not written by `tierlb compose`"),
        ("x-tierlb: {image: a}\n", "was not written by `tierlb compose`"),
        ("a: [\n", "cannot be read"),
        ("- a\n", "was not written by `tierlb compose`"),
    ],
)
def test_somebody_else_s_compose_file_is_left_alone(project, content, told):
    project.directory.mkdir(parents=True)
    (project.directory / "compose.yaml").write_text(content)
    with pytest.raises(NotOurs, match=told):
        laid_out(project)
    assert [path.name for path in project.directory.iterdir()] == ["compose.yaml"]


def test_where_nothing_was_laid_out_it_says_how_to(tmp_path):
    with pytest.raises(NotOurs, match="`tierlb compose FILE --output"):
        read_project(tmp_path)


def test_certificates_come_along_and_are_found_again_from_the_original_file(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("controller-web")
    (tmp_path / "pki").mkdir()
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "node.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "pki/node.key"))
    authority.cert_pem.write_to_path(str(tmp_path / "pki/ca.pem"))
    (tmp_path / "shop.yaml").write_text(TLS + TEXT)

    project = Project(tmp_path / "deployed", "shop", "tierlb:test", "../shop.yaml")
    topology = load_file(tmp_path / "shop.yaml")
    lay_out(project, topology, TLS + TEXT)
    secrets = project.directory / "secrets"
    assert [(secrets / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt")] == [
        (tmp_path / name).read_bytes() for name in ("node.pem", "pki/node.key", "pki/ca.pem")
    ]
    again = read_project(project.directory)
    assert again == project
    text = (project.directory / "topology.yaml").read_text()
    assert compose_document(rendering(again, load_text(text, str(again.topology_file)), text)) == compose_document(
        rendering(project, topology, TLS + TEXT)
    )


STORE = """\
store: {etcd: "etcds://a:1", ca: pki/etcd.pem, certificate: node.pem, key: pki/node.key, user: ann, password_file: word}
"""


def test_the_files_of_a_store_come_along_and_each_once(tmp_path):
    authority, other = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("controller-web")
    (tmp_path / "pki").mkdir()
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "node.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "pki/node.key"))
    authority.cert_pem.write_to_path(str(tmp_path / "pki/ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "pki/etcd.pem"))
    (tmp_path / "word").write_text("secret\n")
    own = {"ca.crt": "pki/etcd.pem", "password": "word"}
    both = {"tls.crt": "node.pem", "tls.key": "pki/node.key"}
    for text, wanted in ((STORE + TEXT, own | both), (STORE + TLS + TEXT, own)):
        (tmp_path / "shop.yaml").write_text(text)
        project = Project(tmp_path / str(len(wanted)), "shop", "tierlb:test", "../shop.yaml")
        lay_out(project, load_file(tmp_path / "shop.yaml"), text)
        secrets = project.directory / "secrets"
        found = {path.name.removeprefix("store-"): path for path in secrets.iterdir() if path.name.startswith("store-")}
        assert {name: path.read_text() for name, path in found.items()} == {
            name: (tmp_path / source).read_text() for name, source in wanted.items()
        }
        assert {mode(path) for path in found.values()} == {0o444}
        again = read_project(project.directory)
        kept = (project.directory / "topology.yaml").read_text()
        assert compose_document(rendering(again, load_text(kept, str(again.topology_file)), kept)) == compose_document(
            rendering(project, load_file(tmp_path / "shop.yaml"), text)
        )


def test_files_arrive_as_they_are_whatever_is_in_them(tmp_path):
    certificate = trustme.CA().issue_cert("controller-web")
    (tmp_path / "pki").mkdir()
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "node.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "pki/node.key"))
    commented = b"# M\xfcller\r\n" + trustme.CA().cert_pem.bytes()
    (tmp_path / "pki/ca.pem").write_bytes(commented)
    (tmp_path / "pki/etcd.pem").write_bytes(commented + b"\r")
    (tmp_path / "word").write_bytes(b"pa\rss\r\n")
    (tmp_path / "shop.yaml").write_text(STORE + TLS + TEXT)
    project = Project(tmp_path / "deployed", "shop", "tierlb:test", "../shop.yaml")
    lay_out(project, load_file(tmp_path / "shop.yaml"), STORE + TLS + TEXT)
    secrets = project.directory / "secrets"
    assert [(secrets / name).read_bytes() for name in ("ca.crt", "store-ca.crt", "store-password")] == [
        commented,
        commented + b"\r",
        b"pa\rss\r\n",
    ]


def test_where_a_file_cannot_be_read_no_secret_is_written(tmp_path):
    (tmp_path / "word").write_text("secret\n")
    text = 'store: {etcd: "etcd://a:1", user: ann, password_file: word}\n' + TEXT
    (tmp_path / "shop.yaml").write_text(text)
    topology = load_file(tmp_path / "shop.yaml")
    (tmp_path / "word").unlink()
    project = Project(tmp_path / "deployed", "shop", "tierlb:test", "../shop.yaml")
    with pytest.raises(FileNotFoundError):
        lay_out(project, topology, text)
    assert [*project.directory.iterdir()] == []


def test_a_renewed_certificate_is_written_into_the_file_that_running_containers_have(tmp_path):
    authority = Authority(tmp_path)
    authority.issue()
    text = TEXT.replace("to: app}", "tls: {certificates: [{certificate: shop.pem, key: shop.key}]}, to: app}")
    (tmp_path / "shop.yaml").write_text(text)
    project = Project(tmp_path / "deployed", "shop", "tierlb:test", "../shop.yaml")
    lay_out(project, load_file(tmp_path / "shop.yaml"), text)
    secrets = project.directory / "secrets"
    copies = {name: secrets / file_secret(name) for name in ("shop.pem", "shop.key")}
    before = {name: (copy.stat().st_ino, copy.read_bytes()) for name, copy in copies.items()}
    authority.issue("new.example")
    lay_out(project, load_file(tmp_path / "shop.yaml"), text)
    for name, copy in copies.items():
        inode, content = before[name]
        assert copy.stat().st_ino == inode
        assert content != copy.read_bytes() == (tmp_path / name).read_bytes()
        assert mode(copy) == 0o444
    lay_out(project, load_text(TEXT, "shop.yaml"), TEXT)
    assert [path.name for path in secrets.glob("file-*")] == [], "a key that is not named any more does not stay"
