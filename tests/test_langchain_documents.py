"""Retrieved documents become emphasized context."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import RunnablePassthrough

from pasta_chains.errors import EmphasisError, NothingEmphasizedWarning, PromptError
from pasta_chains.langchain import EmphasisPromptTemplate, emphasize_documents
from pasta_chains.spans import Span

TRUE = Document(
    "The mill is old. It opened in 1903. Tarn has a mill.",
    metadata={"trusted": True, "score": 0.9},
)
FALSE = Document("The mill opened in 1950.", metadata={"score": 0.1})
GIVEN = {"documents": [FALSE, TRUE], "question": "When was the mill opened?"}


def marked(*args: Any, **arguments: Any) -> list[tuple[str, ...]]:
    found = emphasize_documents(*args, **arguments).invoke(GIVEN)
    assert [one["text"] for one in found["documents"]] == [FALSE.page_content, TRUE.page_content]
    assert [one["metadata"] for one in found["documents"]] == [FALSE.metadata, TRUE.metadata]
    assert found["question"] == GIVEN["question"]
    return [one["text"].emphasized() for one in found["documents"]]


def test_whole_documents_are_chosen() -> None:
    everything = [(FALSE.page_content,), (TRUE.page_content,)]
    assert marked() == marked("all") == everything
    assert marked("trusted") == [(), everything[1]]
    assert marked(lambda document: document.metadata["score"] < 0.5) == [everything[0], ()]


class Words(Embeddings):
    """A text is the words that it has."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(word in text) for word in ("1903", "1950", "old")] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0, 1.0, 0.0]


def test_sentences_are_chosen_in_them() -> None:
    assert marked("trusted", sentences="bm25", each=2) == [
        (),
        ("The mill is old.", "It opened in 1903."),
    ]
    assert marked(sentences=Words()) == [(FALSE.page_content,), ("It opened in 1903.",)]
    last = lambda question, sentences: [*[0.0] * (len(sentences) - 1), 1.0]  # noqa: E731  (a scorer in one line)
    assert marked(sentences=last)[1] == ("Tarn has a mill.",)


def test_the_best_sentences_of_all_documents_are_chosen() -> None:
    assert marked("trusted", sentences=_about_mills, count=2, each=None) == [
        (),
        ("The mill is old.", "Tarn has a mill."),
    ]
    assert marked(sentences=_about_mills, count=1) == [(FALSE.page_content,), ()]
    with pytest.raises(PromptError, match="sentences="):
        emphasize_documents(count=1)


def _about_mills(question: str, sentences: Any) -> list[float]:
    return [1.0 + ("mill" in sentence) for sentence in sentences]


def test_the_chain_renders_it_with_its_names() -> None:
    documents = emphasize_documents("trusted", sentences="bm25", alpha=0.1, name="dates")
    chain = RunnablePassthrough() | documents | EmphasisPromptTemplate.from_file("rag/qa.jinja")
    text = chain.invoke(GIVEN).to_string()
    (sentence,) = text.emphasized()
    start = text.index(sentence)
    assert sentence in TRUE.page_content
    assert text.spans == (Span(start, start + len(sentence), 0.1, "dates"),)
    assert "\n[2] The mill is old." in text


def test_nothing_emphasized_is_never_silent() -> None:
    for arguments, given in (
        ({"which": lambda document: False}, GIVEN),
        ({"sentences": "bm25"}, {**GIVEN, "question": "Who sings?"}),
        ({}, {**GIVEN, "documents": [Document(" ")]}),
    ):
        with pytest.warns(NothingEmphasizedWarning, match="None of"):
            emphasize_documents(**arguments).invoke(given)
    assert emphasize_documents().invoke({**GIVEN, "documents": []})["documents"] == []


def test_other_kinds_of_things_are_refused() -> None:
    with pytest.raises(PromptError, match="which is 'some'"):
        emphasize_documents("some")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(PromptError, match="sentences is 3"):
        emphasize_documents(sentences=3)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(EmphasisError, match="count is 0"):
        emphasize_documents(sentences="bm25", count=0).invoke(GIVEN)
    wrong: list[tuple[Any, str]] = [
        ([TRUE], "a mapping with 'documents' and 'question', not list"),
        ({"documents": [TRUE]}, r"not \['documents'\]"),
        ({**GIVEN, "question": 3}, "The question is 3"),
        ({**GIVEN, "documents": ["text"]}, "it is no Document"),
        (
            {**GIVEN, "documents": [Document("x", metadata={"trusted": "yes"})]},
            "trusted='yes' in its metadata",
        ),
    ]
    for given, message in wrong:
        with pytest.raises(PromptError, match=message):
            emphasize_documents("trusted").invoke(given)
