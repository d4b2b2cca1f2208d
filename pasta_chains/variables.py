"""The variables of a template, from files and from `name=value`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from .errors import DocumentError, PromptError


def read_variables(file: Path | None, given: Sequence[str] = ()) -> dict[str, Any]:
    """Reads the variables of a template.

    Args:
        file: A `.json`, `.yaml` or `.yml` file that holds one mapping.
        given: `name=value` each, which win over the file. A value that is JSON, such as `3`,
            `true` or `["a"]`, is what JSON says; any other is text.

    Raises:
        DocumentError: The file is missing, of another kind, or holds no mapping.
        PromptError: Something given is not `name=value`.
    """
    return (_from_file(file) if file else {}) | dict(map(_from_argument, given))


def _from_file(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise DocumentError(f"There is no file {file} with variables.")
    if file.suffix not in (".json", ".yaml", ".yml"):
        raise DocumentError(f"Variables are read from .json, .yaml or .yml files, not from {file}.")
    try:
        text = file.read_text(encoding="utf-8")
        found = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:  # not UTF-8, not JSON, an impossible date
        raise DocumentError(f"The variables in {file} cannot be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise DocumentError(f"{file} must hold one mapping from names to values.")
    return found


def _from_argument(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    if not equals or not name.isidentifier():
        raise PromptError(f"{given!r} is not name=value, such as question=Why?")
    try:
        return name, json.loads(value, parse_constant=_refuse)
    except ValueError:
        return name, value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
