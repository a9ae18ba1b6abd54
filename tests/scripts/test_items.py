import pytest

from scripts.benchmarks.items import HOLDERS, LONG, SHORT, Guest, Item, dump, item_in, read_guests, request_head

ITEMS = (
    Item(first_s=5.0),
    Item(first_s=0.1, pieces=20, every_s=0.25, slot=True),
    Item(bulk_bytes=1000, read_per_s=100),
)


@pytest.mark.parametrize("item", ITEMS)
def test_an_endpoint_reads_from_the_head_what_the_client_was_given(item: Item) -> None:
    head = request_head(Guest(1.0, (item,), "/poll"), item)
    assert item_in(head.removesuffix(b"\r\n\r\n")) == item
    assert SHORT.search(head) is None


def test_proxies_may_change_the_names_case_and_add_lines_after_it() -> None:
    head = request_head(Guest(1.0, ITEMS), ITEMS[0]).replace(b"work:", b"Work:").removesuffix(b"\r\n\r\n")
    assert item_in(head + b"\r\nvia: 1.1 x") == ITEMS[0]


def test_a_short_request_is_no_long_one_and_may_not_count() -> None:
    short = SHORT.search(b"GET / HTTP/1.1\r\nwork: d=1.250000")
    other = SHORT.search(b"GET / HTTP/1.1\r\nwork: other d=1.250000")
    assert short is not None
    assert other is not None
    assert (short.groups(), other.groups()) == ((None, b"1.250000"), (b"other ", b"1.250000"))
    assert LONG.search(b"GET / HTTP/1.1\r\nwork: d=1.250000") is None


@pytest.mark.parametrize(
    ("item", "method", "lines"),
    [
        (Item(), "GET", []),
        (Item(), "POST", [b"Content-Length: 0"]),
        (Item(send_bytes=70, send_per_s=10), "POST", [b"Content-Length: 70"]),
        (Item(messages=3), "POST", [b"Transfer-Encoding: chunked"]),
    ],
)
def test_a_head_announces_the_body(item: Item, method: str, lines: list[bytes]) -> None:
    head = request_head(Guest(1.0, (item,), "/x", method), item)
    assert head.startswith(f"{method} /x HTTP/1.1\r\n".encode())
    assert [line for line in head.split(b"\r\n") if b"Length" in line or b"Encoding" in line] == lines


def test_some_items_last_only_at_the_first_endpoints() -> None:
    item = Item(first_s=8.0, elsewhere_s=0.2, pieces=4, every_s=0.5)
    assert [item.whole_s(number) for number in range(HOLDERS + 1)] == [10.0] * HOLDERS + [2.2]


def test_guests_are_read_as_they_were_written() -> None:
    guests = (Guest(1.0, ITEMS, "/poll", "POST"), Guest(2.0, ITEMS[:1]))
    assert read_guests(dump(guests)) == guests
