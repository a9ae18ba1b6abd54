"""Both ends over real sockets: who gets in, and what the others are told to do."""

import ssl
from pathlib import Path

import attrs
import pytest
import trio

from tests.certificates import Authority
from tests.dataplane.conftest import Log
from tests.joining import admit
from tierlb.model.address import Address
from tierlb.model.tls import Tls
from tierlb.net.cluster_tls import ClusterTls
from tierlb.net.tls import TlsProblem, client_context, explain_tls_problem, server_context
from tierlb.net.websocket import Disconnected, connect
from tierlb.net.websocket_server import WebsocketServer

DEADLINE_S = 30.0
LISTEN = Address("127.0.0.1", 0)


class Echo:
    def __init__(self, connection):
        self.connection = connection

    def receive(self, data, now):
        self.connection.send(data)

    def ended(self, reason):
        pass


@pytest.fixture
async def start(nursery):
    async def start(context):
        return await nursery.start(WebsocketServer(Echo, admit, pytest.fail, lambda: context).serve, LISTEN)

    return start


async def say(url, tls):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret", tls) as channel:
            for data in (b"hello", bytes(200_000)):
                await channel.send(data)
                assert await channel.receive() == data


async def refusal(url, tls):
    with pytest.raises(Disconnected) as caught:
        await say(url, tls)
    return str(caught.value)


@pytest.fixture
async def port(start, authority):
    return (await start(server_context(authority.issue("127.0.0.1", "localhost")))).port


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_both_with_a_certificate_of_the_ca_understand_each_other(port, authority, host):
    await say(f"wss://{host}:{port}", client_context(authority.issue("web-1")))


async def test_a_child_without_a_certificate_is_refused(port, authority):
    context = ssl.create_default_context(cafile=authority.ca_file)
    assert "Is this node's certificate signed by the parent's CA?" in await refusal(f"wss://127.0.0.1:{port}", context)


async def test_a_child_with_a_certificate_of_another_ca_is_refused(port, authority, stranger):
    tls = attrs.evolve(stranger.issue("web-1"), ca=authority.ca_file)
    reason = await refusal(f"wss://127.0.0.1:{port}", client_context(tls))
    assert "Is this node's certificate signed by the parent's CA?" in reason


async def test_a_parent_with_a_certificate_of_another_ca_is_not_believed(port, stranger):
    reason = await refusal(f"wss://127.0.0.1:{port}", client_context(stranger.issue("web-1")))
    assert "the certificate of 127.0.0.1 is not trusted" in reason


async def test_a_parent_whose_certificate_names_another_host_is_not_believed(start, authority):
    address = await start(server_context(authority.issue("edge.example")))
    reason = await refusal(f"wss://{address}", client_context(authority.issue("web-1")))
    assert reason == "the certificate of 127.0.0.1 is for another name: add 127.0.0.1 to its subjectAltName"


async def test_tls_to_a_parent_without_it_says_so(start, authority):
    address = await start(None)
    reason = await refusal(f"wss://{address}", client_context(authority.issue("web-1")))
    assert "TLS with 127.0.0.1 failed" in reason


async def test_a_token_never_travels_in_the_clear_by_mistake(port, authority):
    context = client_context(authority.issue("web-1"))
    assert "join by wss://" in await refusal(f"ws://127.0.0.1:{port}", context)
    assert "no certificate is given here" in await refusal(f"wss://127.0.0.1:{port}", None)


async def test_one_that_speaks_plainly_is_cut_off_and_harms_nobody(port, authority):
    assert "does not answer as a parent" in await refusal(f"ws://127.0.0.1:{port}", None)
    await say(f"wss://127.0.0.1:{port}", client_context(authority.issue("web-1")))


async def test_nothing_older_than_tls_1_2_is_spoken(port, authority):
    tls = authority.issue("web-1")
    for context in (server_context(tls), client_context(tls)):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert client_context(tls).check_hostname


ENCRYPTED = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHeMEkGCSqGSIb3DQEFDTA8MBsGCSqGSIb3DQEFDDAOBAh9LyhTNk3JxAICCAAw
HQYJYIZIAWUDBAEqBBD2bJbD1O8pfg==
-----END ENCRYPTED PRIVATE KEY-----
"""


@pytest.mark.parametrize(
    ("field", "content", "problem"),
    [
        ("ca", None, "the CA file .* No such file"),
        ("ca", "", "the CA file"),
        ("certificate", None, "the certificate .* No such file"),
        ("certificate", "garbage", "the certificate .* cannot be used"),
        ("key", None, "No such file"),
        ("key", "garbage", "cannot be used with the key"),
        ("key", ENCRYPTED, "cannot be used with the key"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(authority, tmp_path, field, content, problem):
    file = tmp_path / "bad.pem"
    if content is not None:
        file.write_text(content)
    tls = attrs.evolve(authority.issue("web-1"), **{field: str(file)})
    for make in (server_context, client_context):
        with pytest.raises(TlsProblem, match=problem) as caught:
            make(tls)
        assert str(file) in str(caught.value)


def test_an_encrypted_key_is_not_asked_for_at_the_terminal(authority, tmp_path):
    from cryptography.hazmat.primitives import serialization as forms

    tls = authority.issue("web-1")
    key = forms.load_pem_private_key(Path(tls.key).read_bytes(), None)
    locked = forms.BestAvailableEncryption(b"x")
    file = tmp_path / "locked.key"
    file.write_bytes(key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, locked))
    with pytest.raises(TlsProblem, match="without a passphrase"):
        server_context(attrs.evolve(tls, key=str(file)))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "failed"),
        (trio.BrokenResourceError(), "broke the connection off"),
    ],
)
def test_what_went_wrong_is_said_in_words(error, words):
    assert words in explain_tls_problem(error, "edge")


async def test_a_control_connection_goes_on_while_its_certificate_is_renewed_and_the_next_gets_the_new_one(
    nursery, tmp_path
):
    authority = Authority(tmp_path)
    files = authority.issue("127.0.0.1", file="node")
    tls = ClusterTls(Tls(files.certificate, files.key, str(tmp_path / "ca.pem")), Log())
    at = await nursery.start(WebsocketServer(Echo, admit, pytest.fail, tls.control_server).serve, LISTEN)
    with trio.fail_after(DEADLINE_S):
        async with connect(f"wss://{at}", "secret", tls.control_client()) as before:
            renewed = Authority(tmp_path)  # another authority: only what is new knows the other
            renewed.issue("127.0.0.1", file="node")
            assert tls.look()
            await before.send(b"still here")
            assert await before.receive() == b"still here"
            await say(f"wss://{at}", tls.control_client())
            with pytest.raises(Disconnected):
                await say(f"wss://{at}", old(authority))


def old(authority):
    """The context of one that knows the authority of before alone."""
    (authority.folder / "old").mkdir()
    authority.ca.cert_pem.write_to_path(str(authority.folder / "old" / "ca.pem"))
    files = authority.issue("127.0.0.1", file="old")
    return client_context(Tls(files.certificate, files.key, str(authority.folder / "old" / "ca.pem")))
