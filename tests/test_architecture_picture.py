"""The picture of the architecture is of the imports as they are."""

from __future__ import annotations

import re

from architecture_picture import PICTURE, graph


def test_the_picture_has_every_part_and_every_import() -> None:
    names = set(re.findall(r'<g id="([^"]+)">', PICTURE.read_text(encoding="utf-8")))
    found = graph()
    edges = {f"{one}-imports-{other}" for one, other in found.edges}
    assert {name for name in names if "-imports-" in name} == edges
    assert set(found.nodes) <= names
    assert {"engine", "langchain"} <= set(found.nodes)
