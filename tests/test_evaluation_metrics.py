"""The measures of the paper's tasks, and those for tasks of one's own."""

from __future__ import annotations

import json
import math
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pasta_chains.errors import TaskError
from pasta_chains.evaluation import metrics

PUBLISHED = json.loads(
    Path(__file__).with_name("published_metrics.json").read_text(encoding="utf-8")
)["answers"]
EMPTY = {"", "   \n\t "}
TOGETHER = {"I saw it.She left."}  # one word to the published code's tokenizer
TEXTS = st.text(st.sampled_from("{}[]\":,.' aehisrm1\\\n!?-_*`“\u2019é🙂")) | st.text()


@pytest.mark.parametrize("answer", PUBLISHED, ids=range(len(PUBLISHED)))
def test_the_published_code_says_the_same(answer: dict[str, object]) -> None:
    output, target = str(answer["output"]), str(answer["target"])
    assert metrics.is_json(output) == answer["json"]
    assert metrics.json_names(output, target) == answer["json_target"]
    assert metrics.fluency(output) == pytest.approx(answer["fluency"], abs=1e-5)
    pronouns = metrics.pronouns_changed(output), metrics.all_pronouns_changed(output)
    assert (answer["pronouns"], answer["all_pronouns"]) == (
        (True, True) if output in EMPTY | TOGETHER else pronouns
    )


def test_the_published_answers_are_varied() -> None:
    assert len(PUBLISHED) >= 60
    for measure in ("json", "json_target", "pronouns", "all_pronouns"):
        assert {answer[measure] for answer in PUBLISHED} == {True, False}


@pytest.mark.parametrize("output", sorted(EMPTY | TOGETHER))
def test_where_pronouns_differ_from_the_published_code_the_answer_fails(output: str) -> None:
    assert not metrics.pronouns_changed(output)
    assert not metrics.all_pronouns_changed(output)


@pytest.mark.parametrize(
    ("output", "objects"),
    [
        ("", []),
        ("no braces, [1], 2", []),
        ("{}", [{}]),
        ('a {"a": 1} b {"b": 2} c', [{"a": 1}, {"b": 2}]),
        ('{"a": {"b": {}}}', [{"a": {"b": {}}}, {"b": {}}, {}]),
        ('[{"a": [{"b": 1}]}]', [{"a": [{"b": 1}]}, {"b": 1}]),
        ('{broken {"a": 1}', [{"a": 1}]),
        ('{"a": 1', []),
        ('{"a": "}"}', [{"a": "}"}]),
        ('{"a": 1}}', [{"a": 1}]),
        ("{'a': 1}", []),
        ('{"a": 1,}', []),
        ('{"a": ' + "9" * 5000 + "}", []),  # more digits than Python reads
    ],
)
def test_objects_are_found_wherever_they_begin(output: str, objects: list[object]) -> None:
    assert list(metrics.json_objects(output)) == objects
    assert metrics.is_json(output) == bool(objects)


@given(st.text(st.sampled_from('{}[]":, a1\\'), max_size=24))
@settings(max_examples=300, deadline=None)
def test_json_is_found_where_some_part_in_braces_is_json(output: str) -> None:
    found = False
    for start in range(len(output)):
        for end in range(start + 1, len(output) + 1):
            if output[start] == "{" and output[end - 1] == "}":
                try:
                    json.loads(output[start:end])
                    found = True
                except ValueError:
                    pass
    assert metrics.is_json(output) == found


def test_hostile_json_neither_raises_nor_takes_long() -> None:
    start = perf_counter()
    for output in ("{" * 5_000, '{"a":' * 3_000, '{"a":[' * 3_000, "}" * 5_000, "{}" * 5_000):
        assert not metrics.json_names(output, "nurse")
    assert perf_counter() - start < 20


@pytest.mark.parametrize(
    ("output", "named"),
    [
        ('{"occupation": "Nurse"}', True),
        ('{"occupation": "a nursery worker"}', True),
        ('{"name": "nurse"}', True),
        ('{"nurse": "Mary"}', False),
        ('{"occupation": ["nurse"]}', False),
        ('{"people": [{"occupation": "nurse"}]}', True),
        ('{"person": {"occupation": "NURSE"}}', True),
        ('{"occupation": "teacher"} nurse', False),
        ("nurse", False),
        ("{}", False),
    ],
)
def test_a_value_has_to_name_the_target(output: str, named: bool) -> None:
    assert metrics.json_names(output, "nurse") is named
    assert metrics.json_names(output, "NURSE") is named


@pytest.mark.parametrize("word", sorted(metrics.FORMS))
def test_pronouns_are_found_in_any_case_and_beside_punctuation(word: str) -> None:
    for around in ("{}", '"{}"', "({})", "_{}_", "{}'s", "a/{}"):
        for shown in (around.format(word), around.format(word.upper())):
            answer = f"Then {shown}, say."
            assert not metrics.all_pronouns_changed(answer), answer
            assert metrics.pronouns_changed(answer) is (word not in ("she", "he")), answer
    assert metrics.all_pronouns_changed(f"Then x{word}x say.")


def test_they_are_right() -> None:
    assert metrics.all_pronouns_changed("They work as a nurse; their theme is the hero's shell.")


def test_fluency_is_the_weighted_mean_of_entropies_of_pairs_and_triples() -> None:
    # Pairs: ab ba ab ba, one bit. Triples: aba bab aba, 2/3 and 1/3.
    triples = -(2 / 3) * math.log2(2 / 3) - (1 / 3) * math.log2(1 / 3)
    assert metrics.fluency("a b a b a") == pytest.approx((2 / 3 * 1 + 4 / 3 * triples) / 2)
    assert metrics.fluency("one two three") == pytest.approx(1 / 3)
    assert metrics.fluency(" ".join(map(str, range(12)))) == pytest.approx(3.37, abs=0.005)


@pytest.mark.parametrize("text", ["", "one", "one two", "the " * 50])
def test_a_text_that_says_nothing_or_repeats_itself_has_no_fluency(text: str) -> None:
    assert metrics.fluency(text) == 0
    assert metrics.fluency(text) < metrics.FLUENCY_FLOOR == 3.0


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_any_text_is_measured_without_an_error(text: str) -> None:
    every = metrics.all_pronouns_changed(text)
    assert metrics.pronouns_changed(text) >= every
    assert metrics.is_json(text) >= metrics.json_names(text, "a")
    assert 0 <= metrics.fluency(text) <= math.log2(max(1, len(text)))
    assert metrics.equals(text, f" {text}\n")
    assert metrics.equals(text, text, any_case=True)
    assert metrics.contains(f"so {text} there", text)
    metrics.json_field(text, "a.0.b", "c")


def test_an_answer_equals_apart_from_white_space_and_if_told_case() -> None:
    assert metrics.equals(" Bristol\n", "Bristol")
    assert not metrics.equals("bristol", "Bristol")
    assert metrics.equals("STRASSE", "straße ", any_case=True)
    assert not metrics.equals("Bristol.", "Bristol", any_case=True)


def test_whole_words_are_contained_in_any_case() -> None:
    assert metrics.contains("It is in BRISTOL, I think.", "Bristol")
    assert metrics.contains("It cost $5 (c++).", "$5")
    assert metrics.contains("It cost $5 (c++).", "C++")
    assert not metrics.contains("A Bristolian", "Bristol")
    assert metrics.contains("It is Ada Lowe.", " Ada Lowe\n")
    assert metrics.contains("In a Cafe\u0301.", "Caf\u00e9")
    assert metrics.contains("首都是北京。", "北京")
    assert metrics.contains("答えはAda Loweです", "Ada Lowe")
    assert not metrics.contains("答えはAda Lowesです", "Ada Lowe")
    assert not metrics.contains("", "Bristol")


def test_a_pattern_is_found_anywhere() -> None:
    assert metrics.matches("It is 42 now", r"\b\d+\b")
    assert not metrics.matches("It is", r"\d")
    assert metrics.matches("YES", "(?i)^yes$")
    with pytest.raises(TaskError, match=r"'\(' is no regular expression: .* Correct it"):
        metrics.matches("", "(")


@pytest.mark.parametrize(
    ("output", "path", "wanted", "same"),
    [
        ('Sure: {"city": "Bristol"}.', "city", "Bristol", True),
        ('{"city": "bristol"}', "city", "Bristol", False),
        ('{"a": {"b": [10, {"c": null}]}}', "a.b.0", 10, True),
        ('{"a": {"b": [10, {"c": null}]}}', "a.b.1.c", None, True),
        ('{"a": {"b": [10, {"c": null}]}}', "a.b.2", None, False),
        ('{"a": {"b": 1}}', "a", {"b": 1}, True),
        ('{"a": {"0": 1}}', "a.0", 1, True),
        ('{"a": "3"}', "a", 3, False),
        ('{"a": 1}', "a", True, False),
        ('{"a": true}', "a", 1, False),
        ('{"a": true}', "a", True, True),
        ('{"a": 1} {"b": 2}', "b", 2, False),
        ('{"a": "x"}', "a.0", "x", False),
        ("a: 1", "a", 1, False),
        ("a: 1", "a", None, False),
        ("{}", "", {}, False),
    ],
)
def test_a_field_of_the_first_object_has_a_value(
    output: str, path: str, wanted: object, same: bool
) -> None:
    assert metrics.json_field(output, path, wanted) is same
