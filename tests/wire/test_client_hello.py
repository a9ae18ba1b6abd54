"""What a ClientHello asks for, against hand-made messages and the first flights of real clients cut at every place."""

import shutil
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hellos import (
    MANY_PROTOCOLS,
    Asked,
    alpn,
    extension,
    hello,
    hybrid_key_share,
    message,
    of_curl,
    of_openssl,
    of_python,
    records,
    server_name,
    vector,
)
from tierlb.wire.client_hello import MAX_HELLO_BYTES, ClientHello, HelloReader, Verdict, read_client_hello

LONG_NAME = ".".join(["a" * 50] * 5)


def found(data: bytes) -> tuple[Verdict, str, tuple[str, ...]]:
    read = read_client_hello(data)
    return read.verdict, read.server_name, read.protocols


def whole(name: str = "", *protocols: str) -> tuple[Verdict, str, tuple[str, ...]]:
    return Verdict.WHOLE, name, protocols


def check_prefixes(data: bytes, *, every: bool = True) -> None:
    """Each beginning is known to be one, and what is awaited is never more than there is."""
    for cut in range(len(data)) if every else (0, 1, 2, 4, 5, 6, 8, 9, len(data) // 2, len(data) - 1):
        read = read_client_hello(data[:cut])
        assert read.verdict is Verdict.PARTIAL, cut
        assert cut < read.least_bytes <= len(data), cut


READ = {
    "nothing asked": (message(extension(43, b"\x02\x03\x04")), whole()),
    "no extensions": (message(), whole()),
    "empty extensions": (message(b""), whole()),
    "a name": (message(server_name(b"a.example.com")), whole("a.example.com")),
    "a name in capitals": (message(server_name(b"A.Example.COM")), whole("a.example.com")),
    "a dot at its end": (message(server_name(b"a.example.com.")), whole("a.example.com")),
    "a long name": (message(server_name(LONG_NAME.encode())), whole(LONG_NAME)),
    "a name of another type": (message(server_name(b"x", kind=7)), whole()),
    "protocols": (message(alpn(b"h2", b"http/1.1")), whole("", "h2", "http/1.1")),
    "both": (message(alpn(b"h2"), server_name(b"a")), whole("a", "h2")),
    "a protocol of any bytes": (message(alpn(b"\xff\x00")), whole("", "\xff\x00")),
    "GREASE around": (
        message(extension(0x0A0A, b""), server_name(b"a"), extension(0xFAFA, b"\x00")),
        whole("a"),
    ),
    "a hybrid key share": (message(hybrid_key_share(), server_name(b"a"), alpn(b"h2")), whole("a", "h2")),
}


@pytest.mark.parametrize(("content", "expected"), READ.values(), ids=READ)
def test_what_a_client_asks_for_is_found(content: bytes, expected: object) -> None:
    for each in (1, 2, 7, 100, 1 << 14):
        data = records(content, each)
        assert found(data) == expected
        check_prefixes(data, every=len(data) < 1000)


def test_what_follows_the_message_is_left_alone() -> None:
    more = message(server_name(b"a")) + b"\x0b\x00\x00\x01\x00"
    assert found(records(more)) == found(records(more, 10)) == whole("a")
    assert found(hello("a") + b"\x17\x03\x03\x00\x05early") == whole("a")


NOT_TLS = {
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "one letter": b"G",
    "SSL 2": b"\x80\x2e\x01\x03\x01",
    "a PROXY header": b"\r\n\r\n\x00\r\nQUIT\n",
    "an alert": b"\x15\x03\x01\x00\x02\x01\x00",
    "another major version": b"\x16\x02",
    "PostgreSQL": b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
}


@pytest.mark.parametrize("data", NOT_TLS.values(), ids=NOT_TLS)
def test_other_protocols_are_known_by_their_first_bytes(data: bytes) -> None:
    assert found(data) == (Verdict.NOT_TLS, "", ())


BODY = message()[4:]
MALFORMED = {
    "an empty record": (b"\x16\x03\x01\x00\x00", "a record of 0 bytes"),
    "a record that is too long": (b"\x16\x03\x01\x40\x01", "a record of 16385 bytes"),
    "another message": (records(b"\x02" + message()[1:]), "another message"),
    "another record inside": (records(message(), 20)[:25] + b"\x17\x03", "another record"),
    "a record of another version inside": (records(message(), 20)[:25] + b"\x16\x02", "another version"),
    "a message that is too long": (records(b"\x01\x00\x40\x00"), f"more than {MAX_HELLO_BYTES} bytes"),
    "an empty message": (records(b"\x01\x00\x00\x00"), "cut short"),
    "a session id that is too long": (
        records(b"\x01" + vector(3, b"\x03\x03" + bytes(32) + vector(1, bytes(33)) + BODY[67:])),
        "session id",
    ),
    "no ciphers": (records(b"\x01" + vector(3, BODY[:67] + b"\x00\x00\x01\x00")), "too short"),
    "no compression": (records(b"\x01" + vector(3, BODY[:-2] + b"\x00")), "too short"),
    "bytes behind the extensions": (records(b"\x01" + vector(3, BODY + b"\x00\x00\x00")), "follow its extensions"),
    "an extension that is cut": (records(message(b"\x00\x00\x00\x09\x00")), "cut short"),
    "two lists of names": (records(message(server_name(b"a"), server_name(b"b"))), "two lists of server names"),
    "two names": (records(message(server_name(b"a", b"b"))), "two server names"),
    "no name": (records(message(extension(0, b""))), "cut short"),
    "an empty list of names": (records(message(server_name())), "too short"),
    "an empty name": (records(message(server_name(b""))), "too short"),
    "a name with a space": (records(message(server_name(b"a b"))), "not one of DNS"),
    "a name with NUL": (records(message(server_name(b"a\x00.example.com"))), "not one of DNS"),
    "a name beyond ASCII": (records(message(server_name("ä".encode()))), "not one of DNS"),
    "a name that is too long": (records(message(server_name(b"a" * 256))), "too long"),
    "bytes behind the names": (records(message(extension(0, vector(2, b"\x00\x00\x01a") + b"x"))), "bytes follow"),
    "two lists of protocols": (records(message(alpn(b"a"), alpn(b"b"))), "two lists of protocols"),
    "an empty protocol": (records(message(alpn(b"h2", b""))), "too short"),
}


@pytest.mark.parametrize(("data", "problem"), MALFORMED.values(), ids=MALFORMED)
def test_what_no_server_would_accept_is_malformed(data: bytes, problem: str) -> None:
    read = read_client_hello(data)
    assert read.verdict is Verdict.MALFORMED
    assert problem in read.problem


def test_what_is_awaited_is_never_more_than_what_is_read() -> None:
    content = b"\x01" + vector(3, bytes(MAX_HELLO_BYTES - 4 - 5))
    assert read_client_hello(records(content)[:100]).least_bytes == MAX_HELLO_BYTES
    longer = b"\x01" + vector(3, bytes(MAX_HELLO_BYTES - 4 - 4))
    assert read_client_hello(records(longer)[:100]).verdict is Verdict.MALFORMED


def test_few_readings_are_enough_for_a_client_that_sends_tiny_records() -> None:
    data, readings, read = records(message(hybrid_key_share()), 1), 0, read_client_hello(b"")
    while read.verdict is Verdict.PARTIAL:
        readings, read = readings + 1, read_client_hello(data[: read.least_bytes])
    assert read.verdict is Verdict.WHOLE
    assert readings < 60


CLIENTS: dict[str, Callable[[], Asked]] = {
    "python": lambda: of_python("a.example.com"),
    "python with ALPN": lambda: of_python("a.example.com", "h2", "http/1.1"),
    "openssl": lambda: of_openssl("a.example.com"),
    "openssl with ALPN": lambda: of_openssl("a.example.com", "h2", "acme-tls/1"),
    "openssl without a name": lambda: of_openssl("", "h2"),
    "openssl, TLS 1.2": lambda: of_openssl("b.example.com", options=["-tls1_2"]),
    "openssl in small records": lambda: of_openssl("a.example.com", *MANY_PROTOCOLS, options=["-max_send_frag", "512"]),
    "openssl with many key shares": lambda: of_openssl("a.example.com", options=["-groups", "P-521:X448:P-384"]),
    "curl": lambda: of_curl("a.example.com", protocols=("h2", "http/1.1")),
    "curl without HTTP/2": lambda: of_curl("a.example.com", "--http1.1", protocols=("http/1.1",)),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_real_clients_are_understood_wherever_their_bytes_are_cut(client: str) -> None:
    program, ask = client.split()[0].strip(","), CLIENTS[client]
    if program != "python" and shutil.which(program) is None:
        pytest.skip(f"no {program} on this machine")
    asked = ask()
    assert found(asked.sent) == whole(asked.name, *asked.protocols)
    check_prefixes(asked.sent)


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x16", b"\x16\x03\x01", b"\x16\x03\x01\x01\x00\x01\x00\x00"]))
def test_any_bytes_get_a_verdict_that_more_bytes_do_not_change(data: bytes, start: bytes) -> None:
    data = start + data
    verdicts = [read_client_hello(data[:cut]).verdict for cut in range(len(data) + 1)]
    decided = [verdict for verdict in verdicts if verdict is not Verdict.PARTIAL]
    assert len(set(decided)) <= 1
    assert verdicts[len(verdicts) - len(decided) :] == decided


@given(st.data())
def test_a_reader_that_goes_on_finds_what_one_reading_of_all_finds(data: st.DataObject) -> None:
    content = message(extension(7, bytes(data.draw(st.integers(0, 300)))), server_name(b"a.example.com"), alpn(b"h2"))
    sent = bytearray(records(content, data.draw(st.integers(1, 400))))
    for _ in range(data.draw(st.integers(0, 2))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    reader, cuts = HelloReader(), sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=20)))
    for cut in [*cuts, len(sent)]:
        one, other = reader.read(bytes(sent[:cut])), read_client_hello(bytes(sent[:cut]))
        assert (one.verdict, one.server_name, one.protocols) == (other.verdict, other.server_name, other.protocols)
        assert (one.least_bytes, one.problem) == (other.least_bytes, other.problem)
        if one.verdict is not Verdict.PARTIAL:
            break


@given(st.data())
def test_changed_hellos_are_read_or_refused_and_never_raise(data: st.DataObject) -> None:
    sent = bytearray(records(message(server_name(b"a.example.com"), alpn(b"h2")), data.draw(st.integers(1, 200))))
    for _ in range(data.draw(st.integers(1, 4))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    read = read_client_hello(bytes(sent))
    assert isinstance(read, ClientHello)
    if read.verdict is Verdict.PARTIAL:
        assert len(sent) < read.least_bytes <= MAX_HELLO_BYTES
    else:
        assert (read.verdict is Verdict.MALFORMED) == bool(read.problem)
