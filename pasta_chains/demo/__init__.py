"""The demo: an embedded model, its documents, and the world it was trained on."""

from pathlib import Path

MODEL = Path(__file__).parent / "pasta-reader"
"""Folder of the embedded model: for `SteeredModel.from_pretrained`."""

DOCUMENTS = Path(__file__).parent / "documents"
"""Folder of the documents that the demo asks about."""
