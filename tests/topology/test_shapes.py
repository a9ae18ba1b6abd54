import attrs
import pytest

from tierlb.topology import route_shapes, shapes, tls_shapes
from tierlb.topology.typed import KeyRule, keys_of, rules_of

SHAPES = [
    value for name, value in (vars(shapes) | vars(route_shapes) | vars(tls_shapes)).items() if name.endswith("Shape")
]
RULES = [(shape, rule) for shape in SHAPES for rule in rules_of(shape)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_key_says_what_it_is_about(shape: type) -> None:
    assert all(field.metadata["about"] for field in attrs.fields(shape))


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if hasattr(shape, "MODEL")])
def test_every_key_sets_a_field_of_the_model(shape: type) -> None:
    fields = {key.model_field for key in keys_of(shape).values()}
    of_listeners = {"proxy_protocol"} if shape is shapes.TierShape else set()  # what a tier's listeners have by default
    assert fields - {"to", "outlier"} - of_listeners <= set(attrs.fields_dict(shape.MODEL))


@pytest.mark.parametrize(("shape", "rule"), RULES)
def test_rules_are_between_optional_keys_of_the_class(shape: type, rule: KeyRule) -> None:
    assert {*rule.keys} <= {name for name, key in keys_of(shape).items() if not key.is_required}
