"""X-Forwarded-Client-Cert: the certificate that a client showed, in words for endpoints.

The field's form is that of Envoy (its documentation of HTTP header manipulation): `Hash=…;Subject="…";URI=…;DNS=…`, of
which each client that a chain of proxies saw adds one element. Hash is the SHA-256 of the certificate, and Subject has
the form of RFC 4514. Left out: Cert and Chain, which are kilobytes for each request, and By.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

CLIENT_CERTIFICATE_FIELD: Final = b"X-Forwarded-Client-Cert"
MOST_NAMES: Final = 20
"""Of a kind. The field has to fit into the heads that servers take."""
_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
"""RFC 4514 §3; other types keep the names that OpenSSL has for them."""
_KINDS: Final = (("URI", "URI"), ("DNS", "DNS"))
_APART: Final = frozenset(',;="\\')


def encode_client_certificate(der: bytes, fields: Mapping[str, Any]) -> bytes:
    """The value of the field. `fields`: as `ssl.SSLSocket.getpeercert` has them."""
    parts = [f"Hash={hashlib.sha256(der).hexdigest()}", f'Subject="{_escaped(subject_of(fields))}"']
    names: Iterable[tuple[str, str]] = fields.get("subjectAltName", ())
    for kind, key in _KINDS:
        parts += [f"{key}={_value(name)}" for found, name in names if found == kind][:MOST_NAMES]
    return ";".join(parts).encode("ascii", "replace")


def subject_of(fields: Mapping[str, Any]) -> str:
    """The subject, the most specific part first (RFC 4514 §2.1)."""
    sets: Iterable[Iterable[tuple[str, str]]] = fields.get("subject", ())
    parts = ["+".join(f"{_SHORT.get(kind, kind)}={_name(value)}" for kind, value in each) for each in sets]
    return ",".join(reversed(parts))


def _name(value: str) -> str:
    """A value of the subject (RFC 4514 §2.4)."""
    return "".join(f"\\{char}" if char in ',+"\\<>;' else char for char in value)


def _value(text: str) -> str:
    return f'"{_escaped(text)}"' if _APART & set(text) else _printable(text)


def _escaped(text: str) -> str:
    return _printable(text).replace("\\", "\\\\").replace('"', '\\"')


def _printable(text: str) -> str:
    """An authority may sign anything; a field of HTTP holds no line breaks."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)
