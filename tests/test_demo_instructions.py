"""Instructions in the synthetic world: what the embedded model is taught to follow, mostly."""

from __future__ import annotations

import json
from random import Random

import pytest
from transformers import AutoTokenizer

from pasta_chains.demo import MODEL
from pasta_chains.demo.batches import FULL, encode
from pasta_chains.demo.biographies import OCCUPATIONS, with_note, with_two_occupations
from pasta_chains.demo.changes import changed_fact
from pasta_chains.demo.forms import FORMS
from pasta_chains.demo.instructions import rule_case
from pasta_chains.demo.names import is_held_out
from pasta_chains.demo.synthetic import SYNTHETIC, synthetic_task
from pasta_chains.demo.tasks import TASKS
from pasta_chains.demo.world import World
from pasta_chains.errors import TaskError
from pasta_chains.evaluation.choosing import option_tokens
from pasta_chains.evaluation.harness import digest_of
from pasta_chains.evaluation.metrics import all_pronouns_changed, is_json, json_names

INSTRUCTED = [name for name in TASKS if not name.startswith("read")]
WORLD = World(Random(0))


def test_no_two_occupations_begin_with_the_same_token() -> None:
    tokens = option_tokens(AutoTokenizer.from_pretrained(MODEL), OCCUPATIONS)
    assert len({ids[0] for ids in tokens}) == len(OCCUPATIONS)


def test_a_biography_has_the_name_once_and_its_evidence_after_it() -> None:
    rng = Random(1)
    for draw in (with_note, with_two_occupations) * 50:
        life = draw(rng, held_out=False)
        one = life.biography
        start, end = one.evidence
        assert one.text.count(one.person) == 1
        assert one.text[:start].strip(" ,") == one.person
        assert one.occupation in one.text[start:end]
        assert one.text[end] == "."


def test_answers_are_what_the_paper_measures() -> None:
    rng = Random(2)
    for _ in range(50):
        life = with_note(rng, held_out=False)
        assert is_json(life.as_json())
        assert json_names(life.as_json(), life.biography.occupation)
        assert not is_json(life.as_noted())
        assert life.biography.occupation in life.as_noted()
        assert all_pronouns_changed(life.with_they())
        assert not all_pronouns_changed(life.with_own_pronouns())
        assert life.pronoun_count() >= 1


def test_another_occupation_is_another_one() -> None:
    rng = Random(3)
    lives = [with_two_occupations(rng, held_out=False) for _ in range(100)]
    others = [life for life in lives if life.other is not None]
    assert 70 < len(others) < 95
    assert all(life.other != life.biography.occupation for life in others)
    assert all(life.other in life.biography.text for life in others)
    assert all((life.competing is None) == (life.other is None) for life in lives)


def test_a_fact_changes_its_value_and_the_question_leaves_it_open() -> None:
    rng = Random(4)
    for _ in range(100):
        fact = changed_fact(rng, held_out=True)
        assert fact.new != fact.old
        assert fact.statement.count("{}") == 1
        assert len(fact.paraphrases) >= 1
        for text in (fact.question, *fact.paraphrases):
            assert fact.subject.lower() in text.lower()
            assert fact.new not in text.removeprefix(fact.subject)


def test_forms_put_an_answer_differently() -> None:
    case = rule_case(World(Random(6)))
    answers = {form.put(case.fact, case.number) for form in FORMS}
    assert len(answers) == len(FORMS)
    written = next(form for form in FORMS if form.name == "json").put(case.fact, 1)
    assert json.loads(written) == {"answer": case.fact.value}


def test_a_rule_is_emphasized_and_the_request_is_not() -> None:
    world = World(Random(7))
    competing = 0
    for _ in range(100):
        case = rule_case(world)
        assert any(request in case.system.emphasized() for request in case.asked.requests)
        assert case.asked.name != "plain" or case.other is not None
        if case.other is not None:
            competing += 1
            assert case.other != case.asked
            assert any(request in case.user for request in case.other.requests)
    assert 75 < competing < 100


@pytest.mark.parametrize("name", INSTRUCTED)
def test_training_follows_either_by_chance_and_has_no_held_out_request(name: str) -> None:
    task, _ = TASKS[name]
    world = World(Random(8))
    held_out = [form.requests[-1] for form in FORMS]
    answers = set()
    for _ in range(150):
        conversation = task(world, FULL)
        texts = [turn.user for turn in conversation.turns] + [conversation.system or ""]
        assert not any(request in text for text in texts for request in held_out)
        answers.add(conversation.turns[-1].assistant.split()[0])
    assert len(answers) > 1


@pytest.mark.parametrize("name", INSTRUCTED)
def test_a_text_is_gone_on_with_and_a_chat_keeps_its_roles(name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    task, _ = TASKS[name]
    for _ in range(20):
        conversation = task(WORLD, FULL)
        assert conversation.layout in ("chat", "text")
        ids, produced = encode(conversation, tokenizer, chat=conversation.layout != "chat")
        text = tokenizer.decode(ids)
        assert ("<|user|>" in text) == (conversation.layout == "chat")
        answer = tokenizer.decode([one for one, own in zip(ids, produced, strict=True) if own])
        assert answer.endswith(f" {conversation.turns[-1].assistant}<|end|>")
        if conversation.layout == "text":
            assert f"{conversation.turns[-1].user} {conversation.turns[-1].assistant}" in text


@pytest.mark.parametrize("name", SYNTHETIC)
def test_splits_of_a_synthetic_task_are_drawn_apart_and_again_alike(name: str) -> None:
    tasks = [synthetic_task(name, split, 5) for split in ("train", "validation", "test")]
    assert len({digest_of(task) for task in tasks}) == 3
    assert digest_of(tasks[2]) == digest_of(synthetic_task(name, "test", 5))
    assert all(task.name == name and task.fluency_floor is None for task in tasks)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_the_wanted_answer_of_a_synthetic_sample_scores_in_full(name: str) -> None:
    task = synthetic_task(name, "test", 20)
    for sample in task.samples:
        wanted = [sample.wanted] * len(sample.prompts)
        assert task.mean_score(sample, wanted) == 1.0
        assert task.mean_score(sample, ["something else"] * len(wanted)) < 1.0 or name == "pronouns"


def test_names_of_synthetic_tasks_are_held_out() -> None:
    task = synthetic_task("json", "test", 30)
    people = [json.loads(sample.wanted)["name"] for sample in task.samples]
    assert all(is_held_out(person.split()[-1]) for person in people)


def test_an_unknown_task_is_told() -> None:
    with pytest.raises(TaskError, match="There is no task 'poems'; the tasks are json"):
        synthetic_task("poems", "test", 5)
