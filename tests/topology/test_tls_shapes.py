"""The word that stands in the place of `tls` where clients speak none; files and places are in `test_files`."""

import pytest

from tierlb.model.tls import NoTls
from tierlb.topology.tls_shapes import NoTlsWord
from tierlb.topology.typed import Scalar, form_of


@pytest.mark.parametrize("text", ["off", "false"])
def test_off_may_be_written_as_editors_of_older_yaml_do(text: str) -> None:
    form = form_of(NoTlsWord)
    assert form is not None
    assert form.read(Scalar(text)) is NoTls.OFF
    assert form.write(NoTls.OFF) == "off"


def test_another_word_is_none() -> None:
    form = form_of(NoTlsWord)
    assert form is not None
    with pytest.raises(ValueError, match="write off, or a mapping"):
        form.read(Scalar("none"))
