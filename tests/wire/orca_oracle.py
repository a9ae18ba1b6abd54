"""The protobuf package as the oracle of load reports, with a descriptor written down from orca_load_report.proto."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import strategies as st

from tierlb.wire.orca_report import OrcaReport

FULL = OrcaReport(0.7, 0.9, 0.8, 1000.0, 2.0, {"foo": 123.0, "bar": 0.2}, {"cents": 3.0}, {"total": 0.5})


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
