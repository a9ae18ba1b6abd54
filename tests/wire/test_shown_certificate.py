"""For which hosts a certificate is the right one, here and at a node that was told of it."""

import pytest

from tierlb.wire.shown_certificate import MOST_SHOWN_BYTES, ShownCertificate, read_shown

DEFAULT = ShownCertificate({"shop.example", "*.shop.example"}, {"a.shop.example", "*.other.example"}, is_default=True)
OTHER = ShownCertificate({"a.shop.example", "*.other.example"}, {"shop.example", "*.shop.example"}, is_default=False)


@pytest.mark.parametrize(
    ("host", "default", "other"),
    [
        (b"shop.example", True, False),
        (b"SHOP.example.", True, False),
        (b"b.shop.example", True, False),
        (b"a.shop.example", False, True),
        (b"x.other.example", False, True),
        (b"unknown.example", True, False),
        (b"", True, True),
    ],
)
def test_a_host_is_served_by_the_certificate_that_its_name_leads_to(host: bytes, default: bool, other: bool) -> None:
    assert (DEFAULT.serves(host), OTHER.serves(host)) == (default, other)
    for shown in (DEFAULT, OTHER):
        told = read_shown(shown.encoded())
        assert told is not None
        assert told.serves(host) == shown.serves(host)


def test_of_very_many_names_those_of_the_shown_one_are_told_unless_it_is_for_all_others() -> None:
    many = {f"{number}.example" for number in range(MOST_SHOWN_BYTES)}
    told = read_shown(ShownCertificate({"a.example"}, many, is_default=False).encoded())
    assert told is not None
    assert (told.serves(b"a.example"), told.serves(b"1.example")) == (True, False)
    assert read_shown(ShownCertificate({"a.example"}, many, is_default=True).encoded()) is None
    assert read_shown(ShownCertificate(many, set(), is_default=False).encoded()) is None


@pytest.mark.parametrize("nothing", [b"", b"1", b"1\na", b"1\na\nb\nc"])
def test_what_is_in_another_form_tells_nothing(nothing: bytes) -> None:
    assert read_shown(nothing) is None
