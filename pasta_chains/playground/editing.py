"""From what stands in the editors to a prompt, or to an error and its line."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from traceback import walk_tb
from typing import Any

import jinja2
import yaml

from ..errors import PastaError, PromptError
from ..spans import SpanStr
from ..template import Environment

SHIPPED = "rag/qa.jinja"
"""What the editor shows first."""


class EditorError(PromptError):
    """Something in an editor is wrong.

    Attributes:
        editor: Which one: "template" or "variables".
        line: Number of the line, from 1, if it is known.
    """

    def __init__(self, message: str, editor: str, line: int | None = None) -> None:
        super().__init__(message)
        self.editor = editor
        self.line = line


@cache
def examples() -> dict[str, dict[str, Any]]:
    """Variables for each of the shipped templates."""
    text = files("pasta_chains.playground").joinpath("examples.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found


def example(name: str) -> str:
    """The variables of a shipped template, as YAML."""
    return yaml.safe_dump(examples()[name], allow_unicode=True, sort_keys=False)


def read_yaml(text: str) -> dict[str, Any]:
    """The variables in an editor.

    Raises:
        EditorError: They are no YAML, or no mapping from names.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise EditorError(
            f"The variables are not YAML: {problem}.", "variables", mark and mark.line + 1
        ) from error
    except ValueError as error:  # such as an impossible date
        raise EditorError(f"The variables cannot be read: {error}.", "variables") from error
    found = {} if found is None else found
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise EditorError(
            "The variables must be `name: value`, each on a line of its own.", "variables"
        )
    return found


def rendered(template: str, variables: str) -> SpanStr:
    """The prompt of a template and its variables.

    Args:
        template: Its source, rendered in the sandbox of `Environment`.
        variables: As YAML.

    Raises:
        EditorError: One of them is wrong.
    """
    values = read_yaml(variables)
    try:
        return SpanStr(Environment().from_string(template).render(values))
    except jinja2.TemplateSyntaxError as error:
        raise EditorError(f"{error.message}", "template", error.lineno) from error
    except (PastaError, jinja2.TemplateError) as error:
        raise EditorError(str(error), "template", _line(error)) from error
    except Exception as error:  # a template is a program, and may fail in any way
        raise EditorError(f"{type(error).__name__}: {error}", "template", _line(error)) from error


def _line(error: Exception) -> int | None:
    """The line of a template at which it failed: Jinja rewrites the traceback."""
    lines = [
        number
        for frame, number in walk_tb(error.__traceback__)
        if frame.f_code.co_filename == "<template>"
    ]
    return lines[-1] if lines else None
