import pytest

from tierlb.wire.identity import is_identity


@pytest.mark.parametrize(
    "name",
    [
        *(b"forwarded", b"x-forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"),
        *(
            b"x-forwarded-port",
            b"x-forwarded-prefix",
            b"x-forwarded-server",
            b"x-forwarded-ssl",
            b"x-forwarded-anything",
        ),
        *(b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip"),
        *(b"x-original-url", b"x-original-host", b"x-original-forwarded-for", b"x-rewrite-url"),
    ],
)
def test_what_says_who_a_client_is(name: bytes) -> None:
    assert is_identity(name)


@pytest.mark.parametrize("name", [b"x-request-id", b"x-forward", b"host", b"via", b"cf-connecting-ip", b"x-real", b"x"])
def test_what_does_not(name: bytes) -> None:
    assert not is_identity(name)
