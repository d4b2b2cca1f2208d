"""`pasta-chains serve`: vLLM's own server with a head profile found or asked for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from ..default_profile import NAME as DEFAULT
from ..errors import MissingExtraError, ProfileError
from ..profile import FILE_NAME, HeadProfile

try:
    from ..wire import KEY
except MissingExtraError as error:  # of a part of what is missing
    raise MissingExtraError("vllm", "vllm") from error

_OWN = "--additional-config"
_BACKEND = "--structured-outputs-config"
# The one that answers of a form are made with here, so that they are the same there.
_GUIDANCE = {"backend": "guidance", "disable_any_whitespace": True}


def command(model: str, profile: str | None, arguments: Sequence[str]) -> list[str]:
    """The command that starts a server.

    Args:
        model: Name or folder.
        profile: A file with heads, or "default" for a guess; None for the one in the model's
            folder, or the one that comes with this package for it.
        arguments: Further ones of `vllm serve`.

    Raises:
        ProfileError: There is no profile for the model, or it cannot be read.
    """
    if any(one.startswith(_OWN) for one in arguments):
        raise ProfileError(
            f"pasta-chains serve sets {_OWN} itself. Use --profile; or, for other settings in it, "
            "vllm serve."
        )
    settings = {KEY: {"profile": _profile(model, profile)}}
    started = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", model]
    if not any(one.startswith(_BACKEND) for one in arguments):
        started += [_BACKEND, json.dumps(_GUIDANCE)]
    return [*started, _OWN, json.dumps(settings), *arguments]


def serve(model: str, profile: str | None, arguments: Sequence[str]) -> NoReturn:
    """Become a server; see `command`.

    Raises:
        MissingExtraError: vLLM is not installed.
        ProfileError: As `command` does.
    """
    started = command(model, profile, arguments)
    plugins = os.environ.get("VLLM_PLUGINS")
    if plugins is not None and KEY not in plugins.split(","):
        raise ProfileError(
            f"VLLM_PLUGINS is {plugins!r}, so vLLM would not load this plugin. Add {KEY} to it."
        )
    if find_spec("vllm") is None:
        raise MissingExtraError("vllm", "vllm")
    sys.stdout.flush()
    os.execv(started[0], started)


def _profile(model: str, given: str | None) -> object:
    """The profile as the server's configuration has it, so that no worker needs the file."""
    if given == DEFAULT:
        return DEFAULT
    beside = Path(model) / FILE_NAME
    if given is not None:
        found = HeadProfile.load(given)
    elif beside.is_file():
        found = HeadProfile.load(beside)
    else:
        found = HeadProfile.for_model(model)
    return replace(found, details=None).to_dict()
