"""Files that change, and files that do not."""

import os
from pathlib import Path

from tierlb.net.file_stamp import stamp_of


def test_a_stamp_changes_with_content_and_where_a_link_leads_elsewhere(tmp_path: Path) -> None:
    old, new, link = (tmp_path / name for name in ("old", "new", "link"))
    old.write_text("a")
    new.write_text("a")
    link.symlink_to(old)
    before = stamp_of([str(link)])
    assert stamp_of([str(link)]) == before
    os.replace(new, old)
    renewed = stamp_of([str(link)])
    assert renewed != before
    old.unlink()
    assert stamp_of([str(link)]) == ((0, 0, 0),)
