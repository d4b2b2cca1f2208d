"""A task of one's own: a file with a prompt and what is expected in each line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import jinja2

from ..errors import PastaError, TaskError
from ..prompts import Prompt
from ..spans import SpanStr
from ..template import Environment
from . import metrics
from .rows import text_of, texts_of
from .task import Sample, Task, is_emphasized

Metric: TypeAlias = Literal["exact", "contains", "regex", "json", "choice"]
"""When an answer is right: it is an expected answer; has it as whole words; a regular expression is
found in it; a field of its JSON is it; or it is the likeliest of some options.
"""

_FIELDS = frozenset(
    "id prompt emphasize messages template variables answer answers metric field options".split()
)


@dataclass(frozen=True)
class Expected:
    """What an answer is compared with.

    Attributes:
        metric: How.
        answers: Any of these is right.
        field: The JSON field, for "json".
    """

    metric: Metric
    answers: tuple[str, ...]
    field: str | None = None

    def fits(self, answer: str) -> bool:
        """Whether an answer is right."""
        if self.metric in ("exact", "choice"):
            return any(metrics.equals(answer, one, any_case=True) for one in self.answers)
        if self.metric == "contains":
            return any(metrics.contains(answer, one) for one in self.answers)
        if self.metric == "regex":
            return any(metrics.matches(answer, one) for one in self.answers)
        return any(metrics.json_field(answer, self.field or "", one) for one in self.answers)


def qa_task(rows: Sequence[Mapping[str, Any]], *, name: str = "qa") -> Task:
    """Make a task of rows: "Acc", the answer is an expected one.

    A row has its prompt in one of three forms: "prompt", a text, and "emphasize", a list of parts
    of it, each of which it has once; or "messages" with "role" and "content", where a content may
    be `{"text": …, "spans": [[start, end], …]}`; or "template", the source of a Jinja template or
    the name of a shipped one, and "variables". It has "answer" or "answers"; "metric", by default
    "contains"; "field" for the metric "json"; and "options" for "choice".

    Args:
        rows: The rows.
        name: Of the task.

    Raises:
        TaskError: A row lacks a field, emphasizes nothing, or is wrong in another way.
    """
    return Task(name, tuple(_sample(row, i) for i, row in enumerate(rows, 1)), ("Acc",), _score)


def _score(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    return {"Acc": float(sample.expected.fits(answers[0]))}


def _sample(row: Mapping[str, Any], number: int) -> Sample:
    unknown = sorted(row.keys() - _FIELDS)
    if unknown:
        raise TaskError(
            f"Row {number} has a field {unknown[0]!r}; fields are {', '.join(sorted(_FIELDS))}."
        )
    prompt = _prompt(row, number)
    if not is_emphasized(prompt):
        raise TaskError(
            f"Row {number} emphasizes nothing, so there is nothing to steer. Name what counts in "
            "'emphasize', or mark it in the template."
        )
    expected = _expected(row, number)
    options = tuple(texts_of(row, number, "options")) if expected.metric == "choice" else ()
    if options and not any(answer in options for answer in expected.answers):
        raise TaskError(f"No answer of row {number} is among its options.")
    identity = str(row.get("id", number))
    return Sample(identity, (prompt,), expected.answers[0], options, expected)


def _expected(row: Mapping[str, Any], number: int) -> Expected:
    metric = row.get("metric", "contains")
    if metric not in get_args(Metric):
        known = ", ".join(get_args(Metric))
        raise TaskError(f"The metric of row {number} is {metric!r}; the metrics are {known}.")
    many = "answers" in row
    answers = texts_of(row, number, "answers") if many else [text_of(row, number, "answer")]
    field = text_of(row, number, "field") if metric == "json" else None
    if metric == "regex":
        for pattern in answers:
            metrics.matches("", pattern)  # refuses what is no regular expression
    return Expected(metric, tuple(answers), field)


def _prompt(row: Mapping[str, Any], number: int) -> Prompt:
    forms = [form for form in ("prompt", "messages", "template") if form in row]
    if len(forms) != 1:
        raise TaskError(
            f"Row {number} must have one of 'prompt', 'messages' and 'template', and has "
            f"{' and '.join(map(repr, forms)) or 'none'}."
        )
    if forms[0] == "template":
        return _rendered(row, number)
    if forms[0] == "messages":
        found = row["messages"]
        if not isinstance(found, list) or not all(_is_message(message) for message in found):
            raise TaskError(f"The messages of row {number} must each have 'role' and 'content'.")
        return [{**one, "content": _text(one["content"], number)} for one in found]
    text = _text(row["prompt"], number)
    if "emphasize" not in row:
        return text
    return _emphasized(text, texts_of(row, number, "emphasize"), number)


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and {"role", "content"} <= message.keys()


def _text(value: Any, number: int) -> SpanStr:
    if isinstance(value, str):
        return SpanStr(value)
    try:
        return SpanStr.from_dict(value)
    except (PastaError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise TaskError(
            f"A prompt of row {number} is {json.dumps(value)[:80]}; it must be a text, or "
            f'{{"text": …, "spans": [[start, end], …]}}: {error}'
        ) from error


def _emphasized(text: SpanStr, parts: Sequence[str], number: int) -> SpanStr:
    found = text
    for part in parts:
        count = text.text.count(part) if part else 0
        if count != 1:
            raise TaskError(
                f"Row {number} emphasizes {part!r}, which its prompt has {count} times. Name a "
                "part that it has once, or give the prompt as a text with spans."
            )
        start = text.text.index(part)
        found = found[:start] + SpanStr(part, [(0, len(part))]) + found[start + len(part) :]
    return found


def _rendered(row: Mapping[str, Any], number: int) -> SpanStr:
    source, variables = text_of(row, number, "template"), row.get("variables", {})
    environment = Environment()
    try:
        shipped = source in environment.list_templates()
        template = environment.get_template(source) if shipped else environment.from_string(source)
        return SpanStr(template.render(variables))
    except (PastaError, jinja2.TemplateError, TypeError, ValueError) as error:
        raise TaskError(f"The template of row {number} cannot be rendered: {error}") from error
