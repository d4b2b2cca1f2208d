"""A task of one's own: a file with a prompt and what is expected in each line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from ..chat import Message
from ..errors import PastaError, TaskError
from ..prompts import Prompt
from ..spans import Span, SpanStr
from ..template import Environment
from . import metrics
from .rows import text_of, texts_of
from .task import Sample, Task, is_emphasized

Metric: TypeAlias = Literal["exact", "contains", "regex", "json", "choice"]
"""When an answer is right: it is an expected answer; has it as whole words; a regular expression is
found in it; a field of its JSON is it; or it is the likeliest of some options.
"""

_FIELDS = frozenset(
    "id prompt emphasize messages template variables answer answers metric field options "
    "example".split()
)
_MESSAGE_FIELDS = frozenset("role content emphasize name tool_calls tool_call_id".split())
_NEEDS = {
    "emphasize": ("prompt", "In chat messages, put it beside the 'content' that it is part of."),
    "variables": ("template", "Leave it out."),
}
_METRIC_OF = {"field": "json", "options": "choice"}


@dataclass(frozen=True)
class Expected:
    """What an answer is compared with.

    Attributes:
        metric: How.
        answers: Any of these is right. They are texts, but for "json", where they are any values.
        field: The JSON field, for "json".
    """

    metric: Metric
    answers: tuple[Any, ...]
    field: str | None = None

    def fits(self, answer: str) -> bool:
        """Whether an answer is right."""
        if self.metric == "choice":
            return answer in self.answers
        if self.metric == "exact":
            return any(metrics.equals(answer, one, any_case=True) for one in self.answers)
        if self.metric == "contains":
            return any(metrics.contains(answer, one) for one in self.answers)
        if self.metric == "regex":
            return any(metrics.matches(answer.strip(), one) for one in self.answers)
        return any(metrics.json_field(answer, self.field or "", one) for one in self.answers)


def qa_task(rows: Sequence[Mapping[str, Any]], *, name: str = "qa") -> Task:
    """Make a task of rows: "Acc", the answer is an expected one.

    A row has its prompt in one of three forms: "prompt", a text, and "emphasize", a list of parts
    of it, each of which it has once; or "messages" with "role", "content" and "emphasize", parts of
    that content; or "template", the source of a Jinja template or the name of a shipped one, and
    "variables". A prompt or content may be `{"text": …, "spans": [[start, end], …]}`, too. A row
    has "answer" or "answers"; "metric", by default
    "contains"; "field" for the metric "json"; "options" for "choice"; and "example", the answer
    that the row has as a worked example, by default the first right one. A regular expression is no
    answer, so for "regex" there is none by default.

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
    _check_companions(row, number)
    prompt = _prompt(row, number)
    if not is_emphasized(prompt):
        raise TaskError(
            f"Row {number} emphasizes nothing, so there is nothing to steer. Name what counts in "
            "'emphasize', or mark it in the template."
        )
    expected = _expected(row, number)
    options = tuple(texts_of(row, number, "options")) if expected.metric == "choice" else ()
    for answer in expected.answers if options else ():
        if answer not in options:
            raise TaskError(f"The answer {answer!r} of row {number} is not among its options.")
    identity = str(row.get("id", number))
    return Sample(identity, (prompt,), _shown(row, number, expected), options, expected)


def _check_companions(row: Mapping[str, Any], number: int) -> None:
    """Refuse what would have no effect."""
    for field, (other, hint) in _NEEDS.items():
        if field in row and other not in row:
            raise TaskError(f"Row {number} has {field!r}, which goes with {other!r} alone. {hint}")
    metric = row.get("metric", "contains")
    for field, other in _METRIC_OF.items():
        if field in row and metric != other:
            raise TaskError(
                f"Row {number} has {field!r}, which goes with the metric {other!r} alone; its "
                f"metric is {metric!r}."
            )
    if ("answer" in row) == ("answers" in row):
        raise TaskError(
            f"Row {number} must have one of 'answer' and 'answers', and has "
            f"{'both' if 'answer' in row else 'none'}."
        )


def _shown(row: Mapping[str, Any], number: int, expected: Expected) -> str:
    """The answer as a worked example shows it; empty where there is none."""
    if "example" in row:
        example = text_of(row, number, "example")
        if not expected.fits(example):
            raise TaskError(
                f"The 'example' of row {number}, {example!r}, is not right by the row's own metric."
            )
        return example
    if expected.metric == "regex":
        return ""
    found = expected.answers[0]
    if expected.metric != "json":
        return str(found)
    for name in reversed((expected.field or "").split(".")):
        found = [found] if name == "0" else {name: found}
    return json.dumps(found, ensure_ascii=False)


def _expected(row: Mapping[str, Any], number: int) -> Expected:
    metric = row.get("metric", "contains")
    if metric not in get_args(Metric):
        known = ", ".join(get_args(Metric))
        raise TaskError(f"The metric of row {number} is {metric!r}; the metrics are {known}.")
    field = text_of(row, number, "field") if metric == "json" else None
    answers = _answers(row, number, any_value=metric == "json")
    if metric == "regex":
        try:
            for pattern in answers:
                metrics.matches("", pattern)
        except TaskError as error:
            error.add_note(f"row {number}")
            raise
    return Expected(metric, tuple(answers), field)


def _answers(row: Mapping[str, Any], number: int, *, any_value: bool) -> Sequence[Any]:
    if any_value:
        found = row.get("answers", [row.get("answer")])
        if not isinstance(found, list) or not found:
            raise TaskError(f"The field 'answers' of row {number} must be a list of values.")
        return found
    if "answer" in row:
        return [text_of(row, number, "answer")]
    texts = texts_of(row, number, "answers")
    if not all(text.strip() for text in texts):
        raise TaskError(f"Row {number} has an answer without any text, which every answer has.")
    return texts


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
        unknown = sorted({name for message in found for name in message} - _MESSAGE_FIELDS)
        if unknown:
            raise TaskError(
                f"A message of row {number} has a field {unknown[0]!r}; fields are "
                f"{', '.join(sorted(_MESSAGE_FIELDS))}."
            )
        return [_message(one, number) for one in found]
    return _marked(row, "prompt", number)


def _message(message: Mapping[str, Any], number: int) -> Message:
    kept = {name: value for name, value in message.items() if name != "emphasize"}
    return {**kept, "content": _marked(message, "content", number)}


def _marked(holder: Mapping[str, Any], field: str, number: int) -> SpanStr:
    text = _text(holder[field], number)
    if "emphasize" not in holder:
        return text
    return _emphasized(text, texts_of(holder, number, "emphasize"), number)


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and {"role", "content"} <= message.keys()


def _text(value: Any, number: int) -> SpanStr:
    if isinstance(value, str):
        return SpanStr(value)
    try:
        spans = [Span(**one) if isinstance(one, dict) else one for one in value["spans"]]
        return SpanStr(value["text"], spans)
    except (PastaError, KeyError, TypeError) as error:
        raise TaskError(
            f"A prompt of row {number} is {json.dumps(value)[:80]}; it must be a text, or "
            f'{{"text": …, "spans": [[start, end], …]}}: {error}'
        ) from error


def _emphasized(text: SpanStr, parts: Sequence[str], number: int) -> SpanStr:
    found = text
    for part in parts:
        if not part.strip():
            raise TaskError(f"Row {number} emphasizes {part!r}, which no model can read.")
        count = sum(text.text.startswith(part, place) for place in range(len(text)))
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
    if not isinstance(variables, dict):
        raise TaskError(
            f"The 'variables' of row {number} are {variables!r}; they must be an object."
        )
    environment = Environment()
    try:
        shipped = source in environment.list_templates()
        template = environment.get_template(source) if shipped else environment.from_string(source)
        return SpanStr(template.render(variables))
    except Exception as error:  # a template is a program, and may fail in any way
        raise TaskError(
            f"The template of row {number} cannot be rendered: {type(error).__name__}: {error}"
        ) from error
