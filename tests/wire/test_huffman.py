"""Huffman strings, beside the code table and the encoder of `hpack`."""

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from tierlb.wire.huffman import CODE_LENGTHS, BadHuffmanError, decode_huffman

ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def test_the_lengths_are_those_of_the_rfc() -> None:
    assert list(CODE_LENGTHS) == REQUEST_CODES_LENGTH


@given(st.binary(max_size=100))
def test_what_was_encoded_is_decoded(text: bytes) -> None:
    assert decode_huffman(ENCODER.encode(text)) == text


def test_every_byte_has_its_code() -> None:
    assert decode_huffman(ENCODER.encode(bytes(range(256)))) == bytes(range(256))


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xff\xff\xff",  # EOS
        b"\x07\xff",  # `0`, and padding of eleven bits
        b"\x00",  # `0`, and padding with zeros
        b"\xff",  # eight bits of padding
        b"\xfe",
    ],
)
def test_wrong_endings_are_refused(text: bytes) -> None:
    with pytest.raises(BadHuffmanError):
        decode_huffman(text)


@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(text: bytes) -> None:
    try:
        decoded = decode_huffman(text)
    except BadHuffmanError:
        return
    assert ENCODER.encode(decoded) == text, "there is one encoding"
