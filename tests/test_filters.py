"""The table of filters in the docs: each example gives what it says, and no filter is missing."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import jinja2.filters
import pytest
from marked import bracketed

from pasta_chains.errors import EmphasisDroppedWarning
from pasta_chains.spans import SpanStr, emphasize
from pasta_chains.template import Environment

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "template-language.md"
_ROW = re.compile(r"^\| (`.*?) \| (\w[\w ]*) \| `(.*)` \| `(.*)` \|$", re.MULTILINE)
ROWS = [
    (names, verdict, example.replace(r"\|", "|"), result.replace(r"\n", "\n"))
    for names, verdict, example, result in _ROW.findall(PAGE.read_text("utf-8"))
]
VALUES: dict[str, Any] = {
    "loud": "so " + emphasize("loud"),
    "louds": [emphasize("L1"), "p", emphasize("L2")],
    "none": "",
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
@pytest.mark.parametrize("is_async", [False, True])
def test_every_row_does_what_it_says(row: tuple[str, str, str, str], is_async: bool) -> None:
    names, verdict, example, result = row
    assert all(re.search(rf"\b{name}\b", example) for name in re.findall(r"`(\w+)`", names))
    template = Environment(enable_async=is_async).from_string(example)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        text = SpanStr(template.render(VALUES))
    assert bracketed(text) == result
    dropped = any(warning.category is EmphasisDroppedWarning for warning in caught)
    assert dropped == (verdict == "drops")
    assert bool(text.spans) == (verdict in ("keeps", "adds"))


def test_no_filter_is_missing() -> None:
    named = {name for names, *_ in ROWS for name in re.findall(r"`(\w+)`", names)}
    assert named == set(jinja2.filters.FILTERS) | {"emphasize", "deemphasize", "plain"}
