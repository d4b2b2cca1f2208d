"""Tasks of one's own: every form of prompt, every way to be right, and every error with its row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pasta_chains.errors import TaskError
from pasta_chains.evaluation.qa import qa_task
from pasta_chains.evaluation.rows import read_rows
from pasta_chains.evaluation.task import Sample
from pasta_chains.spans import Span, SpanStr

PROMPT = "Be brief. Who leads Tarn?"
ROW: dict[str, Any] = {"prompt": PROMPT, "emphasize": ["Be brief."], "answer": "Ada Lowe"}
BARE: dict[str, Any] = {"prompt": PROMPT, "emphasize": ["Be brief."]}


def only(row: dict[str, Any]) -> Sample:
    (sample,) = qa_task([row]).samples
    return sample


def spans(row: dict[str, Any]) -> SpanStr:
    (prompt,) = only(row).prompts
    assert isinstance(prompt, SpanStr)
    return prompt


def is_right(row: dict[str, Any], answer: str) -> bool:
    task = qa_task([row])
    scores = task.score(task.samples[0], [answer])
    assert scores.keys() == {"Acc"}
    return scores["Acc"] == 1.0


def test_a_task_of_rows() -> None:
    task = qa_task([ROW, {**ROW, "id": 7}, {**ROW, "id": "x"}], name="mine")
    assert (task.name, task.metrics, task.fluency_floor) == ("mine", ("Acc",), None)
    assert [sample.id for sample in task.samples] == ["1", "7", "x"]
    assert task.samples[0].wanted == "Ada Lowe"
    assert task.samples[0].options == ()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["Be brief."], [(0, 9)]),
        (["Tarn", "Be brief."], [(0, 9), (20, 24)]),
        (["brief. Who", "Who leads"], [(3, 10), (10, 19)]),  # they cross
        (["Who leads Tarn?", "Tarn"], [(10, 25), (20, 24)]),
        (["Who", " "], None),
    ],
)
def test_parts_of_a_text(parts: list[str], expected: list[tuple[int, int]] | None) -> None:
    row = {**ROW, "emphasize": parts}
    if expected is None:
        with pytest.raises(TaskError, match="Row 1 emphasizes ' ', which no model can read"):
            only(row)
        return
    found = spans(row)
    assert found == PROMPT
    covered = {place for span in found.spans for place in range(span.start, span.end)}
    assert covered == {place for start, end in expected for place in range(start, end)}


SPANS = [
    [[0, 9]],
    [[0, 9, 0.5, "rule"]],
    [{"start": 0, "end": 9}],
    [{"start": 0, "end": 9, "alpha": 0.5, "name": "rule", "deemphasized": False}],
]


@pytest.mark.parametrize("given", SPANS)
def test_a_text_with_spans(given: list[Any]) -> None:
    text = {"text": PROMPT, "spans": given}
    strong = len(given[0]) > 2
    expected = [Span(0, 9, 0.5, "rule") if strong else Span(0, 9)]
    assert list(spans({"prompt": text, "answer": "a"}).spans) == expected
    messages = [{"role": "system", "content": text}, {"role": "user", "content": "Who?"}]
    system, user = only({"messages": messages, "answer": "a"}).prompts[0]
    assert (system["role"], system["content"]) == ("system", PROMPT)
    assert list(system["content"].spans) == expected
    assert user["content"] == "Who?"


def test_parts_of_messages() -> None:
    messages = [
        {"role": "system", "content": "Be brief.", "emphasize": ["brief"]},
        {"role": "user", "content": {"text": "Who?", "spans": [[3, 4]]}, "emphasize": ["Who"]},
        {"role": "assistant", "content": "Who?", "name": "x"},
    ]
    made = list(only({"messages": messages, "answer": "a"}).prompts[0])
    assert [message["content"].emphasized() for message in made] == [("brief",), ("Who", "?"), ()]
    assert [message.keys() - {"role", "content"} for message in made] == [set(), set(), {"name"}]
    messages[0]["emphasize"] = ["x"]
    with pytest.raises(TaskError, match="Row 1 emphasizes 'x', which its prompt has 0 times"):
        only({"messages": messages, "answer": "a"})


def test_what_a_span_str_writes_is_read() -> None:
    text = SpanStr(PROMPT, [Span(0, 9), Span(3, 5, 0.5, "x")])
    row = json.loads(json.dumps({"prompt": text.to_dict(), "answer": "a"}))
    assert spans(row).spans == text.spans
    both = {**row, "emphasize": ["Tarn"]}
    assert spans(both).emphasized() == ("Be brief.", "br", "Tarn")


def test_a_template() -> None:
    source = "<% emphasize %>{{ rule }}<% endemphasize %> {{ question }}"
    row = {"template": source, "variables": {"rule": "Be brief.", "question": "Who?"}}
    found = spans({**row, "answer": "a"})
    assert (found, found.emphasized()) == ("Be brief. Who?", ("Be brief.",))
    assert spans({"template": "{{ 'a' | emphasize }}", "answer": "a"}).emphasized() == ("a",)


def test_a_shipped_template() -> None:
    documents = [{"text": "Ada leads.", "trusted": True}, {"text": "Bo leads."}]
    variables = {"documents": documents, "question": "Who leads?"}
    found = spans({"template": "rag/qa.jinja", "variables": variables, "answer": "Ada"})
    assert found.emphasized() == ("Ada leads.",)
    assert "Who leads?" in found


def test_a_variable_cannot_emphasize_itself() -> None:
    row = {"template": "{{ x }}", "variables": {"x": "<% emphasize %>a<% endemphasize %>"}}
    with pytest.raises(TaskError, match="emphasizes nothing"):
        only({**row, "answer": "a"})


def test_a_template_of_a_file_cannot_reach_python() -> None:
    source = "{{ ''.__class__.__mro__ | emphasize }}"
    with pytest.raises(TaskError, match="template of row 1 cannot be rendered: SecurityError"):
        only({"template": source, "answer": "a"})


METRICS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"answer": "Ada"}, ["Ada", "It is ADA.", "“Ada”"], ["Adam", "Bo", ""]),
    ({"metric": "contains", "answers": ["Ada", "Bo"]}, ["Bo!"], ["Boa"]),
    ({"metric": "exact", "answer": "Ada Lowe"}, [" ada lowe\n"], ["Ada Lowe."]),
    ({"metric": "exact", "answers": ["Ada", "Bo"]}, ["bo"], ["Ada Bo"]),
    ({"metric": "regex", "answer": r"^\d{4}$"}, ["1911"], ["in 1911", "19111"]),
    ({"metric": "regex", "answers": ["(?i)ada", "^B"]}, ["I, ADA", " Bo"], ["It is Bo"]),
    (
        {"metric": "json", "field": "person.name", "answer": "Ada"},
        ['Sure: {"person": {"name": "Ada"}}'],
        ['{"name": "Ada"}', '{"person": {"name": "ada"}}', "Ada"],
    ),
    ({"metric": "json", "field": "age", "answer": 42}, ['{"age": 42}'], ['{"age": "42"}']),
    ({"metric": "json", "field": "ok", "answers": [True, None]}, ['{"ok": null}'], ['{"ok": 1}']),
    ({"metric": "json", "field": "who.0", "answer": "Ada"}, ['{"who": ["Ada"]}'], ['{"who": []}']),
    (
        {"metric": "choice", "answer": "Ada", "options": ["Bo", "Ada", "ada"]},
        ["Ada"],
        ["Bo", "ada"],
    ),
    ({"metric": "choice", "answers": ["a", "b"], "options": ["a", "b", "c"]}, ["b"], ["c"]),
]


@pytest.mark.parametrize(("more", "right", "wrong"), METRICS)
def test_every_metric(more: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    row = {**BARE, **more}
    assert [is_right(row, answer) for answer in right] == [True] * len(right)
    assert [is_right(row, answer) for answer in wrong] == [False] * len(wrong)


@pytest.mark.parametrize(("more", "right", "wrong"), METRICS)
def test_what_a_worked_example_shows_is_right(
    more: dict[str, Any], right: list[str], wrong: list[str]
) -> None:
    row = {**BARE, **more}
    wanted = only(row).wanted
    assert is_right(row, wanted) or (wanted, more["metric"]) == ("", "regex")
    assert only({**row, "example": right[0]}).wanted == right[0]
    if wrong[0].strip():
        with pytest.raises(TaskError, match=r"The 'example' of row 1, .*, is not right by the row"):
            only({**row, "example": wrong[0]})


def test_what_json_examples_show() -> None:
    row = {**BARE, "metric": "json", "field": "people.0.name", "answer": "Äda"}
    assert only(row).wanted == '{"people": [{"name": "Äda"}]}'


def test_options_are_those_of_a_choice() -> None:
    row = {**BARE, "metric": "choice", "answer": "b", "options": ["a", "b"]}
    assert (only(row).options, only(row).wanted) == (("a", "b"), "b")


def wrong(message: str, **changed: Any) -> Any:
    row = {**ROW, **changed}
    row = {name: value for name, value in row.items() if value is not Ellipsis}
    return pytest.param(row, message, id=message[:50])


CHOICE = {"metric": "choice", "answer": "a", "options": ["a", "b"]}
JSON = {"metric": "json", "field": "name"}
NO_PROMPT = {"prompt": ..., "emphasize": ...}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        wrong("Row 2 has a field 'promt'; fields are answer, answers, em", promt="x"),
        wrong("one of 'prompt', 'messages' and 'template', and has none", **NO_PROMPT),
        wrong("and has 'prompt' and 'template'", template="x"),
        wrong("Row 2 emphasizes nothing, so there is nothing to steer.", emphasize=...),
        wrong("Row 2 emphasizes 'Bo', which its prompt has 0 times", emphasize=["Bo"]),
        wrong("Row 2 emphasizes 'e', which its prompt has 3 times", emphasize=["e"]),
        wrong(
            "Row 2 emphasizes 'aa', which its prompt has 2 times", prompt="aaa", emphasize=["aa"]
        ),
        wrong("Row 2 emphasizes '', which no model can read", emphasize=[""]),
        wrong("The field 'emphasize' of row 2 is 'Be'; it must be a list of texts", emphasize="Be"),
        wrong(r"The field 'emphasize' of row 2 is \[\]; it must be", emphasize=[]),
        wrong("A prompt of row 2 is 3; it must be a text, or", prompt=3),
        wrong(r"A prompt of row 2 is null; it must be", prompt=None),
        wrong('A prompt of row 2 is {"text": "a"}; it must be .* \'spans\'', prompt={"text": "a"}),
        wrong("A prompt of row 2 .*beyond the text", prompt={"text": "a", "spans": [[0, 2]]}),
        wrong("A prompt of row 2 .*span", prompt={"text": "a", "spans": [{"start": 0}]}),
        wrong("A prompt of row 2 .*span", prompt={"text": "a", "spans": [3]}),
        wrong("A prompt of row 2 .*alpha is 2", prompt={"text": "a", "spans": [[0, 1, 2]]}),
        wrong("Row 2 has 'emphasize', which goes with 'prompt' alone", prompt=..., messages=[]),
        wrong("Row 2 emphasizes nothing", **NO_PROMPT, messages=[]),
        wrong("messages of row 2 must each have 'role' and 'content'", **NO_PROMPT, messages=[{}]),
        wrong("messages of row 2 must each have", **NO_PROMPT, messages="Who?"),
        wrong("Row 2 has 'variables', which goes with 'template' alone", variables={}),
        wrong("template of row 2 cannot be rendered: Temp", **NO_PROMPT, template="{% if %}"),
        wrong("template of row 2 cannot be rendered: Undef", **NO_PROMPT, template="{{ x }}"),
        wrong("template of row 2 cannot be rendered: Zero", **NO_PROMPT, template="{{ 1 / 0 }}"),
        wrong("'variables' of row 2 are 3; they", **NO_PROMPT, template="a", variables=3),
        wrong("The field 'template' of row 2 is 3; it must be a text", **NO_PROMPT, template=3),
        wrong("Row 2 must have one of 'answer' and 'answers', and has none", answer=...),
        wrong("Row 2 must have one of 'answer' and 'answers', and has both", answers=["a"]),
        wrong("The field 'answer' of row 2 is 3; it must be a text", answer=3),
        wrong("The field 'answer' of row 2 is ' '; it must be a text", answer=" "),
        wrong(r"The field 'answers' of row 2 is \[\]; it must be", answer=..., answers=[]),
        wrong("Row 2 has an answer without any text", answer=..., answers=["a", " "]),
        wrong("The metric of row 2 is 'best'; the metrics are exact, con", metric="best"),
        wrong(r"The metric of row 2 is \[\]; the metrics are", metric=[]),
        wrong(r"'\(' is no regular expression", metric="regex", answer="("),
        wrong("Row 2 has no field 'field'", metric="json"),
        wrong("Row 2 has 'field', which goes with the metric 'json' alone; its", field="a"),
        wrong("field 'answers' of row 2 must be a list of values", **JSON, answer=..., answers="a"),
        wrong("Row 2 has no field 'options'", metric="choice"),
        wrong("Row 2 has 'options', which goes with the metric 'choice' alone", options=["a"]),
        wrong("The answer 'c' of row 2 is not among its options", **{**CHOICE, "answer": "c"}),
        wrong(r"Sample 2 \('2'\) .*two or more different options", **{**CHOICE, "options": ["a"]}),
        wrong("'example' of row 2 is 3; it must be a text", example=3),
        wrong("Sample 2 .* has the id of an earlier one", id=1),
    ],
)
def test_a_wrong_row_is_told_with_its_number(row: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        qa_task([ROW, row])


def test_an_unknown_field_of_a_message_is_told() -> None:
    message = {"role": "system", "content": "Answer in JSON.", "emphasise": ["JSON"]}
    with pytest.raises(TaskError, match="A message of row 1 has a field 'emphasise'; fields are"):
        qa_task([{"messages": [message], "answer": "x"}])


def test_one_wrong_answer_among_options_is_told() -> None:
    row = {**BARE, "metric": "choice", "answers": ["a", "c"], "options": ["a", "b"]}
    with pytest.raises(TaskError, match="The answer 'c' of row 1 is not among its options"):
        only(row)


def test_a_regular_expression_that_is_none_names_its_row() -> None:
    with pytest.raises(TaskError) as told:
        qa_task([ROW, {**BARE, "metric": "regex", "answer": "("}])
    assert "row 2" in " ".join([str(told.value), *getattr(told.value, "__notes__", ())])


def test_the_example_in_the_docs_is_a_task() -> None:
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "evaluation.md").read_text("utf-8")
    lines = page.split("```json\n")[1].split("```")[0].splitlines()
    first, second = qa_task([json.loads(line) for line in lines]).samples
    assert first.prompts[0].emphasized() == ("Be brief.",)
    assert second.wanted == '{"leader": "Ada Lowe"}'


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in ({**ROW, "id": "é"}, ROW)), "utf-8")
    assert [sample.id for sample in qa_task(read_rows(file)).samples] == ["é", "2"]
    with pytest.raises(TaskError, match="has no samples"):
        qa_task([])
