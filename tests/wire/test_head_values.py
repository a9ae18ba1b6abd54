"""What a head answers for its block, and a block with other lines."""

from tierlb.wire.head_values import Block, RequestHead
from tierlb.wire.http_head import parse_request_head

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\nTE: trailers\r\nContent-Length: 5\r\n\r\n"


def _meaning(block: Block) -> tuple[object, ...]:
    return (
        *(block.minor, block.content_length, block.chunked, block.keep_alive, block.expect_continue),
        *(block.upgrade, block.takes_trailers, block.dropped),
    )


def test_a_head_answers_for_its_block() -> None:
    head = parse_request_head(HEAD)
    assert (head.host, head.host_name, head.content_length, head.chunked) == (b"a", b"a", 5, False)
    assert (head.keep_alive, head.expect_continue, head.upgrade, b"x" in head.dropped) == (False, False, None, True)
    assert head.headers[0] == (b"Host", b"a")
    assert (head.get(b"content-length"), head.get(b"x-none")) == (b"5", None)


def test_a_block_with_other_lines_means_the_same_and_is_to_be_passed_on_anew() -> None:
    block = parse_request_head(HEAD).block
    block.passing = [b"as it was", None, None, None]
    other = block.with_fields(block.fields[1:], b"b:80", b"b")
    assert _meaning(other) == _meaning(block)
    assert (other.host, other.host_name, other.passing) == (b"b:80", b"b", [None] * 4)
    assert RequestHead(b"GET", b"/", 1, other).get(b"host") is None
