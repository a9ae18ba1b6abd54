"""The admin API's description of itself, OpenAPI 3.1: made from the operations, so it cannot differ from them."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import tierlb
from tierlb.admin.operations import Operation
from tierlb.admin.refusals import Refusal
from tierlb.model.address import Address
from tierlb.topology.schema import Describer
from tierlb.topology.typed import Schema

REFERENCE = "#/components/schemas/"
WITH_BODY = (400, 413, 415)
LATENCY: Schema = {
    "anyOf": [
        {
            "type": "object",
            "properties": {
                "count": {"type": "integer"},
                **{f"p{percent}_s": {"type": ["number", "null"]} for percent in (50, 90, 99)},
                "sketch": {"type": "string", "contentEncoding": "base64"},
            },
            "required": ["count", "p50_s", "p90_s", "p99_s", "sketch"],
        },
        {"type": "null"},
    ]
}
"""What controller/status.py makes of an encoded sketch."""
PLAIN_TYPES: dict[Any, Schema] = {
    bytes: LATENCY,
    Address: {"type": "string"},
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
}
"""Types of answers that have no form, since nothing reads them."""
REFUSED = {
    400: "The body is not JSON, or not of the shape described here.",
    401: "The token is missing or wrong.",
    403: "It comes from a page of another origin.",
    404: "There is none of that number.",
    409: "Another change is being carried out, or another revision is current than the one expected.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    421: "The Host header does not mean this host.",
    422: "It cannot be done; `problems` are those of the topology file, with their places.",
    503: "The change cannot be stored.",
    507: "There is no room to store the change.",
}
NUMBER_PARAMETER: Schema = {
    "name": "number",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
}


def openapi_document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The whole description, ready for json.dumps."""
    definitions: dict[str, Schema] = {}
    paths: dict[str, dict[str, Any]] = {}
    bodies = Describer(REFERENCE, definitions)
    answers = Describer(REFERENCE, definitions, reads=False, simple=PLAIN_TYPES)
    answers.schema(Refusal)
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, bodies, answers)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tierlb admin API",
            "version": tierlb.__version__,
            "description": "What a running cluster is and does, and how to change it.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The file admin-token in the state directory of `tierlb up`, anew at each start.",
                }
            },
        },
    }


def _described(operation: Operation, bodies: Describer, answers: Describer) -> dict[str, Any]:
    given = {str(status): _answer_schema(status, kind, answers) for status, kind in sorted(operation.answers.items())}
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "responses": given | {str(status): _refusal_schema(status) for status in _refusals(operation)},
    }
    if "{number}" in operation.path:
        described["parameters"] = [NUMBER_PARAMETER]
    if operation.token:
        described["security"] = [{"token": []}]
    if operation.body is not None:
        content = {"schema": bodies.schema(operation.body), "example": operation.body.EXAMPLE}
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    return described


def _operation_id(operation: Operation) -> str:
    return "-".join((operation.method.lower(), *re.findall("[a-z]+", operation.path.removeprefix("/v1"))))


def _refusals(operation: Operation) -> list[int]:
    statuses = {*operation.refusals, 421}
    if operation.method == "POST":
        statuses.add(403)
    if operation.token:
        statuses.add(401)
    if operation.body is not None:
        statuses.update(WITH_BODY)
    return sorted(statuses)


def _answer_schema(status: int, kind: Any, answers: Describer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if kind is None:
        return {**described, "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {**described, "content": {"application/json": {"schema": answers.schema(kind)}}}


def _refusal_schema(status: int) -> dict[str, Any]:
    schema = {"$ref": f"{REFERENCE}{Refusal.__name__}"}
    return {"description": REFUSED[status], "content": {"application/json": {"schema": schema}}}
