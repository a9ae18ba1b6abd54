"""Calls and answers of etcd as its gateway writes them; what is not of that form is a ValueError."""

import json
from base64 import b64encode
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.wire.etcd import (
    Changed,
    Created,
    Delete,
    EtcdFault,
    Get,
    KeyValue,
    Lease,
    Put,
    TxnResult,
    WatchEvent,
    authenticate,
    grant,
    of_lease,
    read_auth_token,
    read_events,
    read_fault,
    read_json,
    read_lease,
    read_outcome,
    read_renewal,
    read_revocation,
    transaction,
    watch,
)

READERS = (read_auth_token, read_outcome, read_lease, read_renewal, read_revocation, read_events)
HEADER = {"cluster_id": "324952591200643719", "member_id": "3319814642761637952", "revision": "7", "raft_term": "2"}
KV = {"key": "eA==", "create_revision": "2", "mod_revision": "5", "version": "1", "value": "MQ=="}
ITEM = KeyValue("x", b"1", 2, 5)


def test_a_transaction_demands_and_carries_out() -> None:
    asked = transaction([Changed("x", 5), Created("y", 0)], [Put("x", b"2", 9), Delete("z")], [Get("x")])
    assert asked == {
        "compare": [
            {"key": "eA==", "target": "MOD", "mod_revision": "5"},
            {"key": "eQ==", "target": "CREATE", "create_revision": "0"},
        ],
        "success": [
            {"request_put": {"key": "eA==", "value": "Mg==", "lease": "9"}},
            {"request_delete_range": {"key": "eg=="}},
        ],
        "failure": [{"request_range": {"key": "eA==", "revision": "0"}}],
    }


def test_all_below_a_prefix_end_before_the_next_one() -> None:
    asked = Get("a/", below=True, at=3).plain()["request_range"]
    assert asked == {"key": "YS8=", "range_end": b64encode(b"a0").decode(), "revision": "3"}


def test_numbers_of_64_bits_are_in_quotes() -> None:
    assert grant(3) == {"TTL": "3"}
    assert of_lease(2**62) == {"ID": "4611686018427387904"}
    assert watch("x", 8) == {"create_request": {"key": "eA==", "start_revision": "8"}}


@pytest.mark.parametrize(
    ("plain", "outcome"),
    [
        ({"header": HEADER}, TxnResult(False, 7, ())),
        (
            {"header": HEADER, "succeeded": True, "responses": [{"response_put": {"header": {"revision": "7"}}}]},
            TxnResult(True, 7, ((),)),
        ),
        (
            {
                "header": HEADER,
                "responses": [
                    {"response_range": {"header": {"revision": "7"}, "kvs": [KV, KV], "count": "2"}},
                    {"response_range": {"header": {"revision": "7"}}},
                ],
            },
            TxnResult(False, 7, ((ITEM, ITEM), ())),
        ),
    ],
)
def test_what_is_zero_is_left_out_of_an_outcome(plain: object, outcome: TxnResult) -> None:
    assert read_outcome(plain) == outcome


def test_keys_and_values_may_be_any_bytes() -> None:
    odd = {**KV, "key": b64encode(b"a\xff").decode(), "value": b64encode(b"\x00\xff").decode()}
    empty = {key: value for key, value in KV.items() if key != "value"}
    (found,) = read_outcome({"header": HEADER, "responses": [{"response_range": {"kvs": [odd, empty]}}]}).found
    assert [item.value for item in found] == [b"\x00\xff", b""]
    assert Delete(found[0].key).plain() == {"request_delete_range": {"key": odd["key"]}}


def test_who_logs_in_gets_a_token_that_a_field_of_http_can_hold() -> None:
    assert authenticate("ann", "p w") == {"name": "ann", "password": "p w"}
    assert read_auth_token({"header": HEADER, "token": "zewKFEcpNvPSCbCb.13"}) == "zewKFEcpNvPSCbCb.13"
    for token in ("", "a b", "a\r\nb: c", "ä", "x" * 10_000):
        with pytest.raises(ValueError, match="not a token"):
            read_auth_token({"token": token})


@pytest.mark.parametrize(
    ("text", "is_unauthenticated", "is_denied"),
    [
        ("etcdserver: user name is empty", True, True),
        ("etcdserver: invalid auth token", True, True),
        ("etcdserver: revision of auth store is old", True, True),
        ("rpc error: code = Unauthenticated desc = etcdserver: invalid auth token", True, True),
        ("etcdserver: permission denied", False, True),
        ("etcdserver: authentication failed, invalid user ID or password", False, True),
        ("status 400, 'CommonName of client sending a request against gateway will be", False, True),
        ("etcdserver: authentication is not enabled", False, False),
        ("etcdserver: request is too large", False, False),
    ],
)
def test_a_fault_says_whether_it_is_about_who_asks(text: str, is_unauthenticated: bool, is_denied: bool) -> None:
    fault = EtcdFault(text, undecided=False)
    assert (fault.is_unauthenticated, fault.is_denied) == (is_unauthenticated, is_denied)
    assert fault.is_auth_off is ("not enabled" in text)


def test_a_lease_lasts_as_long_as_etcd_says_and_one_that_has_ended_for_no_time() -> None:
    assert read_lease({"header": HEADER, "ID": "23", "TTL": "2"}) == Lease(23, 2)
    assert read_renewal({"result": {"header": HEADER, "ID": "23", "TTL": "3"}}) == 3
    assert read_renewal({"result": {"header": HEADER, "ID": "7"}}) == 0


@pytest.mark.parametrize(
    ("plain", "events"),
    [
        ({"result": {"header": HEADER, "created": True}}, ()),
        (
            {
                "result": {
                    "header": HEADER,
                    "events": [{"kv": KV}, {"type": "DELETE", "kv": {**KV, "mod_revision": "6"}}],
                }
            },
            (WatchEvent(ITEM, 5), WatchEvent(None, 6)),
        ),
        (
            {"result": {"header": HEADER, "canceled": True, "compact_revision": "6"}},
            EtcdFault("etcd has forgotten what was before revision 6", undecided=False),
        ),
        (
            {"result": {"header": HEADER, "canceled": True, "cancel_reason": "no permission"}},
            EtcdFault("no permission", undecided=False),
        ),
        (
            {"error": {"grpc_code": 14, "message": "transport is closing"}},
            EtcdFault("transport is closing", undecided=True),
        ),
    ],
)
def test_a_line_of_a_watch_tells_events_or_why_there_are_no_more(plain: object, events: object) -> None:
    assert read_events(plain) == events


@pytest.mark.parametrize(
    ("status", "content", "fault"),
    [
        (200, b'{"header": {}}', None),
        (200, b'{"result": {"TTL": "3"}}', None),
        (400, b'{"error": "too large", "message": "too large", "code": 3}', EtcdFault("too large", False)),
        (503, b'{"error": "timed out", "message": "timed out", "code": 14}', EtcdFault("timed out", True)),
        (404, b'{"code": 5, "message": "no such lease", "details": []}', EtcdFault("no such lease", False)),
        (200, b'{"error": {"grpc_code": 14, "message": "no leader"}}', EtcdFault("no leader", True)),
        (404, b"Not Found", EtcdFault("status 404, 'Not Found'", False)),
        (502, b"<html>", EtcdFault("status 502, '<html>'", True)),
        (200, b"<html>", EtcdFault("status 200, '<html>'", False)),
        (200, b"7", EtcdFault("status 200, '7'", False)),
    ],
)
def test_a_fault_says_whether_it_may_have_been_done(status: int, content: bytes, fault: EtcdFault | None) -> None:
    assert read_fault(status, content) == fault


FIELDS = ("header", "revision", "responses", "response_range", "kvs", "key", "value", "result", "events", "ID", "TTL")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["eA==", "7"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("read", READERS)
@given(plain=JSON)
def test_anything_else_is_a_value_error(read: Callable[[object], object], plain: object) -> None:
    try:
        read(plain)
    except ValueError:
        return
    assert isinstance(plain, dict)


@given(status=st.sampled_from([200, 503]), content=st.binary(max_size=40) | JSON.map(json.dumps).map(str.encode))
def test_any_answer_is_a_fault_or_a_json_object(status: int, content: bytes) -> None:
    if read_fault(status, content) is None:
        assert status == 200
        assert isinstance(read_json(content), dict)
