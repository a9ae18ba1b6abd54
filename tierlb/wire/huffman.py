"""The Huffman code of HPACK (RFC 7541 §5.2 and appendix B): decoding. Pure.

The code is canonical: codes of one length are consecutive numbers in the order of their symbols, and each length begins
where the one before it ends. So the lengths are all of the table, and the tests compare it with that of `hpack`.

Decoding goes by half bytes through a table of states, one for each inner node of the code's tree. A half byte
completes one symbol at most, since the shortest code has five bits.

Left out: encoding. Responses are sent as they are, which is allowed, and costs nothing where heads are remembered.
"""

from typing import Final

CODE_LENGTHS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b08060606"
    "0505050606060606060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e06"
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c14161414161616171617171717171817"
    "181816171817171717151617161717181615141616171715171616181516171715151615171617171416161617161617"
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a17"
    "1a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
"""In bits: of each byte value, and of the symbol that only pads (EOS)."""
EOS: Final = 256


class BadHuffmanError(ValueError):
    """Bytes that are no encoding of any text."""


def _codes() -> dict[tuple[int, int], int]:
    """The symbol of each code, by its length and its bits."""
    found: dict[tuple[int, int], int] = {}
    code = before = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(CODE_LENGTHS)):
        code <<= length - before
        found[length, code] = symbol
        code += 1
        before = length
    return found


class _Tree:
    """The code as a table: by state and half byte, `steps` has the next state, and `symbols` what it completes, -1 for
    nothing. `accepts`: whether the text may end in a state, as only the first bits of EOS have come, and fewer than
    eight. State 0 is the root. `_BROKEN` is for EOS itself, which no text may hold."""

    __slots__ = ("accepts", "steps", "symbols")

    def __init__(self) -> None:
        codes = _codes()
        nodes = {(0, 0): 0}
        for length, code in codes:
            for bits in range(1, length):
                nodes.setdefault((bits, code >> (length - bits)), len(nodes))
        self.accepts = [bits < 8 and code == (1 << bits) - 1 for bits, code in nodes]
        self.steps: list[int] = []
        self.symbols: list[int] = []
        for node in nodes:
            for half in range(16):
                bits, code = node
                symbol = -1
                for shift in (3, 2, 1, 0):
                    bits, code = bits + 1, code << 1 | half >> shift & 1
                    found = codes.get((bits, code))
                    if found is not None:
                        symbol, bits, code = found, 0, 0
                self.steps.append(_BROKEN if symbol == EOS else nodes[bits, code])
                self.symbols.append(symbol)


_BROKEN: Final = -1
_tree: Final = _Tree()


def decode_huffman(text: bytes) -> bytes:
    """The text in its own bytes. Raises BadHuffmanError for EOS, and for padding that is too long or not of ones."""
    steps, symbols = _tree.steps, _tree.symbols
    found = bytearray()
    state = 0
    for byte in text:
        at = state << 4 | byte >> 4
        state, symbol = steps[at], symbols[at]
        if state == _BROKEN:
            raise BadHuffmanError("a string holds the end-of-string symbol")
        if symbol >= 0:
            found.append(symbol)
        at = state << 4 | byte & 15
        state, symbol = steps[at], symbols[at]
        if state == _BROKEN:
            raise BadHuffmanError("a string holds the end-of-string symbol")
        if symbol >= 0:
            found.append(symbol)
    if not _tree.accepts[state]:
        raise BadHuffmanError("a string ends in the middle of a symbol")
    return bytes(found)
