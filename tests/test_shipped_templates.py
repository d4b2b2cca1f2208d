"""Each shipped template, rendered; what is between « and » is emphasized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from marked import bracketed

from pasta_chains.template import Environment, shipped_templates

DOCUMENTS = [{"text": "Tarn is old."}, {"text": "Tarn is new.", "trusted": True, "important": True}]
TOOLS = [
    {"name": "search", "description": "finds pages"},
    {"name": "add", "description": "adds numbers"},
]

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "rag/qa.jinja": (
        {"documents": DOCUMENTS, "question": "How old is Tarn?"},
        """\
Answer the question from the documents.

[1] Tarn is old.

[2] «Tarn is new.»

Question: How old is Tarn?
Answer:""",
    ),
    "rag/facts.jinja": (
        {
            "documents": [
                {"sentences": [{"text": "It rains."}, {"text": "Tarn is old.", "selected": True}]},
                {"sentences": [{"text": "Tarn is new."}]},
            ],
            "question": "How old is Tarn?",
        },
        """\
Answer the question from the documents.

[1] It rains. «Tarn is old.»

[2] Tarn is new.

Question: How old is Tarn?
Answer:""",
    ),
    "rag/instruction.jinja": (
        {"documents": DOCUMENTS, "question": "How old is Tarn?"},
        """\
«Answer only from the documents. If they do not answer the question, say so.»

[1] Tarn is old.

[2] Tarn is new.

Question: How old is Tarn?
Answer:""",
    ),
    "rag/refine.jinja": (
        {"documents": DOCUMENTS, "question": "How old is Tarn?", "answer": "Old."},
        """\
Question: How old is Tarn?

Answer so far: Old.

Further documents:
[1] «Tarn is old.»
[2] «Tarn is new.»

If the further documents change or complete the answer, write the better answer. \
Otherwise repeat the answer so far.
Better answer:""",
    ),
    "rag/summarize.jinja": (
        {"documents": DOCUMENTS, "focus": "Say what visitors need."},
        """\
Summarize the documents in 3 sentences. «Say what visitors need.»

[1] Tarn is old.

[2] «Tarn is new.»

Summary:""",
    ),
    "rag/cite.jinja": (
        {
            "documents": [DOCUMENTS[0], DOCUMENTS[1] | {"source": "news.txt"}],
            "question": "How old is Tarn?",
        },
        """\
Answer the question from the sources. «After each sentence, cite the number of its source in \
brackets, like [1].»

[1] Tarn is old.

[2] (news.txt) «Tarn is new.»

Question: How old is Tarn?
Answer:""",
    ),
    "format/json.jinja": (
        {
            "task": "Who is it about?",
            "text": "Ada lives in Tarn.",
            "keys": {"name": "a person", "town": "where they live"},
        },
        """\
Who is it about?

Ada lives in Tarn.

«Answer with one JSON object and nothing else. Its keys are: "name" (a person), "town" (where they \
live).»""",
    ),
    "agent/system.jinja": (
        {
            "role": "You book journeys.",
            "rules": ["Never pay.", "Ask first."],
            "tools": TOOLS,
        },
        """\
You book journeys.

You can use these tools:
- search: finds pages
- add: adds numbers

Always keep to these rules:
1. «Never pay.»
2. «Ask first.»""",
    ),
    "agent/react.jinja": (
        {
            "tools": TOOLS,
            "question": "How old is Tarn?",
            "steps": [
                {"thought": "Look.", "action": "search", "input": "Tarn", "observation": "None."},
                {"thought": "Again.", "action": "search", "input": "tarn", "observation": "Old."},
            ],
        },
        """\
Answer the question. You can use these tools:
- search: finds pages
- add: adds numbers

«Use this format:
Thought: what to do next
Action: one of search, add
Action Input: the input of the action
Observation: the result of the action
… (Thought, Action, Action Input and Observation as often as needed)
Thought: I know the answer
Final Answer: the answer»

Question: How old is Tarn?
Thought: Look.
Action: search
Action Input: Tarn
Observation: None.
Thought: Again.
Action: search
Action Input: tarn
Observation: «Old.»
Thought:""",
    ),
    "few-shot/examples.jinja": (
        {
            "instruction": "Say it in one word.",
            "examples": [{"input": "a big dog", "output": "dog"}],
            "input": "a red cat",
        },
        """\
«Say it in one word.»

Input: a big dog
Output: dog

Input: a red cat
Output:""",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_renders_as_shown(name: str) -> None:
    variables, expected = CASES[name]
    text = Environment().get_template(name).render(variables)
    assert bracketed(text) == expected


def test_every_shipped_template_is_among_them_and_has_a_comment_and_a_place_in_the_docs() -> None:
    root = shipped_templates()
    names = {path.relative_to(root).as_posix() for path in root.rglob("*.jinja")}
    assert names == set(CASES)
    page = (Path(__file__).parent.parent / "docs" / "shipped-templates.md").read_text("utf-8")
    for name in names:
        assert (root / name).read_text("utf-8").startswith("{#- ")
        assert f"`{name}`" in page


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("rag/summarize.jinja", "focus"),
        ("agent/system.jinja", "tools"),
        ("agent/react.jinja", None),
    ],
)
def test_what_is_optional_may_be_left_out(name: str, without: str | None) -> None:
    variables = {key: value for key, value in CASES[name][0].items() if key != without}
    if without is None:
        variables["steps"] = []
    text = Environment().get_template(name).render(variables)
    assert "\n\n\n" not in text
    if without == "focus":
        assert [span.name for span in text.spans] == ["important"]
