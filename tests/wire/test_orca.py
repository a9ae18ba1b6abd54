"""Each form against the protobuf package as the oracle, with a descriptor written down from orca_load_report.proto."""

import base64
import math

import attrs
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from tierlb.model.load import SubtreeLoad
from tierlb.model.topology import Orca
from tierlb.wire.orca import (
    HUGE,
    MAX_METRICS,
    BadOrca,
    OrcaBook,
    OrcaReport,
    encode_orca,
    node_report,
    parse_bin,
    parse_json,
    parse_orca,
)

FULL = OrcaReport(0.7, 0.9, 0.8, 1000.0, 2.0, {"foo": 123.0, "bar": 0.2}, {"cents": 3.0}, {"total": 0.5})
TEXT = (
    b"TEXT cpu_utilization=0.7,application_utilization=0.8,mem_utilization=0.9,rps_fractional=1000,eps=2,"
    b"named_metrics.foo=123,named_metrics.bar=0.2,utilization.total=0.5"
)
BARE = OrcaReport(0.7, 0.9, 0.8, 1000.0, 2.0, {"foo": 123.0, "bar": 0.2}, {}, {"total": 0.5})


def message_class():
    """xds.data.orca.v3.OrcaLoadReport, field by field as in the .proto file."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="orca.proto", package="oracle", syntax="proto3")
    message = file.message_type.add(name="OrcaLoadReport")
    doubles = {"cpu_utilization": 1, "mem_utilization": 2, "rps_fractional": 6, "eps": 7, "application_utilization": 9}
    for name, number in doubles.items():
        message.field.add(name=name, number=number, type=kinds.TYPE_DOUBLE, label=kinds.LABEL_OPTIONAL)
    message.field.add(name="rps", number=3, type=kinds.TYPE_UINT64, label=kinds.LABEL_OPTIONAL)
    for name, number in {"request_cost": 4, "utilization": 5, "named_metrics": 8}.items():
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
        entry.field.add(name="value", number=2, type=kinds.TYPE_DOUBLE, label=kinds.LABEL_OPTIONAL)
        of = f".oracle.OrcaLoadReport.{entry.name}"
        message.field.add(name=name, number=number, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_REPEATED, type_name=of)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("oracle.OrcaLoadReport"))


Message = message_class()


def as_message(report):
    return Message(
        cpu_utilization=report.cpu,
        mem_utilization=report.memory,
        application_utilization=report.application,
        rps_fractional=report.rps,
        eps=report.eps,
        named_metrics=report.named,
        request_cost=report.request_cost,
        utilization=report.utilization,
    )


def as_report(message):
    return OrcaReport(
        message.cpu_utilization,
        message.mem_utilization,
        message.application_utilization,
        message.rps_fractional or float(message.rps),
        message.eps,
        dict(message.named_metrics),
        dict(message.request_cost),
        dict(message.utilization),
    )


loads = st.floats(0, 1e12)
finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
safe_names = st.from_regex(r"[A-Za-z0-9_./-]{1,20}", fullmatch=True)


def maps(keys, values):
    return st.dictionaries(keys, values, max_size=4)


def reports(keys, costs=True):
    cost = maps(keys, finite) if costs else st.just({})
    return st.builds(OrcaReport, *[loads] * 5, maps(keys, finite), cost, maps(keys, loads))


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
def test_what_protobuf_writes_is_read(report, rps):
    message = as_message(report)
    message.rps = rps
    expected = as_report(message)
    assert parse_bin(base64.b64encode(message.SerializeToString())) == expected
    assert parse_json(json_format.MessageToJson(message).encode()) == expected
    snake = json_format.MessageToJson(message, preserving_proto_field_name=True)
    assert parse_json(snake.encode()) == expected


@given(st.binary(max_size=60))
@example(b"\x0a\x00")  # a double's number with another type is an unknown field
@example(b"\x42\x00")  # an entry with neither name nor value
@example(b"\x18" + b"\xff" * 9 + b"\x7f")  # a varint of more than 64 bits
@example(as_message(FULL).SerializeToString()[:-1])
@example(as_message(FULL).SerializeToString() * 2)  # two messages in a row are merged
def test_whatever_bytes_are_accepted_protobuf_reads_the_same_way(data):
    try:
        report = parse_bin(base64.b64encode(data))
    except BadOrca:
        return
    try:
        message = Message.FromString(data)
    except DecodeError:
        raise AssertionError(f"protobuf refuses {data!r}") from None
    assert as_report(message) == report


@given(reports(names), st.data())
def test_a_message_with_a_flipped_bit_is_refused_or_read_as_protobuf_does(report, data):
    written = bytearray(as_message(report).SerializeToString() or b"\0")
    at = data.draw(st.integers(0, len(written) * 8 - 1))
    written[at // 8] ^= 1 << at % 8
    try:
        read = parse_bin(base64.b64encode(written))
    except BadOrca:
        return
    assert read == as_report(Message.FromString(bytes(written)))


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
        (b"BIN CQAAAAAAAPh/", "not a number"),
        (b"BIN CQAAAAAAAOC/", "negative"),
        (b"BIN CQAA", "cut short"),
        (b"BIN gA", "cut short"),
        (b"BIN AAA=", "not a protobuf"),
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


@pytest.mark.parametrize(
    ("report", "busy", "slots"),
    [
        (OrcaReport(), 0.0, 0),
        (OrcaReport(cpu=0.4), 0.4, 0),
        (OrcaReport(cpu=0.4, application=0.9, named={"slots": 4.0}), 0.9, 4),
        (OrcaReport(named={"slots": -4.0}), 0.0, 0),
    ],
)
def test_the_applications_own_figure_counts_before_the_processors(report, busy, slots):
    assert (report.busy, report.slots) == (busy, slots)


@pytest.mark.parametrize(
    ("load", "rps", "report"),
    [
        (SubtreeLoad(capacity=400.0, utilisation=0.9), 100.0, OrcaReport(application=0.25, rps=100.0, eps=2.0)),
        (SubtreeLoad(utilisation=0.33333333), 100.0, OrcaReport(application=0.3333, rps=100.0, eps=2.0)),
        (SubtreeLoad(in_flight=3), 0.0, OrcaReport(eps=2.0, named={"in_flight": 3.0})),
    ],
)
def test_a_nodes_rate_over_its_utilisation_is_its_capacity(load, rps, report):
    assert node_report(load, rps, 2.0) == report
    for form in Orca:
        assert parse_orca(encode_orca(report, form)) == report


def test_the_book_gives_what_parse_gives_and_counts_what_is_wrong():
    book = OrcaBook()
    for _ in range(3):
        assert book.read(TEXT) == BARE
        assert book.read_bin(encode_orca(FULL, Orca.BIN)[4:]) == FULL
        assert book.read(b"TEXT cpu_utilization=-1") is None
    assert book.bad == 3


def test_a_node_of_next_to_no_capacity_says_a_use_that_can_be_read():
    report = node_report(SubtreeLoad(capacity=5e-324), 1e3, 0.0)
    assert parse_orca(encode_orca(report, Orca.TEXT)) == report
    assert report.application == HUGE


def test_a_node_tells_of_its_queue_without_what_is_parked() -> None:
    load = SubtreeLoad(capacity=100.0, in_flight=30, parked=20)
    assert node_report(load, 50.0, 0.0) == node_report(attrs.evolve(load, in_flight=10, parked=0), 50.0, 0.0)
    assert node_report(attrs.evolve(load, in_flight=20), 50.0, 0.0).named == {}
