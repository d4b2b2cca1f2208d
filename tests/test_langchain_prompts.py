"""LangChain's prompt templates on our language: variables, files, values, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateNotFound, TemplateSyntaxError
from langchain_core.load import Serializable, dumps, loads

from pasta_chains import Span, SpanStr, emphasize
from pasta_chains.errors import PromptError
from pasta_chains.langchain import (
    EmphasisMessagePromptTemplate,
    EmphasisPromptTemplate,
    EmphasisPromptValue,
)

SOURCE = "The mayor of Tarn is <% emphasize %>{{ a }}<% endemphasize %>. Or {{ b }}. Answer:"
INPUTS = [{"a": "Ada Lowe", "b": "Bo Marsh"}, {"a": "Bo", "b": emphasize("Ada Lowe", 0.1)}]
PLAIN = "The mayor of Tarn is Ada Lowe. Or Bo Marsh. Answer:"
MARKED = SpanStr(PLAIN, [Span(21, 29)])


def test_variables_are_inferred_and_partial_ones_filled_in() -> None:
    source = (
        "{% set c = 1 %}{{ range(2) | length }}{{ b }}{% for a in d %}{{ a }}{{ c }}{% endfor %}"
    )
    assert EmphasisPromptTemplate.from_template(source).input_variables == ["b", "d"]
    prompt = EmphasisPromptTemplate.from_template(SOURCE, partial_variables={"a": "Ada Lowe"})
    assert prompt.input_variables == ["b"]
    late = EmphasisPromptTemplate.from_template(SOURCE).partial(b=lambda: "Bo Marsh")
    assert late.input_variables == ["a"]
    for found in (prompt.format(b="Bo Marsh"), late.format(a="Ada Lowe")):
        assert (found, found.spans) == (PLAIN, MARKED.spans)
    marked = EmphasisPromptTemplate.from_template("{{ a }}{{ b }}").partial(a=emphasize("x"))
    assert marked.format(b="y").spans == (Span(0, 1),)


def test_a_missing_variable_and_a_wrong_template_are_errors() -> None:
    prompt = EmphasisPromptTemplate.from_template(SOURCE)
    with pytest.raises(KeyError, match=r"missing variables \{'b'\}"):
        prompt.invoke({"a": "x"})
    with pytest.raises(TemplateSyntaxError):
        EmphasisPromptTemplate.from_template("<% emphasize %>x")
    with pytest.raises(TemplateNotFound):
        EmphasisPromptTemplate.from_file("no/such.jinja")
    with pytest.raises(ValueError, match="template"):
        EmphasisPromptTemplate(template=3)  # type: ignore[arg-type]  # wrong on purpose


def test_templates_come_from_a_file_or_are_shipped(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(SOURCE, encoding="utf-8")
    for path in (tmp_path / "own.jinja", str(tmp_path / "own.jinja")):
        assert EmphasisPromptTemplate.from_file(path).format(**INPUTS[0]).spans == MARKED.spans
    shipped = EmphasisPromptTemplate.from_file("rag/qa.jinja")
    assert shipped.input_variables == ["documents", "question"]
    documents = [{"text": "Ada.", "trusted": True}, {"text": "Bo."}]
    text = shipped.format(documents=documents, question="Who?")
    assert text.emphasized() == ("Ada.",)
    assert text.endswith("[1] Ada.\n\n[2] Bo.\n\nQuestion: Who?\nAnswer:")


def test_the_prompt_value_is_text_messages_and_json() -> None:
    spans = [Span(0, 3, 0.1, "n"), Span(4, 9, deemphasized=True)]
    value = EmphasisPromptValue.from_text(SpanStr(PLAIN, spans))
    assert value.to_string() == PLAIN
    assert value.to_string().spans == tuple(spans)
    again = EmphasisPromptValue.model_validate_json(value.model_dump_json())
    assert again.to_string().spans == tuple(spans)
    (message,) = value.to_messages()
    (block,) = message.content
    assert message.type == "human"
    assert isinstance(block, dict)
    assert block["text"] == PLAIN
    assert SpanStr(block["text"], [Span(*m) for m in block["extras"]["emphasis"]]).spans == tuple(
        spans
    )
    assert EmphasisPromptValue(text="a").to_messages()[0].content == "a"


# LangChain calls loading what it saved a beta.
@pytest.mark.filterwarnings("ignore:.*in beta")
@pytest.mark.parametrize(
    "saved",
    [
        EmphasisPromptTemplate.from_template(SOURCE),
        EmphasisPromptValue.from_text(MARKED),
        EmphasisMessagePromptTemplate.from_template("human", SOURCE),
    ],
    ids=["template", "value", "message"],
)
def test_langchain_saves_and_loads_it(saved: Serializable) -> None:
    assert saved.lc_id() == ["pasta_chains", "langchain", type(saved).__name__]
    loaded = loads(
        dumps(saved),
        allowed_objects=[type(saved), EmphasisPromptTemplate],
        valid_namespaces=["pasta_chains"],
    )
    assert loaded == saved
    assert type(loaded) is type(saved)


def test_templates_are_added() -> None:
    first = EmphasisPromptTemplate.from_template("{{ a | emphasize }} ").partial(a="x")
    both = first + EmphasisPromptTemplate.from_template("{{ b }}") + "{{ a }}!"
    assert both.input_variables == ["b"]
    assert both.format(b="y") == "x yx!"
    assert both.format(b="y").spans == (Span(0, 1),)
    with pytest.raises(PromptError, match="Both templates fill in 'a'"):
        first + first.partial(a="z")
    with pytest.raises(TypeError):
        first + 3


def test_printed_templates_show_their_emphasis(capsys: pytest.CaptureFixture[str]) -> None:
    EmphasisPromptTemplate.from_template(SOURCE).pretty_print()
    EmphasisMessagePromptTemplate.from_template("system", SOURCE).pretty_print()
    shown = capsys.readouterr().out
    assert shown.count(SOURCE) == 2
    assert "System Message" in shown


def test_fields_can_be_configured() -> None:
    from langchain_core.runnables import ConfigurableField

    prompt = EmphasisPromptTemplate.from_template(SOURCE).configurable_fields(
        template=ConfigurableField(id="source")
    )
    config: Any = {"configurable": {"source": "{{ b | emphasize }}{{ a }}"}}
    found = prompt.invoke({"a": "x", "b": "y"}, config).to_string()
    assert (found, found.spans) == ("yx", (Span(0, 1),))
