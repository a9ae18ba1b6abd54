"""TEXT, JSON and BIN as values of a response field; JSON has the protobuf package as its oracle."""

import base64
import math

import pytest
from google.protobuf import json_format
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.orca_oracle import FULL, Message, as_message, as_report, names, reports, safe_names
from tierlb.model.topology import Orca
from tierlb.wire.orca import OrcaBook, encode_orca, parse_bin, parse_json, parse_orca
from tierlb.wire.orca_report import MAX_METRICS, BadOrca, OrcaReport

TEXT = (
    b"TEXT cpu_utilization=0.7,application_utilization=0.8,mem_utilization=0.9,rps_fractional=1000,eps=2,"
    b"named_metrics.foo=123,named_metrics.bar=0.2,utilization.total=0.5"
)
BARE = OrcaReport(0.7, 0.9, 0.8, 1000.0, 2.0, {"foo": 123.0, "bar": 0.2}, {}, {"total": 0.5})


@given(reports(names))
@example(FULL)
def test_what_is_written_in_bin_and_json_is_what_protobuf_reads_and_what_we_read(report):
    binary, text = encode_orca(report, Orca.BIN), encode_orca(report, Orca.JSON)
    assert as_report(Message.FromString(base64.b64decode(binary[4:]))) == report
    assert as_report(json_format.Parse(text[5:], Message())) == report
    assert parse_orca(binary) == parse_orca(text) == report if len(max(binary, text, key=len)) <= 4096 else True


@given(reports(safe_names, costs=False))
@example(BARE)
def test_text_says_the_same_again_exactly(report):
    assert parse_orca(encode_orca(report, Orca.TEXT)) == report


@given(reports(names), st.integers(0, 10**12))
def test_the_json_that_protobuf_writes_is_read(report, rps):
    message = as_message(report)
    message.rps = rps
    expected = as_report(message)
    assert parse_json(json_format.MessageToJson(message).encode()) == expected
    snake = json_format.MessageToJson(message, preserving_proto_field_name=True)
    assert parse_json(snake.encode()) == expected


@pytest.mark.parametrize(
    ("value", "report"),
    [
        (TEXT, BARE),
        (TEXT.replace(b"=", b":"), BARE),
        (TEXT.replace(b",", b" , "), BARE),
        (b"TEXT cpu_utilization=0.3, mem_utilization=0.8,", OrcaReport(cpu=0.3, memory=0.8)),
        (b"TEXT cpu_utilization=1e-3", OrcaReport(cpu=0.001)),
        (b"TEXT cpu_utilization=0", OrcaReport()),
        (b"TEXT named_metrics.balance=-3", OrcaReport(named={"balance": -3.0})),
        (b"TEXT ", OrcaReport()),
        (b'JSON {"cpuUtilization": 0.5, "eps": "2", "rps": "7"}', OrcaReport(cpu=0.5, eps=2.0, rps=7.0)),
        (b'JSON {"rps": 7, "rps_fractional": 7.5, "utilization": null}', OrcaReport(rps=7.5)),
        (b"JSON {}", OrcaReport()),
        (b"BIN CQAAAAAAAOA/", OrcaReport(cpu=0.5)),
        (b"BIN ", OrcaReport()),
    ],
)
def test_a_report_is_read(value, report):
    assert parse_orca(value) == report


def test_base64_may_come_without_its_padding_as_some_writers_of_grpc_send_it():
    padded = encode_orca(OrcaReport(named={"rif": 4.0}), Orca.BIN)[4:]
    assert padded.endswith(b"=")
    assert parse_bin(padded.rstrip(b"=")) == parse_bin(padded) == OrcaReport(named={"rif": 4.0})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "instead of TEXT"),
        (b"text cpu_utilization=1", "instead of TEXT"),
        (b"cpu_utilization=1", "instead of TEXT"),
        (b"TEXT cpu_utilization=nan", "not a number"),
        (b"TEXT cpu_utilization=inf", "huge"),
        (b"TEXT cpu_utilization=-0.1", "negative"),
        (b"TEXT cpu_utilization=1e13", "huge"),
        (b"TEXT cpu_utilization=1_0", "not a number"),
        (b'TEXT cpu_utilization="0.7"', "not a number"),
        (b"TEXT cpu_utilization", "not a number"),
        (b"TEXT =1", "no metric"),
        (b"TEXT cpu_utilization=0.7,cpu_utilization=0.8", "twice"),
        (b"TEXT cpu_utilization=0.7, cpu_utilization:0.8", "twice"),
        (b"TEXT named_metrics.a=1,named_metrics.a=1", "twice"),
        (b"TEXT named_metrics.=1", "empty"),
        (b"TEXT named_metrics.a=nan", "not a number"),
        (b"TEXT utilization.a=-1", "negative"),
        (b"TEXT named_metrics.\xff=1", "UTF-8"),
        (b"TEXT named_metrics.%s=1" % (b"a" * 129), "too long"),
        (b"TEXT request_cost.a=1", "no metric"),
        (b"TEXT cpu=1", "no metric"),
        (b"TEXT " + b",".join(b"named_metrics.%d=1" % n for n in range(MAX_METRICS + 1)), "more than"),
        (b"TEXT " + b" " * 4096, "longer than"),
        (b"JSON", "instead of TEXT"),
        (b"JSON {", "not JSON"),
        (b"JSON []", "not an object"),
        (b"JSON " + b"[" * 4000, "not"),
        (b"JSON \xff{}", "not JSON"),
        (b'JSON {"cpu_utilization": NaN}', "not a number"),
        (b'JSON {"cpu_utilization": "NaN"}', "not a number"),
        (b'JSON {"cpu_utilization": 1e999}', "huge"),
        (b'JSON {"cpu_utilization": -1}', "negative"),
        (b'JSON {"cpu_utilization": true}', "not a number"),
        (b'JSON {"cpu_utilization": [1]}', "not a number"),
        (b'JSON {"cpu_utilization": 1, "cpu_utilization": 1}', "twice"),
        (b'JSON {"cpu_utilization": 1, "cpuUtilization": 1}', "twice"),
        (b'JSON {"unknown": 1}', "no metric"),
        (b'JSON {"named_metrics": 1}', "not a map"),
        (b'JSON {"named_metrics": {"": 1}}', "empty"),
        (b'JSON {"named_metrics": {"\\ud800": 1}}', "UTF-8"),
        (b"BIN *", "base64"),
        (b"BIN CQAAAAAAAOA/,CQAAAAAAAOA/", "base64"),
        (b"BIN CQAA", "cut short"),
    ],
)
def test_what_is_no_report_is_refused_with_the_reason(value, why):
    with pytest.raises(BadOrca, match=why):
        parse_orca(value)


@given(st.sampled_from([b"TEXT ", b"JSON ", b"BIN ", b""]), st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(prefix, data):
    try:
        report = parse_orca(prefix + data)
    except BadOrca:
        return
    figures = (report.cpu, report.memory, report.application, report.rps, report.eps)
    assert all(0.0 <= figure <= 1e12 for figure in figures)
    assert all(math.isfinite(figure) for figure in (*report.named.values(), *report.request_cost.values()))


@pytest.mark.parametrize(
    "report", [OrcaReport(request_cost={"a": 1.0}), OrcaReport(named={"a\r\nset-cookie: b": 1.0}, utilization={})]
)
def test_text_refuses_to_write_what_it_has_no_form_for(report):
    with pytest.raises(ValueError, match="use JSON or BIN"):
        encode_orca(report, Orca.TEXT)
    assert b"\r" not in encode_orca(report, Orca.JSON)


def test_the_book_gives_what_parse_gives_and_counts_what_is_wrong():
    book = OrcaBook()
    for _ in range(3):
        assert book.read(TEXT) == BARE
        assert book.read_bin(encode_orca(FULL, Orca.BIN)[4:]) == FULL
        assert book.read(b"TEXT cpu_utilization=-1") is None
    assert book.bad == 3
