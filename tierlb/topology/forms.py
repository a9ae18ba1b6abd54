"""The forms of single values that are not about the network or HTTP: names, quantities, switches, texts.

Each is a type of its own (`Seconds` rather than float). Its reader, its JSON Schema and how the file writes it are side
by side (`typed.Form`). `net_forms` and `http_forms` hold the others.
"""

import math
import re
import shlex
from collections.abc import Callable
from typing import Annotated, Any

from tierlb.model.topology import AUTO
from tierlb.topology.typed import Form, Scalar, Schema
from tierlb.topology.units import duration_text, parse_duration_s, parse_size_bytes, shown, size_text

NAME = r"[a-z0-9][a-z0-9-]{0,39}"
WHOLE_NUMBER = re.compile(r"[-+]?[0-9]{1,18}")
DECIMAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
PERCENTAGE = re.compile(r"[0-9]{1,3}(\.[0-9]{1,2})?%")
GRPC_SERVICE = r"[A-Za-z_][A-Za-z0-9_.]{0,255}"
NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f]*$"
MAX_TEXT_CHARS = 4096
MAX_WEIGHT = 1_000_000.0
MOST_EJECTED_PERCENT = 50
"""The panic rule (balance.availability) uses every endpoint again where less than half is left."""
CPUS = (0.01, 1024.0)
MOST_REPLICAS = 1000
LEAST_MEMORY_BYTES = 16 * 2**20
"""No program serves with less, so a smaller figure is a unit that was forgotten."""
MOST_BODY_BYTES = 2**40
SIZE_SCHEMA: Schema = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?([kKmMgGtT][iI]?)?[bB]?$"},
    ]
}
CPU_RANGE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")
MOST_CPU = 4095
"""Kernels are built for 8192 CPUs at most, and no machine has half of them."""
CPU_SCHEMA: Schema = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": MOST_CPU},
        {"type": "string", "pattern": f"^{CPU_RANGE.pattern}$"},
    ]
}
PLAIN_VALUE: Schema = {"type": ["string", "number", "boolean"]}


def text_schema(pattern: str, **more: Any) -> Schema:
    """Of a text that matches the pattern as a whole."""
    return {"type": "string", "pattern": f"^(?:{pattern})$", **more}


def range_schema(smallest: int, largest: int) -> Schema:
    """Of a whole number, both bounds allowed."""
    return {"type": "integer", "minimum": smallest, "maximum": largest}


def matching(pattern: str, advice: str) -> Callable[[Scalar], str]:
    """A reader of texts that match the pattern as a whole; `advice` completes the sentence "'x' is not …"."""

    def read(scalar: Scalar) -> str:
        if not re.fullmatch(pattern, scalar.text):
            raise ValueError(f"{shown(scalar.text)} is not {advice}")
        return scalar.text

    return read


def printable_text(smallest: int) -> Callable[[Scalar], str]:
    """A reader of texts on one line, of at least so many characters."""

    def read(scalar: Scalar) -> str:
        if not scalar.text.isprintable():
            raise ValueError("cannot hold control characters or line breaks")
        if not smallest <= len(scalar.text) <= MAX_TEXT_CHARS:
            raise ValueError(f"write {smallest} to {MAX_TEXT_CHARS} characters")
        return scalar.text

    return read


def whole(smallest: int, largest: int) -> Form:
    """Whole numbers, both bounds allowed."""

    def read(scalar: Scalar) -> int:
        if scalar.quoted or not WHOLE_NUMBER.fullmatch(scalar.text):
            raise ValueError(f"{shown(scalar.text)} is not a whole number: write {smallest} to {largest}")
        if not smallest <= int(scalar.text) <= largest:
            raise ValueError(f"{shown(scalar.text)} is out of range: write {smallest} to {largest}")
        return int(scalar.text)

    return Form(read, range_schema(smallest, largest))


def decimal(smallest: float, largest: float, what: str, unit: str = "") -> Form:
    """Numbers, both bounds allowed. `what`: completes the sentence "'x' is not …"; `unit`: follows the bounds."""

    def read(scalar: Scalar) -> float:
        if scalar.quoted or not DECIMAL.fullmatch(scalar.text):
            raise ValueError(f"{shown(scalar.text)} is not {what}")
        number = float(scalar.text)
        if not math.isfinite(number) or not smallest <= number <= largest:
            raise ValueError(f"{shown(scalar.text)} is out of range: write {smallest:.7g} to {largest:.7g}{unit}")
        return number

    return Form(read, {"type": "number", "minimum": smallest, "maximum": largest}, write="{:g}".format)


def node_count() -> Form:
    """A number of nodes, or auto."""
    number = whole(1, MOST_REPLICAS)

    def read(scalar: Scalar) -> int | str:
        if scalar.text == AUTO:
            return AUTO
        try:
            count: int = number.read(scalar)
        except ValueError as error:
            raise ValueError(f"{error}, or {AUTO} for one per core") from None
        return count

    return Form(read, {"anyOf": [number.schema, {"const": AUTO}]})


def _cpu_range(scalar: Scalar) -> tuple[int, ...]:
    """`2` or `0-3`."""
    found = CPU_RANGE.fullmatch(scalar.text)
    if not found:
        raise ValueError(f"{shown(scalar.text)} names no CPUs: write one such as 2, or a range such as 0-3")
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last <= MOST_CPU:
        raise ValueError(f"{shown(scalar.text)} is out of range: write the lower one first, and at most {MOST_CPU}")
    return tuple(range(first, last + 1))


def _cpus(scalar: Scalar) -> tuple[int, ...]:
    if scalar.text == AUTO:
        return ()
    try:
        return _cpu_range(scalar)
    except ValueError as error:
        raise ValueError(f"{error}, a list of these, or {AUTO}") from None


def cpus_text(cpus: tuple[int, ...]) -> str:
    """CPUs as the file writes them."""
    return f"[{', '.join(map(str, cpus))}]" if cpus else AUTO


def only(word: str, advice: str) -> Form:
    """One word; `advice` says what else may stand there."""

    def read(scalar: Scalar) -> str:
        if scalar.text != word:
            raise ValueError(f"{shown(scalar.text)} is not known: write {word} or {advice}")
        return word

    return Form(read, {"const": word})


def json_text(least: int, most: int, *, one_line: bool = True) -> Form:
    """A text of JSON, by its length."""

    def read(scalar: Scalar) -> str:
        if not scalar.quoted:
            raise ValueError("write a text")
        if any(0xD800 <= ord(c) <= 0xDFFF for c in scalar.text):
            raise ValueError("half of a surrogate pair is not a text")
        if not least <= len(scalar.text) <= most:
            raise ValueError(f"write {least} to {most} characters, not {len(scalar.text)}")
        if one_line and not re.fullmatch(NO_CONTROLS, scalar.text):
            raise ValueError("write one line, without control characters")
        return scalar.text

    return Form(
        read, {"type": "string", "minLength": least, "maxLength": most} | ({"pattern": NO_CONTROLS} if one_line else {})
    )


def _size_between(smallest: int, largest: int) -> Callable[[Scalar], int]:
    def read(scalar: Scalar) -> int:
        size = parse_size_bytes(scalar.text)
        if not smallest <= size <= largest:
            raise ValueError(f"{shown(scalar.text)} is out of range: write {smallest} to {largest} bytes")
        return size

    return read


def _body_rate(scalar: Scalar) -> int:
    return 0 if scalar.text == "off" else _size_between(1, 2**20)(scalar)


def _memory(scalar: Scalar) -> int:
    size = parse_size_bytes(scalar.text)
    if size < LEAST_MEMORY_BYTES:
        raise ValueError(f"{shown(scalar.text)} is too little: write at least {LEAST_MEMORY_BYTES // 2**20}MiB")
    return size


def _ejected_share(scalar: Scalar) -> float:
    if not PERCENTAGE.fullmatch(scalar.text):
        raise ValueError(f"{shown(scalar.text)} is not a percentage: write one such as 25%")
    percent = float(scalar.text[:-1])
    if not 1 <= percent <= MOST_EJECTED_PERCENT:
        raise ValueError(
            f"{shown(scalar.text)} is out of range: write 1% to {MOST_EJECTED_PERCENT}%; with less than half of a pool "
            "left, all of it is used"
        )
    return percent / 100


def _switch(scalar: Scalar) -> bool:
    if scalar.quoted or scalar.text not in ("true", "false"):
        raise ValueError(f"{shown(scalar.text)} is neither true nor false")
    return scalar.text == "true"


def _grpc_service(scalar: Scalar) -> str:
    """The name of a service; "" for true."""
    if scalar.text == "true" and not scalar.quoted:
        return ""
    if (scalar.text == "false" and not scalar.quoted) or not re.fullmatch(GRPC_SERVICE, scalar.text):
        raise ValueError(
            f"{shown(scalar.text)} is not a service: write one such as shop.v1.Cart, or true for the server"
        )
    return scalar.text


def _join_by_themselves(scalar: Scalar) -> bool:
    if scalar.quoted or scalar.text != "true":
        raise ValueError(f"{shown(scalar.text)} has no meaning here: write true, or leave the key out")
    return True


def _command(scalar: Scalar) -> str:
    if any(ord(c) < 32 and c not in "\n\t" for c in scalar.text):
        raise ValueError("a command cannot hold control characters")
    try:
        words = shlex.split(scalar.text)
    except ValueError as error:
        raise ValueError(f"{shown(scalar.text)} is not a command line: {error}") from None
    if not any("{port}" in word for word in words):
        raise ValueError("write {port} where the command takes the port to listen on")
    return scalar.text.strip()


def _bool_text(value: bool) -> str:
    return str(value).lower()


def _percent_text(share: float) -> str:
    return f"{100 * share:g}%"


NAME_ADVICE = "a name: write at most 40 of a-z, 0-9 and - (not first)"
Name = Annotated[str, Form(matching(NAME, NAME_ADVICE), text_schema(NAME))]
Seconds = Annotated[
    float,
    Form(
        lambda scalar: parse_duration_s(scalar.text),
        text_schema(r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+"),
        write=duration_text,
    ),
]
Size = Annotated[int, Form(_size_between(1, MOST_BODY_BYTES), SIZE_SCHEMA, write=size_text)]
HeadSize = Annotated[int, Form(_size_between(1024, 2**20), SIZE_SCHEMA, write=size_text)]
LeastBodyRate = Annotated[
    int,
    Form(
        _body_rate,
        {"anyOf": [*SIZE_SCHEMA["anyOf"], {"const": "off"}]},
        write=lambda rate: size_text(rate) if rate else "off",
    ),
]
Memory = Annotated[int, Form(_memory, SIZE_SCHEMA, write=size_text)]
Replicas = Annotated[int, whole(1, MOST_REPLICAS)]
NodeCount = Annotated[int | str, node_count()]
ConnectionCount = Annotated[int, whole(1, 1_000_000)]
HeaderCount = Annotated[int, whole(1, 10_000)]
ResultCount = Annotated[int, whole(1, 100)]
ErrorCount = Annotated[int, whole(1, 10_000)]
ResponseCount = Annotated[int, whole(1, 1000)]
Weight = Annotated[float, decimal(0, MAX_WEIGHT, "a weight: write a number, 0 or more")]
Cpus = Annotated[float, decimal(*CPUS, "a number of cores: write one such as 0.5 or 2", " cores")]
CpuRange = Annotated[tuple[int, ...], Form(_cpu_range, CPU_SCHEMA)]
CpuSet = Annotated[tuple[int, ...], Form(_cpus, {"anyOf": [*CPU_SCHEMA["anyOf"], {"const": AUTO}]})]
EjectedShare = Annotated[float, Form(_ejected_share, text_schema(PERCENTAGE.pattern), write=_percent_text)]
"""In the file a percentage."""
Switch = Annotated[bool, Form(_switch, {"type": "boolean"}, write=_bool_text)]
JoinByThemselves = Annotated[bool, Form(_join_by_themselves, {"const": True}, write=_bool_text)]
Off = Annotated[str, only("off", "a mapping")]
HashSource = Annotated[str, only("source", "{header: NAME}")]
GrpcService = Annotated[
    str, Form(_grpc_service, {"anyOf": [{"const": True}, text_schema(GRPC_SERVICE)]}, write=lambda name: name or "true")
]
TcpCheck = Annotated[str, only("tcp", "{path: PATH}")]
RunCommand = Annotated[str, Form(_command, {"type": "string", "pattern": r"\{port\}"})]
FileName = Annotated[str, Form(printable_text(1), {"type": "string", "minLength": 1})]
UserName = Annotated[str, Form(printable_text(1), {"type": ["string", "number"], "minLength": 1})]
