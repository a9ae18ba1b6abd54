"""Bodies that are none, too large, cut off or misdeclared."""

import pytest
from starlette.requests import Request

from tierlb.admin.bodies import RestartBody
from tierlb.admin.reading import MAX_BODY_BYTES, read_body, read_json
from tierlb.admin.refusals import Refused
from tierlb.topology.load import MAX_FILE_BYTES

JSON = {"content-type": "application/json"}


def request(*chunks, fields=JSON, cut=False):
    left = list(chunks)

    async def receive():
        if left:
            chunk = left.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(left) or cut}
        return {"type": "http.disconnect"}

    head = [(name.encode(), value.encode()) for name, value in fields.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": head}, receive)


async def status_of(asked):
    with pytest.raises(Refused) as refused:
        await read_body(asked, RestartBody)
    return refused.value.status


async def test_a_body_in_pieces_is_read_whole():
    body = await read_body(request(b'{"tier": "web",', b' "who": "ann"}'), RestartBody)
    assert body == RestartBody("web", "ann")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
async def test_json_is_told_by_its_type(kind):
    body = await read_body(request(b'{"tier": "a"}', fields={"content-type": kind}), RestartBody)
    assert body == RestartBody("a")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_what_a_form_could_send_is_refused(kind):
    assert await status_of(request(b"{}", fields={"content-type": kind})) == 415


async def test_the_largest_file_fits_and_what_is_larger_is_not_read():
    assert MAX_BODY_BYTES > MAX_FILE_BYTES
    half = b" " * (MAX_BODY_BYTES // 2 + 1)
    assert await status_of(request(half, half)) == 413
    assert await status_of(request(fields={**JSON, "content-length": str(MAX_BODY_BYTES + 1)})) == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'"\xed\xa0\x80"',
        b"[" * 100_000,
        b"NaN",
        b'{"node": Infinity}',
        b'{"node": "a", "node": "b"}',
        b"1" * 5000,
    ],
)
async def test_what_is_no_json_is_refused(body):
    assert await status_of(request(body)) == 400


async def test_a_body_that_is_cut_off_is_refused():
    assert await status_of(request(b'{"node"', cut=True)) == 400


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ([], "must be a mapping with the keys tier, who, not a list"),
        ({"who": 1, "x": ""}, "x: unknown key: known here are tier, who; the key 'tier' is missing; who: write a text"),
    ],
)
def test_every_fault_is_named_with_its_path(sent, said):
    with pytest.raises(Refused) as refused:
        read_json(RestartBody, sent)
    assert (refused.value.status, refused.value.refusal.error) == (400, said)
