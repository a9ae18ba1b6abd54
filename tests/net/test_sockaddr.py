"""Addresses as the kernel has them, beside those of the socket module."""

import socket
import struct

import pytest

from tierlb.net.sockaddr import pack_sockaddr, unpack_sockaddr


@pytest.mark.parametrize("address", [("127.0.0.1", 80), ("::1", 65535, 0, 0), ("fe80::1", 53, 7, 3)])
def test_an_address_is_read_as_it_was_written(address):
    assert unpack_sockaddr(pack_sockaddr(address)) == address


def test_an_address_is_as_the_kernel_has_it():
    assert pack_sockaddr(("10.1.2.3", 0x1234)) == struct.pack("=H", socket.AF_INET) + b"\x12\x34\x0a\1\2\3" + bytes(8)
    assert len(pack_sockaddr(("::1", 80))) == 28


@pytest.mark.parametrize("raw", [b"", b"\x02", struct.pack("=H", socket.AF_INET), bytes(16), bytes(28)])
def test_what_is_no_address_is_refused(raw):
    with pytest.raises(ValueError, match="not an IPv4 or IPv6"):
        unpack_sockaddr(raw)


def test_a_name_is_no_address():
    with pytest.raises(OSError, match="illegal IP address"):
        pack_sockaddr(("localhost", 80))
