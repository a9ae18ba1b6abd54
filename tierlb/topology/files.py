"""The files that a topology names: where they are, and whether they can be what they are named for.

Names are relative to the topology file, wherever the command was started. In a text that was sent to a controller they
are relative to that controller's file, because they are read on its machine. The checks are for usual mistakes: a file
that is not there or not readable, or a key in the place of a certificate. A key with a passphrase is an error too,
since no process can type it. Certificates for clients are read with their keys as well. Whether those of the control
channel belong to its authority is left to TLS itself.
"""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path as FilePath

from tierlb.model.topology import Topology
from tierlb.topology.allot import tiers_joined
from tierlb.topology.certificates import UnusableCertificate, read_certificate
from tierlb.topology.problems import Fault, Path
from tierlb.topology.shapes import FileShape, StoreShape, places_of_tls
from tierlb.topology.tls_shapes import CertificateShape
from tierlb.topology.units import shown

MAX_NAMED_FILE_BYTES = 1 << 20
"""A bundle of all public authorities takes a quarter of this."""
CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
KEY = b"PRIVATE KEY-----"
PASSWORD = "password_file"  # noqa: S105 (the key, not what it is for)
ENCRYPTED = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")
"""PKCS 8 (RFC 7468 §11) and the older form of OpenSSL."""


def resolved(folder: str, name: str) -> str:
    """The whole path of a file named in a topology file that stands in `folder`."""
    return str(FilePath(folder, name).absolute())


def file_faults(file: FileShape, folder: str) -> Iterator[Fault]:
    """Faults of the files that the topology names."""
    if file.security is not None:
        yield from _faults(("security", "tls"), file.security.tls, ("certificate", "key", "ca"), folder)
    if file.admin is not None and file.admin.tls is not None:
        yield from _faults(("admin", "tls"), file.admin.tls, ("certificate", "key"), folder)
    for name, tier in file.tiers.items():
        for path, tls in places_of_tls(tier, ("tiers", name)):
            yield from _faults(path, tls, ("client_ca",), folder)
            for index, pair in enumerate(tls.certificates):
                at = (*path, "certificates", index)
                faults = list(_faults(at, pair, ("certificate", "key"), folder))
                yield from faults or _certificate_faults(at, pair, folder)
    for name, pool in (file.pools or {}).items():
        if pool.tls is not None:
            yield from _faults(("pools", name, "tls"), pool.tls, ("ca", "certificate", "key"), folder)
    if isinstance(file.store, StoreShape):
        yield from _faults(("store",), file.store, ("ca", "certificate", "key", PASSWORD), folder)


def certificate_advice(topology: Topology) -> Iterator[Fault]:
    """Where nodes would not take the certificate of `security.tls` from each other. Nodes that are started by hand may
    have certificates of their own, so this is no fault."""
    tls = topology.tls
    if tls is None:
        return
    try:
        fields = read_certificate(tls.certificate, tls.key)
    except UnusableCertificate:
        return
    path = ("security", "tls", "certificate")
    if problem := fields.problem(datetime.now(UTC).timestamp()):
        yield Fault(path, f"it {problem}: renew it")
    if lacks := [name for name in tiers_joined(topology) if name not in fields.names]:
        names = ", ".join(f"DNS:{name}" for name in lacks)
        yield Fault(path, f"nodes that show it are refused by those of other tiers: add {names} to its subjectAltName")


def password_line(content: bytes) -> str:
    """The password that a file holds, without what ends its line. Raises ValueError."""
    text = content.decode().removesuffix("\n").removesuffix("\r")
    if not text or "\n" in text:
        raise ValueError("it does not hold one line")
    return text


def read_regular(path: str) -> bytes:
    """At most MAX_BYTES of it. Raises OSError, and ValueError for what is no file: a pipe or a device would keep the
    reader waiting, also at its opening."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is not a file")
    with FilePath(path).open("rb") as stream:
        return stream.read(MAX_NAMED_FILE_BYTES)


def _faults(path: Path, shape: object, keys: tuple[str, ...], folder: str) -> Iterator[Fault]:
    for key in keys:
        name = getattr(shape, key)
        if name is not None and (reason := _file_refusal(resolved(folder, name), key)):
            yield Fault((*path, key), f"{shown(name)} {reason}")


def _certificate_faults(path: Path, pair: CertificateShape, folder: str) -> Iterator[Fault]:
    """Of two files that hold what they are named for."""
    try:
        fields = read_certificate(resolved(folder, pair.certificate), resolved(folder, pair.key))
    except UnusableCertificate as error:
        yield Fault((*path, error.about), f"{shown(getattr(pair, error.about))} {error}")
        return
    if problem := fields.problem(datetime.now(UTC).timestamp()):
        yield Fault((*path, "certificate"), f"{shown(pair.certificate)} {problem}: renew it")


def _file_refusal(path: str, key: str) -> str | None:
    """Why the file cannot be used for the key, if it cannot."""
    try:
        content = read_regular(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"cannot be read: {reason} (looked for at {path!r})"
    if key == PASSWORD:
        return _password_refusal(content)
    if key != "key":
        return None if CERTIFICATE in content else "holds no certificate in PEM form"
    if any(sign in content for sign in ENCRYPTED):
        return "has a passphrase, which nodes cannot type: write a key without one"
    return None if KEY in content else "holds no private key in PEM form"


def _password_refusal(content: bytes) -> str | None:
    try:
        password_line(content)
    except UnicodeDecodeError:
        return "is not UTF-8 text: write the password into it, in one line"
    except ValueError:
        return "does not hold one line: write the password into it, and nothing else"
    return None
