"""Documents come back as they were, or tell what is wrong with them."""

import json
import re

import attrs
import pytest

from tierlb.channel.durable import StoreError
from tierlb.controller.documents import DOCUMENT_FORMAT, Damaged, digest, from_plain, parse_document, to_plain
from tierlb.model.topology import Admin


@attrs.frozen
class Kept:
    number: int = 1
    ratio: float = 0.5
    text: str = ""
    wishes: dict[str, Admin] = attrs.Factory(dict)
    rows: tuple[int, ...] = ()


FULL = Kept(7, 1e9, "ü \udce4 \x00", {"web-1": Admin.DRAIN}, (1, 2))


@pytest.mark.parametrize("kept", [Kept(), FULL])
def test_values_come_back_as_they_were(kept: Kept) -> None:
    assert from_plain(json.loads(json.dumps(to_plain(kept))), Kept) == kept


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("number", "7", "expected int @ $.number"),
        ("number", True, "expected int @ $.number"),
        ("number", 7.0, "expected int @ $.number"),
        ("ratio", "0.5", "expected float @ $.ratio"),
        ("text", 5, "expected str @ $.text"),
        ("wishes", {"web-1": "asleep"}, "expected Admin @ $.wishes['web-1']"),
        ("wishes", 5, "$.wishes"),
        ("rows", [1, "2"], "expected int @ $.rows[1]"),
        ("rows", 5, "$.rows"),
    ],
)
def test_nothing_is_coerced_and_it_is_said_where_it_is_wrong(field: str, value: object, place: str) -> None:
    with pytest.raises(Damaged, match=re.escape(place)):
        from_plain({**to_plain(FULL), field: value}, Kept)


def test_a_field_of_a_later_version_is_passed_over_and_one_with_a_default_may_be_missing() -> None:
    plain = {**to_plain(FULL), "later": 1}
    del plain["rows"]
    assert from_plain(plain, Kept) == attrs.evolve(FULL, rows=())
    assert from_plain({**plain, "ratio": 2}, Kept).ratio == 2.0


def test_a_document_of_this_format_is_parsed() -> None:
    assert parse_document(b'{"format": 1, "x": 2}', "FILE", "weep") == {"format": 1, "x": 2}


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[" * 100_000, b"7", b"{}", b'{"format": "1"}', b'{"format": 0}']
)
def test_what_is_no_document_is_damaged(content: bytes) -> None:
    with pytest.raises(Damaged, match=r"not JSON|not a document of tierlb"):
        parse_document(content, "FILE", "weep")


def test_a_document_of_a_newer_tierlb_is_no_damage() -> None:
    with pytest.raises(StoreError, match=rf"^FILE has format {DOCUMENT_FORMAT + 1} .* start the newer one, or weep$"):
        parse_document(json.dumps({"format": DOCUMENT_FORMAT + 1}).encode(), "FILE", "weep")


def test_the_digest_tells_values_apart_and_orders_of_keys_not() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert len({digest(plain) for plain in ([1, "2"], ["1", 2], [1, 2], [2, 1], {"1": 2}, None, "")}) == 7
