import attrs
import pytest

from tierlb.topology import shapes
from tierlb.topology.shapes import AT_MOST_ONE, EXACTLY_ONE, NEEDS

SHAPES = [value for name, value in vars(shapes).items() if name.endswith("Shape")]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_key_says_what_it_is_about(shape: type) -> None:
    assert all(field.metadata["about"] for field in attrs.fields(shape))


@pytest.mark.parametrize("table", [EXACTLY_ONE, AT_MOST_ONE])
def test_choices_are_between_optional_keys_of_the_class(table: dict[type, tuple[str, ...]]) -> None:
    for shape, keys in table.items():
        fields = attrs.fields_dict(shape)
        assert all(fields[key].default is None for key in keys)


def test_keys_that_need_another_are_optional_keys_of_the_class() -> None:
    for shape, needs in NEEDS.items():
        assert {*needs, *needs.values()} <= {field.name for field in attrs.fields(shape) if field.default is None}
