"""Certificates for tests, and clients that trust them."""

import datetime
import ssl
from pathlib import Path
from typing import Any

import trio
import trustme

from tests.dataplane.conftest import Lab, Voice
from tierlb.model.address import Address
from tierlb.model.tls import CertificateFiles, ListenerTls

EC = trustme.KeyType.ECDSA
NAME = "shop.example"


class Authority:
    """Signs certificates, and puts them into a folder."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA(key_type=EC)
        self.folder = folder
        self.ca.cert_pem.write_to_path(str(folder / "ca.pem"))

    def issue(
        self, *names: str, file: str = "shop", days: float = 90, since: float = -1, **more: Any
    ) -> CertificateFiles:
        """A certificate for these names that is valid from `since` days from now, for `days`."""
        begins = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=since)
        ends = begins + datetime.timedelta(days=days)
        issued = self.ca.issue_cert(*(names or (NAME,)), key_type=EC, not_before=begins, not_after=ends, **more)
        files = CertificateFiles(str(self.folder / f"{file}.pem"), str(self.folder / f"{file}.key"))
        Path(files.certificate).write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(files.key)
        return files

    def tls(self, *names: str, **more: Any) -> ListenerTls:
        """One certificate is all that clients are shown."""
        return ListenerTls((self.issue(*names),), **more)

    def client(self, **settings: Any) -> ssl.SSLContext:
        """What a client needs that trusts these certificates, with settings of the context."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        for name, value in settings.items():
            setattr(context, name, value)
        return context


class SecuredStream:
    """What `Voice` asks of a stream, over TLS."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], under: trio.SocketStream) -> None:
        self.ssl = stream
        self.socket = under.socket
        self.send_all = stream.send_all
        self.receive_some = stream.receive_some
        self.aclose = stream.aclose


async def connects_by_tls(lab: Lab, context: ssl.SSLContext, to: Address | None = None, name: str = NAME) -> Voice:
    """A client that speaks TLS with a node, and takes its certificate."""
    voice = await lab.connects(to)
    under = voice.stream
    secured = trio.SSLStream(under, context, server_hostname=name)
    with trio.fail_after(30):
        await secured.do_handshake()
    voice.stream = SecuredStream(secured, under)  # type: ignore[assignment]
    return voice
