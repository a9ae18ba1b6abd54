"""What endpoints read of a client's certificate, right, odd and hostile."""

import hashlib

import pytest

from tierlb.wire.client_certificate import MOST_NAMES, encode_client_certificate, subject_of

SUBJECT = ((("countryName", "DE"),), (("organizationName", "Shop, Inc."),), (("commonName", "alice"), ("userId", "7")))


def test_all_that_is_passed_on_is_there() -> None:
    fields = {
        "subject": SUBJECT,
        "subjectAltName": (("URI", "spiffe://shop/alice"), ("DNS", "a.example"), ("email", "a@x")),
    }
    assert encode_client_certificate(b"der", fields) == (
        b'Hash=%b;Subject="CN=alice+UID=7,O=Shop\\\\, Inc.,C=DE";URI=spiffe://shop/alice;DNS=a.example'
        % hashlib.sha256(b"der").hexdigest().encode()
    )


def test_a_subject_begins_with_its_most_specific_part() -> None:
    assert subject_of({"subject": SUBJECT}) == "CN=alice+UID=7,O=Shop\\, Inc.,C=DE"
    assert subject_of({}) == ""


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a\r\nX-Evil: 1", b"URI=a??X-Evil: 1"),
        ('a";Hash=0', b'URI="a\\";Hash=0"'),
        ("a,Hash=0", b'URI="a,Hash=0"'),
        ("a\\", b'URI="a\\\\"'),
        ("ä", b"URI=?"),
    ],
)
def test_nothing_leaves_its_place(name: str, written: bytes) -> None:
    found = encode_client_certificate(b"", {"subjectAltName": (("URI", name),)})
    assert found.endswith(b'Subject="";' + written)


def test_many_names_are_cut() -> None:
    names = tuple(("DNS", f"{number}.example") for number in range(1000))
    assert encode_client_certificate(b"", {"subjectAltName": names}).count(b"DNS=") == MOST_NAMES
