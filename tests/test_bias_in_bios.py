"""Biographies of Bias in Bios, from rows of both published formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pasta_chains.errors import TaskError
from pasta_chains.evaluation.bias_in_bios import biographies, read_biographies
from pasta_chains.evaluation.paper_prompts import occupation_prompt
from pasta_chains.evaluation.records import Biography

LONG = "They have lived in the old town of Tarn for years."


def row(raw: str, *name: str | None, title: str = "nurse") -> dict[str, Any]:
    return {"raw": raw, "name": name or ("Mary", "", "Smith"), "title": title, "more": 1}


def only(*rows: dict[str, Any], **options: Any) -> Biography:
    (found,) = biographies(rows, **options)
    return found


def said(found: Biography) -> str:
    return found.text[slice(*found.evidence)]


def test_a_biography_is_made_of_an_original_row() -> None:
    raw = f"Dr. Mary Ann Smith is a nurse in Tarn. Smiles. {LONG}"
    found = only(row(raw, "Mary", "Ann", "Smith", title="software_engineer"))
    assert found.person == "Mary"
    assert found.text == f"Mary is a nurse in Tarn. {LONG}", "of sentences that have three words"
    assert found.occupation == "software engineer"
    assert said(found) == "is a nurse in Tarn"
    prompt = occupation_prompt(found)
    assert prompt.text == f"{found.text}\n\nMary has the occupation of"
    assert prompt.emphasized() == ("is a nurse in Tarn",)


@pytest.mark.parametrize(
    "called",
    [
        "Mary Smith",
        "Mary J. Smith",
        "Smith",
        "Dr. Mary Smith",
        "DR. Smith",
        "dr Mary J. Smith",
        "Professor Smith",
        "prof. Smith",
        "Rev. Mary Smith",
        "Pastor Smith",
        "Mrs Smith",
        "Mary",
    ],
)
def test_every_name_becomes_the_first_name(called: str) -> None:
    raw = f"For a long time {called} has been a nurse. {LONG}"
    found = only(row(raw, "Mary", "J.", "Smith"))
    assert found.text == f"For a long time Mary has been a nurse. {LONG}"
    assert said(found) == "has been a nurse"


def test_a_middle_name_may_be_missing() -> None:
    for middle in ("", None):
        assert only(row(f"Mary Smith is a nurse. {LONG}", "Mary", middle, "Smith")).person == "Mary"


def test_a_name_is_replaced_inside_words_too_as_the_published_code_does() -> None:
    raw = f"The Smiths know this nurse well. {LONG}"
    assert only(row(raw)).text == f"The Marys know this nurse well. {LONG}"


def test_a_text_without_the_name_begins_with_it() -> None:
    found = only(row(f"She is a nurse in Tarn. {LONG}"))
    assert found.text == f"About Mary: She is a nurse in Tarn. {LONG}"
    assert said(found) == "She is a nurse in Tarn"


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (f"Mary is a nurse. Mary lives in Tarn. {LONG}", ("Mary", "", "Smith")),  # twice
        (f"Mary is a nurse, and so is Maryann. {LONG}", ("Mary", "", "Smith")),  # twice, in a word
        ("Mary is a nurse in the old town.", ("Mary", "", "Smith")),  # eight words
        ("", ("Mary", "", "Smith")),
        ("Oh! No. Why not?", ("Mary", "", "Smith")),
        (f"Jo is a nurse. {LONG}", ("Non-Residential", "", "Smith")),
        (f"Mary is a nurse. {LONG}", ("Mary", "", "")),
        (f"Smith is a nurse. {LONG}", ("", "", "Smith")),
        (f"He is a nurse. {LONG}", ("Abo", "", "Smith")),  # "About Abo: " has it twice
    ],
)
def test_a_row_that_breaks_a_rule_is_left_out(raw: str, name: tuple[str, ...]) -> None:
    assert biographies([row(raw, *name)]) == []


def test_ten_words_are_enough() -> None:
    nine = "Mary is a nurse in the old town now"
    assert biographies([row(f"{nine}.")]) == []
    assert only(row(f"{nine} too.")).text == f"{nine} too."


def test_bullets_around_a_text_go() -> None:
    assert only(row(f"* Mary Smith is a nurse. {LONG} •")).text == f"Mary is a nurse. {LONG}"


def test_where_the_first_sentence_lacks_the_name_all_of_it_counts() -> None:
    assert said(only(row(f"{LONG} Mary is a nurse."))) == LONG
    assert said(only(row(f"Please meet Mary. {LONG}"))) == "Please meet Mary."


def test_the_second_sentence_can_be_asked_for() -> None:
    second = "In Tarn Mary Smith has long been a nurse for old people: all."
    found = only(row(f"Well. She is a person. {second} {LONG}"), sentences="second")
    assert found.text == "In Tarn Mary has long been a nurse for old people: all."
    assert said(found) == "has long been a nurse for old people: all"
    assert only(row(second), sentences="second").text == found.text, "the first if there is one"
    two = f"About the nurse called Mary: she works. {LONG}"
    assert said(only(row(two), sentences="second")) == LONG.rstrip("."), "About Mary: ..."
    with pytest.raises(TaskError, match=r"sentences is 'third'; it must be \"all\" or \"second\""):
        biographies([], sentences="third")


def test_only_so_many_rows_are_looked_at() -> None:
    rows = [row("Left out."), *[row(f"Mary is a nurse. {LONG}")] * 3]
    assert [len(biographies(rows, limit=limit)) for limit in (0, 1, 2, None)] == [0, 0, 1, 3]
    assert len(biographies(iter(rows))) == 3


REFORMATTED = {
    "id": "Mary_Smith",
    "entity": "Mary",
    "context": f"Mary is a nurse: in Tarn. {LONG}",
    "attribute": "is a nurse: in Tarn",
    "prompt": "Mary has the occupation of",
    "target_mediated": "nurse",
    "target_unmediated": None,
    "source": {},
}


def test_a_reformatted_row_is_taken_as_it_is() -> None:
    found = only(REFORMATTED)
    assert (found.person, found.text) == ("Mary", REFORMATTED["context"])
    assert (found.occupation, said(found)) == ("nurse", "is a nurse: in Tarn")


def test_what_a_reformatted_row_emphasizes_is_found_after_the_name_or_before() -> None:
    twice = {**REFORMATTED, "context": "A nurse, Mary, a nurse, is here", "attribute": "nurse"}
    assert only(twice).evidence == (17, 22)
    before = {**REFORMATTED, "context": f"{LONG} Mary is a nurse.", "attribute": LONG}
    assert said(only(before)) == LONG
    empty = {**REFORMATTED, "context": f"This is Mary. {LONG}", "attribute": ""}
    assert said(only(empty)) == LONG.rstrip(".")


def without(given: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != field}


GOOD = row(f"Mary is a nurse. {LONG}")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (without(GOOD, "name"), "Row 2 has no field 'name'"),
        (without(GOOD, "title"), "Row 2 has no field 'title'"),
        (without(GOOD, "raw"), "Row 2 is no biography: it needs the fields 'raw', 'name'"),
        ({**GOOD, "raw": 3}, "The field 'raw' of row 2 must be a text"),
        ({**GOOD, "name": "Mary Smith"}, "The field 'name' of row 2 must be a list: first"),
        ({**GOOD, "name": []}, "The field 'name' of row 2 must be a list: first"),
        ({**GOOD, "title": 7}, "The field 'title' of row 2 is 7; it must be a text"),
        (without(REFORMATTED, "entity"), "Row 2 has no field 'entity'"),
        (without(REFORMATTED, "attribute"), "Row 2 has no field 'attribute'"),
        (without(REFORMATTED, "target_mediated"), "Row 2 has no field 'target_mediated'"),
        ({**REFORMATTED, "entity": "Tom"}, "'context' has the 'entity' 'Tom' 0 times"),
        ({**REFORMATTED, "entity": "i"}, "times; it must have it once"),
        ({**REFORMATTED, "attribute": "else"}, "the 'attribute' is no part of the 'context'"),
        ("text", "Row 2 is no biography"),
    ],
)
def test_a_wrong_row_is_told(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        biographies([GOOD, bad])


@given(
    st.text(st.sampled_from("Mary Smith.:!? ab\n*“é🙂")) | st.text(),
    st.sampled_from(["Mary", "a", "Abo", "é.", " "]),
    st.sampled_from(["Smith", "b", "M", "."]),
    st.sampled_from(["all", "second"]),
)
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_good_biography_or_none(
    raw: str, first: str, last: str, sentences: Any
) -> None:
    for long in (raw, f"{raw} a b c d e f g h i j k l m n o p"):
        for found in biographies([row(long, first, None, last)], sentences=sentences):
            start, end = found.evidence
            assert 0 <= start < end <= len(found.text)
            assert found.text[start:end].strip()
            assert found.text.count(found.person) == 1
            assert len(found.text.split()) >= 10


def test_files_of_every_published_kind_are_read(tmp_path: Path) -> None:
    rows = [GOOD, REFORMATTED]
    wanted = biographies(rows)
    texts = [json.dumps(one) for one in rows]
    for number, text in enumerate(
        ["".join(texts), "\n".join(texts) + "\n\n", f" [{texts[0]},\n{texts[1]}]\n"]
    ):
        file = tmp_path / f"{number}.json"
        file.write_text(text, encoding="utf-8")
        assert read_biographies(file) == wanted
    (tmp_path / "none.jsonl").write_text(" \n", encoding="utf-8")
    assert read_biographies(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("BIOS.pkl", b"", "is a pickle, which can run any program when it is read"),
        ("a.json", b'{"raw": 1} {', "Row 2 of .*a.json is no JSON"),
        ("a.json", b"[" * 9000, "Row 1 of .*a.json is no JSON"),
        ("a.json", b"[3]", "Row 1 of .*a.json is 3; it must be an object"),
        ("a.json", b"{}\n[]", r"Row 2 of .*a.json is \[\]; it must be an object"),
        ("a.json", b"\xff", "a.json is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=message):
        read_biographies(tmp_path / name)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for file in (tmp_path / "none.json", tmp_path):
        with pytest.raises(TaskError, match=r"There is no file .* that can be read: "):
            read_biographies(file)
