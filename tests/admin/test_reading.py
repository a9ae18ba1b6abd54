"""Bodies that are none, too large, cut off or misdeclared."""

import attrs
import pytest

from tierlb.admin.bodies import RestartBody
from tierlb.admin.reading import MAX_REQUEST_BODY_BYTES, read_body, read_typed_json
from tierlb.admin.refusals import RequestRefused
from tierlb.net.http_server import BadRequest, HttpRequest
from tierlb.topology.load import MAX_FILE_BYTES

JSON = {"content-type": "application/json"}


def request(body, fields=JSON):
    connection = Sent(body)
    return HttpRequest("POST", "/", tuple(fields.items()), "127.0.0.1", "127.0.0.1", connection=connection)


@attrs.define
class Sent:
    """A connection on which the body comes, or BadRequest in its place."""

    content: bytes | BadRequest

    async def body(self, max_bytes):
        if isinstance(self.content, BadRequest):
            raise self.content
        return self.content


async def status_of(asked):
    with pytest.raises(RequestRefused) as refused:
        await read_body(asked, RestartBody)
    return refused.value.status


async def test_a_body_is_read_as_what_is_asked_for():
    body = await read_body(request(b'{"tier": "web", "who": "ann"}'), RestartBody)
    assert body == RestartBody("web", "ann")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
async def test_json_is_told_by_its_type(kind):
    body = await read_body(request(b'{"tier": "a"}', fields={"content-type": kind}), RestartBody)
    assert body == RestartBody("a")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_what_a_form_could_send_is_refused(kind):
    assert await status_of(request(b"{}", fields={"content-type": kind})) == 415


async def test_the_largest_file_fits_and_what_is_larger_is_not_read():
    assert MAX_REQUEST_BODY_BYTES > MAX_FILE_BYTES
    assert await status_of(request(b"", {**JSON, "content-length": str(MAX_REQUEST_BODY_BYTES + 1)})) == 413


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
    assert await status_of(request(BadRequest(400, "cut off"))) == 400


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ([], "must be a mapping with the keys tier, who, not a list"),
        ({"who": 1, "x": ""}, "x: unknown key: known here are tier, who; the key 'tier' is missing; who: write a text"),
    ],
)
def test_every_fault_is_named_with_its_path(sent, said):
    with pytest.raises(RequestRefused) as refused:
        read_typed_json(RestartBody, sent)
    assert (refused.value.status, refused.value.refusal.error) == (400, said)
