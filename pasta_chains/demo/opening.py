"""Which model the commands ask; apart from the demo, which needs more packages than they do."""

from __future__ import annotations

from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from .. import connect
from ..emphasis_model import EmphasisModel
from ..engine import SteeredModel
from ..errors import ProfileError
from . import MODEL


def open_model(
    model: str | None = None, base_url: str | None = None, profile: str | Path | None = None
) -> EmphasisModel:
    """The model that a command is to ask: on a server, loaded, or the embedded one.

    Args:
        model: Name or folder of a model.
        base_url: Where a server is.
        profile: File with the model's heads; None for the one in its folder.

    Raises:
        ProfileError: There is no profile, or one beside a server.
        PastaError: The model or the server is not usable.
    """
    if base_url is not None:
        if model is not None or profile is not None:
            raise ProfileError(
                "--base-url asks the model of a server, with the heads that it was started with. "
                "Leave --model and --profile out."
            )
        return connect(base_url)
    disable_progress_bar()  # loading takes a moment, and its bar would mix with what is printed
    loaded = SteeredModel.from_pretrained(model or MODEL, profile)
    if loaded.profile is None:
        raise ProfileError(f"{loaded.name} has no head profile. Pass one with --profile FILE.")
    return loaded
