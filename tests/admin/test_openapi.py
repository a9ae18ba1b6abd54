"""The description, and whether the API does what it says: schemathesis asks whatever the description allows, and what
it does not, on a real port."""

import json
import socket

import jsonschema
import schemathesis
import trio
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.config import PositiveDataAcceptanceConfig, SchemathesisConfig

from tests.admin.conftest import TOKEN, make_shop
from tierlb.admin.app import DESCRIPTION, serve_admin
from tierlb.admin.openapi import openapi_document
from tierlb.admin.operations import operations

DEADLINE_S = 20
EXAMPLES = {"POST /v1/explain": 3}
MOST_EXAMPLES = 40
UNDERSTOOD = ["2xx", "404", "409", "422"]
"""The names in what is asked are made up, so most of it cannot be done; but 400 would mean: not understood."""
REFUSED = ["400", "401", "404", "409", "413", "422"]
"""A text longer than what is read at all is refused before it is compared with the description. In some cases only the
token is missing, which some of the checks add."""


async def described():
    shop = await make_shop()
    return openapi_document(operations(shop.changes.controller, shop.changes))


async def test_it_is_served_without_a_token(shop):
    assert (await shop.get(DESCRIPTION)).json() == json.loads(json.dumps(await described()))


async def test_every_class_that_is_named_is_described():
    text = json.dumps(await described())
    schemas = (await described())["components"]["schemas"]
    named = {piece.partition('"')[0] for piece in text.split("#/components/schemas/")[1:]}
    assert named == set(schemas)
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_every_operation_says_what_it_is_for_and_has_a_name_of_its_own():
    found = [operation for path in (await described())["paths"].values() for operation in path.values()]
    assert all(operation["summary"].endswith(".") for operation in found)
    assert len({operation["operationId"] for operation in found}) == len(found) == 13


async def test_what_is_posted_needs_the_token():
    for methods in (await described())["paths"].values():
        secured = {method for method, operation in methods.items() if operation.get("security")}
        assert secured == ({"post"} if "post" in methods else set())


def ask(operation, mode):
    """As many as fit, and what was answered; whatever the checks find is raised."""
    statuses = set()
    fields = {"authorization": f"Bearer {TOKEN}"}

    @settings(
        max_examples=EXAMPLES.get(operation.label, MOST_EXAMPLES),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def answers_as_described(case):
        answer = case.call(headers=fields)
        statuses.add(answer.status_code)
        case.validate_response(answer, headers=fields)

    answers_as_described()
    return statuses


def ask_everything(url):
    config = SchemathesisConfig()
    schema = schemathesis.openapi.from_url(f"{url}{DESCRIPTION}", config=config)
    schema.config.checks.positive_data_acceptance = PositiveDataAcceptanceConfig(expected_statuses=UNDERSTOOD)
    schema.config.checks.negative_data_rejection.expected_statuses = REFUSED
    found = [result.ok() for result in schema.get_all_operations()]
    wanted = {operation.label: ask(operation, GenerationMode.POSITIVE) for operation in found}
    refused = {operation.label: ask(operation, GenerationMode.NEGATIVE) for operation in found if operation.body}
    return wanted, refused


async def test_the_api_does_what_its_description_says(nursery):
    shop = await make_shop()
    bound = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    with trio.fail_after(DEADLINE_S):
        await nursery.start(shop.changes.run)
        await nursery.start(serve_admin, bound, ServingShop(shop.changes.controller), shop.changes, TOKEN)
        wanted, refused = await trio.to_thread.run_sync(ask_everything, url)
    assert wanted["GET /v1/status"] == {200}
    assert {200, 404} == wanted["GET /v1/history/{number}"]
    assert len(refused) == 5
    assert all(400 in statuses for statuses in refused.values())


class ServingShop:
    """Its health is good: that it is not is told by a status that the checks take for an error of the API."""

    def __init__(self, controller):
        self.observe, self.explain, self.status = controller.observer.observe, controller.observer.explain, lambda: self

    serving = True
