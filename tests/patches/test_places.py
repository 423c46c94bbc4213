"""What LibCST would not give back the same is refused, and edits that cross each other are not made."""

import libcst
import pytest

from patches import places
from patches.errors import UnreadableSource
from patches.source import from_bytes
from patches.splice import Splice, apply_splices


def test_a_source_that_comes_back_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = libcst.parse_module
    monkeypatch.setattr(places.cst, "parse_module", lambda text: parse(text + "# more"))
    with pytest.raises(UnreadableSource) as caught:
        places.places_of(from_bytes("f.py", b"changed_on_the_way = 1\n"))
    assert str(caught.value) == (
        "f.py: expected a source that LibCST reads and writes the same, found: ValueError. "
        "Nothing was changed; the three edits have to be made by hand here."
    )


def test_edits_at_one_place_keep_their_order_and_edits_that_cross_are_refused() -> None:
    assert apply_splices("abcd", [Splice(1, 1, "1"), Splice(1, 1, "2"), Splice(2, 4, "")]) == "a12b"
    with pytest.raises(ValueError, match="overlapping"):
        apply_splices("abcd", [Splice(0, 2, ""), Splice(1, 3, "")])
