import pytest

from tierlb.controller.file_text import FileText, decoded


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"a: b\n", "a: b\n"), (b"\xef\xbb\xbfa: b\r\nc: d\r", "a: b\nc: d\n"), (b"", "")],
)
def test_marks_and_line_ends_of_other_systems_are_no_part_of_the_text(content, text):
    assert decoded(content) == text


async def test_a_file_that_cannot_be_read_is_as_it_was(tmp_path, log):
    file = tmp_path / "shop.yaml"
    file.write_text("a: b\n")
    text = FileText(file, "", log)
    assert await text.read() == "a: b\n"
    file.unlink()
    assert await text.read() == "a: b\n"
    assert [(event, fields["file"]) for event, fields in log.events] == [("topology_file_read_failed", str(file))]
