"""How etcd is reached, and as which user: the URL of the topology's `store`, TLS, and the user that logs in.

The password is read from its file at each login, so it may be changed while a controller runs. The files
for TLS are read once. Left out: users by the name in a client's certificate, which etcd's gateway ignores.
"""

import ssl
from pathlib import Path

import attrs

from tierlb.channel.durable import StoreError
from tierlb.model.topology import SharedStore
from tierlb.topology.files import password_line, read_regular
from tierlb.topology.net_forms import read_store_url
from tierlb.topology.typed import Scalar

PLAIN, SECURE = "etcd://", "etcds://"
PREFIX = "tierlb"


class Denied(StoreError):  # noqa: N818 (a verdict on the user)
    """etcd denies this controller access, or a right that it needs; an operator has to change that."""


@attrs.frozen
class EtcdUrl:
    """`members` are HOST:PORT, `prefix` is what all keys begin with, `tls` whether members speak TLS."""

    members: tuple[str, ...]
    prefix: str = PREFIX
    tls: bool = False

    def directory(self, cluster: str) -> str:
        """What the keys of this cluster begin with."""
        return f"{self.prefix}/{cluster}"


def parse_store_url(text: str) -> EtcdUrl:
    """Read `etcd://HOST:PORT[,HOST:PORT…][/PREFIX]`, or `etcds://`. Raises ValueError with a sentence that says what to
    write."""
    try:
        url = read_store_url(Scalar(text))
    except ValueError:
        raise ValueError(
            f"{text!r} is no store: write {PLAIN}HOST:PORT or {PLAIN}HOST:PORT,HOST:PORT/PREFIX, with TLS {SECURE}"
        ) from None
    prefix = url.partition("://")[2].partition("/")[2]
    return EtcdUrl(SharedStore(url).members, prefix or PREFIX, url.startswith(SECURE))


@attrs.frozen
class Login:
    """The user, and where the password is."""

    user: str
    password_file: Path

    def password(self) -> str:
        """As the file has it now. Raises Denied."""
        try:
            return password_line(read_regular(str(self.password_file)))
        except OSError as error:
            why = error.strerror or str(error)
        except UnicodeDecodeError:
            why = "it is not UTF-8 text"
        except ValueError as error:
            why = str(error)
        raise Denied(
            f"the password of {self.user} cannot be read from {self.password_file} ({why}): write it there, in one line"
        )


def login_of(store: SharedStore) -> Login | None:
    """None where etcd has no users."""
    if store.user is None or store.password_file is None:
        return None
    return Login(store.user, Path(store.password_file))


def tls_context(store: SharedStore) -> ssl.SSLContext | None:
    """None without TLS. A member's certificate must name the host of the URL. Raises StoreError."""
    if not parse_store_url(store.url).tls:
        return None
    try:
        context = ssl.create_default_context(cafile=store.ca)
    except OSError as error:
        raise StoreError(f"`ca` of `store`, {store.ca}, cannot be used: {_short_reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if store.certificate is not None:
        try:
            context.load_cert_chain(store.certificate, store.key, password=_refuse_passphrase)
        except (OSError, ValueError) as error:
            problem = f"`certificate` of `store`, {store.certificate}, cannot be used with the key {store.key}"
            raise StoreError(f"{problem}: {_short_reason(error)}") from error
    return context


def _refuse_passphrase() -> str:
    """Without this OpenSSL would ask at the terminal."""
    raise ValueError("the key has a passphrase, which no process can type: write the key without one")


def _short_reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is not in PEM form").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
