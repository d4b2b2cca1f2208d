"""Draws docs/figures/architecture.svg from the imports: `python tests/architecture_picture.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import networkx
from test_layering import FILES, HEAVY, LAYERS, imports, part_of, parts_imported

PICTURE = Path(__file__).parent.parent / "docs" / "figures" / "architecture.svg"
WIDTH = 6.4
COLORS = {"neither": "#d7ead3", "torch": "#d5e3f5", "a framework": "#f9e2c4"}

_LINE = {"arrowstyle": "-", "color": "0.6", "lw": 0.7, "connectionstyle": "arc3,rad=0.08"}


def graph() -> Any:
    """Who imports whom, without what follows from other imports; the package itself left out."""
    found = networkx.DiGraph()
    for file in FILES:
        part = part_of(file)
        if part:
            found.add_node(part)
            found.add_edges_from((part, other) for other in parts_imported(file) if other)
    return networkx.transitive_reduction(found)


def needs(found: Any, part: str) -> str:
    """What a part cannot do without, itself or through others."""
    if part in ("langchain", "llama_index"):
        return "a framework"
    parts = {part, *networkx.descendants(found, part)}
    files = [file for file in FILES if part_of(file) in parts]
    packages = {name.partition(".")[0] for file in files for name in imports(file)}
    return "torch" if packages & HEAVY else "neither"


def places() -> dict[str, tuple[float, float]]:
    """Each part in the row of its layer, the lowest layer at the bottom."""
    rows = [[part for part in parts if part] for parts in LAYERS]
    return {
        part: (WIDTH * (column + 1) / (len(row) + 1), float(height))
        for height, row in enumerate([row for row in rows if row])
        for column, part in enumerate(row)
    }


def draw(file: Path) -> None:
    """Draw the picture, the same for the same imports."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "architecture"
    from matplotlib import pyplot

    found, at = graph(), places()
    figure, axes = pyplot.subplots(figsize=(10, 10))
    for one, other in sorted(found.edges):
        line = axes.annotate("", at[other], at[one], arrowprops=_LINE).arrow_patch
        line.set_gid(f"{one}-imports-{other}")
    for part in sorted(found.nodes):
        box = {
            "boxstyle": "round,pad=0.35",
            "facecolor": COLORS[needs(found, part)],
            "edgecolor": "0.5",
        }
        axes.text(*at[part], part, ha="center", va="center", fontsize=8.5, bbox=box, gid=part)
    for number, (name, color) in enumerate(COLORS.items()):
        box = {"boxstyle": "round,pad=0.35", "facecolor": color, "edgecolor": "0.5"}
        axes.text(0.2, len(LAYERS) - 2 - 0.8 * number, f"needs {name}", fontsize=8.5, bbox=box)
    axes.set(xlim=(0, WIDTH), ylim=(-0.6, max(y for _, y in at.values()) + 0.6))
    axes.axis("off")
    figure.savefig(
        file, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None}
    )
    pyplot.close(figure)


if __name__ == "__main__":
    draw(PICTURE)
