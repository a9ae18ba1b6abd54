"""The files that a topology names: where they are, and whether they can be what they are named for.

Names are relative to the topology file, wherever the command was started. What is looked at is what a person gets
wrong: a file that is not there or not readable, a key in the place of a certificate, a key with a passphrase (nobody
would be there to type it). Whether key, certificate and authority belong together is left to TLS itself.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path as FilePath

from tierlb.topology.problems import Fault
from tierlb.topology.shapes import FileShape
from tierlb.topology.units import shown

MAX_BYTES = 1 << 20
"""A bundle of all public authorities takes a quarter of this."""
CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
KEY = b"PRIVATE KEY-----"
ENCRYPTED = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")
"""PKCS 8 (RFC 7468 §11) and the older form of OpenSSL."""


def resolved(folder: str, name: str) -> str:
    """The whole path of a file named in a topology file that stands in `folder`."""
    return str(FilePath(folder, name).absolute())


def file_faults(file: FileShape, folder: str) -> Iterator[Fault]:
    """Faults of the files that the topology names."""
    if file.security is None:
        return
    tls = file.security.tls
    for key, name in (("certificate", tls.certificate), ("key", tls.key), ("ca", tls.ca)):
        reason = _refusal(resolved(folder, name), key)
        if reason:
            yield Fault(("security", "tls", key), f"{shown(name)} {reason}")


def _refusal(path: str, key: str) -> str | None:
    """Why the file cannot be used for the key, if it cannot."""
    try:
        content = _read(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"cannot be read: {reason}"
    if key != "key":
        return None if CERTIFICATE in content else "holds no certificate in PEM form"
    if any(sign in content for sign in ENCRYPTED):
        return "has a passphrase, which nodes cannot type: write a key without one"
    return None if KEY in content else "holds no private key in PEM form"


def _read(path: str) -> bytes:
    # a pipe or a device would keep the reader waiting, also at its opening
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is not a file")
    with FilePath(path).open("rb") as stream:
        return stream.read(MAX_BYTES)
