"""Names, quantities, switches and texts, right and wrong, as a table."""

from typing import Any

import pytest

from tests.topology.form_tables import check_right, check_wrong, forms_in
from tierlb.topology import forms
from tierlb.topology.typed import Scalar

RIGHT: list[tuple[Any, str, object]] = [
    (forms.Name, "api-next", "api-next"),
    (forms.Name, "0" * 40, "0" * 40),
    (forms.Seconds, "250ms", 0.25),
    (forms.Size, "10MB", 10_000_000),
    (forms.HeadSize, "64KiB", 65_536),
    (forms.LeastBodyRate, "1KiB", 1024),
    (forms.Replicas, "1000", 1000),
    (forms.NodeCount, "3", 3),
    (forms.NodeCount, "auto", "auto"),
    (forms.CpuRange, "2", (2,)),
    (forms.CpuRange, "0-3", (0, 1, 2, 3)),
    (forms.CpuSet, "4095", (4095,)),
    (forms.CpuSet, "2-2", (2,)),
    (forms.CpuSet, "auto", ()),
    (forms.ConnectionCount, "1", 1),
    (forms.HeaderCount, "64", 64),
    (forms.ResultCount, "1", 1),
    (forms.ErrorCount, "10000", 10_000),
    (forms.ResponseCount, "1", 1),
    (forms.EjectedShare, "50%", 0.5),
    (forms.EjectedShare, "2.5%", 0.025),
    (forms.Switch, "true", True),
    (forms.Switch, "false", False),
    (forms.Off, "off", "off"),
    (forms.Weight, "0", 0.0),
    (forms.Weight, "0.5", 0.5),
    (forms.RunCommand, "serve --on '{port}'", "serve --on '{port}'"),
    (forms.RunCommand, "serve --on {host}:{port}", "serve --on {host}:{port}"),
    (forms.HashSource, "source", "source"),
    (forms.JoinByThemselves, "true", True),
    (forms.TcpCheck, "tcp", "tcp"),
    (forms.GrpcService, "true", ""),
    (forms.GrpcService, "shop.v1.Cart", "shop.v1.Cart"),
    (forms.FileName, "tls/node key.pem", "tls/node key.pem"),
    (forms.UserName, "tierlb", "tierlb"),
    (forms.UserName, "7", "7"),
    (forms.Cpus, "0.01", 0.01),
    (forms.Cpus, "1024", 1024.0),
    (forms.Memory, "256MiB", 256 * 2**20),
    (forms.Memory, "16MiB", 16 * 2**20),
]
WRONG: list[tuple[Any, Scalar, str]] = [
    (forms.Name, Scalar("Web"), "is not a name"),
    (forms.Name, Scalar("-a"), "is not a name"),
    (forms.Name, Scalar("a" * 41), "is not a name"),
    (forms.Name, Scalar("a\n"), "is not a name"),
    (forms.Seconds, Scalar("2"), "is not a duration"),
    (forms.HeadSize, Scalar("1"), "out of range"),
    (forms.LeastBodyRate, Scalar("2MiB"), "out of range"),
    (forms.Replicas, Scalar("0"), "write 1 to 1000"),
    (forms.Replicas, Scalar("1001"), "write 1 to 1000"),
    (forms.Replicas, Scalar("3", quoted=True), "not a whole number"),
    (forms.Replicas, Scalar("2.0"), "not a whole number"),
    (forms.Replicas, Scalar("9" * 5000), "not a whole number"),
    (forms.NodeCount, Scalar("0"), "'0' is out of range: write 1 to 1000, or auto for one per core"),
    (forms.NodeCount, Scalar("cores"), "'cores' is not a whole number: write 1 to 1000, or auto for one per core"),
    (forms.CpuRange, Scalar("auto"), "'auto' names no CPUs: write one such as 2, or a range such as 0-3"),
    (forms.CpuRange, Scalar("3-1"), "write the lower one first"),
    (forms.CpuRange, Scalar("4096"), "at most 4095"),
    (forms.CpuSet, Scalar("0,1"), "write one such as 2, or a range such as 0-3, a list of these, or auto"),
    (forms.CpuSet, Scalar("-1"), "names no CPUs"),
    (forms.ResultCount, Scalar("101"), "write 1 to 100"),
    (forms.ErrorCount, Scalar("0"), "write 1 to 10000"),
    (forms.ResponseCount, Scalar("0"), "write 1 to 1000"),
    (forms.EjectedShare, Scalar("0.5"), "is not a percentage: write one such as 25%"),
    (forms.EjectedShare, Scalar("0%"), "write 1% to 50%"),
    (forms.EjectedShare, Scalar("51%"), "write 1% to 50%; with less than half of a pool left, all of it is used"),
    (forms.Switch, Scalar("on"), "is neither true nor false"),
    (forms.Switch, Scalar("true", quoted=True), "is neither true nor false"),
    (forms.Off, Scalar("false"), "write off or a mapping"),
    (forms.Weight, Scalar("-1"), "0 to 1000000"),
    (forms.Weight, Scalar(".inf"), "not a weight"),
    (forms.Weight, Scalar(".nan"), "not a weight"),
    (forms.Weight, Scalar("1e999"), "0 to 1000000"),
    (forms.Weight, Scalar("90%"), "not a weight"),
    (forms.RunCommand, Scalar("serve"), r"write \{port\}"),
    (forms.RunCommand, Scalar("serve '{port}"), "not a command line"),
    (forms.RunCommand, Scalar("serve \x1b {port}"), "control characters"),
    (forms.HashSource, Scalar("cookie"), "write source or"),
    (forms.JoinByThemselves, Scalar("false"), "write true, or leave"),
    (forms.JoinByThemselves, Scalar("true", quoted=True), "write true, or leave"),
    (forms.TcpCheck, Scalar("http"), "write tcp or"),
    (forms.GrpcService, Scalar("false"), "write one such as shop.v1.Cart, or true"),
    (forms.GrpcService, Scalar("/shop.v1.Cart/Check"), "is not a service"),
    (forms.FileName, Scalar("", quoted=True), "write 1 to"),
    (forms.FileName, Scalar("a\0"), "control characters"),
    (forms.UserName, Scalar(""), "write 1 to"),
    (forms.UserName, Scalar("a\nb"), "control characters"),
    (forms.Cpus, Scalar("0"), "write 0.01 to 1024 cores"),
    (forms.Cpus, Scalar("1025"), "write 0.01 to 1024 cores"),
    (forms.Cpus, Scalar("500m"), "write one such as 0.5 or 2"),
    (forms.Cpus, Scalar("1", quoted=True), "not a number of cores"),
    (forms.Memory, Scalar("256"), "is too little: write at least 16MiB"),
    (forms.Memory, Scalar("much"), "is not a size"),
]


@pytest.mark.parametrize(("kind", "text", "value"), RIGHT)
def test_right_values_are_read_and_the_schema_takes_them(kind: Any, text: str, value: object) -> None:
    check_right(kind, text, value)


@pytest.mark.parametrize(("kind", "scalar", "said"), WRONG)
def test_wrong_values_are_refused_with_advice(kind: Any, scalar: Scalar, said: str) -> None:
    check_wrong(kind, scalar, said)


def test_every_form_is_in_the_table() -> None:
    assert {id(kind) for kind, _, _ in RIGHT} >= {id(kind) for kind in forms_in(forms)}


TEXTS = [("", 0, 1), ("ab", 1, 2), ("é", 1, 1)]


@pytest.mark.parametrize(("text", "least", "most"), TEXTS)
def test_texts_of_json_go_by_their_length(text: str, least: int, most: int) -> None:
    assert forms.json_text(least, most).read(Scalar(text, quoted=True)) == text


@pytest.mark.parametrize(
    ("scalar", "said"),
    [
        (Scalar("7"), "write a text"),
        (Scalar("", quoted=True), "write 1 to 2 characters, not 0"),
        (Scalar("abc", quoted=True), "write 1 to 2 characters, not 3"),
        (Scalar("\n", quoted=True), "write one line"),
        (Scalar("\ud800", quoted=True), "half of a surrogate pair"),
    ],
)
def test_texts_of_json_are_refused_with_advice(scalar: Scalar, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        forms.json_text(1, 2).read(scalar)


def test_a_text_of_several_lines_is_allowed_where_it_is_asked_for() -> None:
    assert forms.json_text(0, 9, one_line=False).read(Scalar("a\nb", quoted=True)) == "a\nb"
