"""Checks for the tables of forms: values are read as they should be, and the schema takes what the reader takes."""

from types import ModuleType
from typing import Annotated, Any, get_origin

import jsonschema
import pytest

from tierlb.topology import forms, net_forms
from tierlb.topology.typed import Scalar, form_of

IN_TEXT = (forms.Seconds, forms.EjectedShare, net_forms.SocketMode)
"""Numbers that the file writes as text."""


def check_right(kind: Any, text: str, value: object) -> None:
    """The text is read as the value, and valid for the schema as the file has it."""
    form = form_of(kind)
    assert form is not None
    assert form.read(Scalar(text)) == value
    is_number = isinstance(value, int | float) and not any(kind is other for other in IN_TEXT)
    jsonschema.validate(value if is_number else text, form.schema)


def check_wrong(kind: Any, scalar: Scalar, said: str) -> None:
    """It is refused with this advice."""
    form = form_of(kind)
    assert form is not None
    with pytest.raises(ValueError, match=said):
        form.read(scalar)


def forms_in(module: ModuleType) -> list[Any]:
    """The forms that a module declares."""
    return [kind for kind in vars(module).values() if get_origin(kind) is Annotated]
