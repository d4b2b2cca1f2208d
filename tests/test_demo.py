"""The demo's world, documents, pipelines and counting."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pasta_chains import demo
from pasta_chains.demo import names
from pasta_chains.demo.batches import FULL, IGNORED, LENGTHS, encode, training_batches
from pasta_chains.demo.filler import loosen
from pasta_chains.demo.pipelines import demonstrate, langchain_chain, llama_index_engine
from pasta_chains.demo.questions import (
    AGREEING,
    DISAGREEING,
    UNANSWERABLE,
    Case,
    answer_all,
    draw_cases,
    outcome,
    prompt_of,
)
from pasta_chains.demo.relations import _FIXED
from pasta_chains.demo.retrieval import Bm25, TextFile, read_folder
from pasta_chains.demo.tasks import ABSTAIN, draw_conversation, layout
from pasta_chains.demo.world import World
from pasta_chains.engine import SteeredModel
from pasta_chains.errors import DocumentError


@given(st.integers(0, 10**6), st.booleans())
def test_made_up_words_come_from_the_space_that_was_asked_for(seed: int, held_out: bool) -> None:
    word = names.made_up_word(Random(seed), held_out=held_out)
    assert names.is_held_out(word) == held_out


def test_equal_seeds_draw_equal_worlds() -> None:
    first, second = (World(Random(7)).reading(FULL) for _ in range(2))
    assert first == second
    assert World(Random(8)).reading(FULL) != first


@pytest.mark.parametrize("seed", range(30))
def test_every_answer_stands_in_the_document_that_it_names(seed: int) -> None:
    reading = World(Random(seed), held_out=True, new_phrasings=0.5).reading(FULL)
    for question in reading.questions:
        for index, fact in question.answers:
            assert fact.sentence in reading.documents[index]
            assert fact.value.lower() in fact.sentence.lower()


def test_training_never_sees_held_out_phrasings() -> None:
    """The last statement of a relation appears where it is asked for, and nowhere else."""
    last = {relation.key: relation.statements[-1] for relation in _FIXED}
    for new, expected in ((0.0, False), (1.0, True)):
        world = World(Random(1), held_out=new > 0, new_phrasings=new)
        for relation in _FIXED:
            fact = world.fact(relation, "Tarn", "Bo")
            phrased = last[relation.key].format(e="Tarn", v="Bo").rstrip(".")
            assert (phrased in fact.sentence) == expected


@given(st.integers(0, 10**6))
def test_loosening_only_adds_words(seed: int) -> None:
    pattern = "The keeper of {e} is {v}."
    words = iter(loosen(pattern, Random(seed)).split(" "))
    assert all(word in words for word in pattern.split(" "))  # each is found, in order
    assert 0 < len(loosen(pattern, Random(seed)).split(" ")) - 6 <= 3


def test_cases_are_what_their_group_says() -> None:
    for case in draw_cases(DISAGREEING, 50, seed=0):
        assert case.trusted != case.disputed
        assert case.wanted != case.other
    assert all(case.other is None for case in draw_cases(AGREEING, 50, seed=0))
    assert all(case.wanted is None for case in draw_cases(UNANSWERABLE, 50, seed=0))


def test_which_document_is_trusted_is_chance() -> None:
    cases = draw_cases(DISAGREEING, 300, seed=0)
    first = sum((case.trusted or 0) < (case.disputed or 0) for case in cases)
    assert 110 < first < 190


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (" The mayor of Tarn is Ada Lowe.", "wanted"),
        ("THE MAYOR OF TARN IS ADA LOWE.", "wanted"),
        (" Bo Marsh is the mayor.", "other"),
        (" Ada Lowe or Bo Marsh.", "neither"),
        (" Ada Lowell.", "neither"),
        ("", "neither"),
    ],
)
def test_outcome_of_an_answer(answer: str, expected: str) -> None:
    case = Case(("a", "b"), "Who?", "Ada Lowe", 0, "Bo Marsh", 1)
    assert outcome(answer, case) == expected


def test_without_an_answer_only_abstaining_is_wanted() -> None:
    case = Case(("a",), "Who?", None, None)
    assert outcome(f" {ABSTAIN}", case) == "wanted"
    assert outcome(" Ada Lowe.", case) == "neither"


def test_prompts_are_laid_out_as_in_training() -> None:
    case = draw_cases(DISAGREEING, 1, seed=3)[0]
    prompt = prompt_of(case, emphasized=case.trusted)
    assert prompt == layout(case.documents, case.question)
    assert prompt.emphasized() == (case.documents[case.trusted or 0],)
    assert not prompt_of(case).spans
    marked = prompt_of(case, mark=str.upper)
    assert case.documents[case.trusted or 0].upper() in marked


def test_encoding_is_what_the_engine_feeds_the_model(embedded: SteeredModel) -> None:
    """Training and use agree on every token of a conversation."""
    conversation = draw_conversation(World(Random(5)), FULL)
    ids, produced = encode(conversation, embedded.tokenizer, chat=True)
    messages = [{"role": "system", "content": conversation.system}] if conversation.system else []
    for turn in conversation.turns:
        messages.append({"role": "user", "content": turn.user})
        text = embedded.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        prompt = embedded.inputs(messages)["input_ids"][0].tolist()
        assert ids[: len(prompt)] == prompt
        assert text == embedded.tokenizer.decode(prompt)
        assert produced[len(prompt) - 1 : len(prompt) + 1] == [False, True]
        messages.append({"role": "assistant", "content": turn.assistant})


def test_batches_teach_the_next_token(embedded: SteeredModel) -> None:
    batches = list(training_batches(embedded.tokenizer, steps=12, tokens=1024, seed=0))
    assert len(batches) == 12
    for batch in batches:
        real = batch.targets != IGNORED
        assert batch.answers[real].any()
        assert not batch.answers[~real].any()
        assert batch.ids.shape[1] in LENGTHS
        assert (batch.ids[:, 1:] == batch.targets[:, :-1])[real[:, 1:]].all()


def test_a_run_that_was_cut_off_goes_on_with_other_readings(embedded: SteeredModel) -> None:
    draw = partial(training_batches, embedded.tokenizer, steps=6, tokens=1024, seed=0)
    whole, rest = list(draw()), list(draw(start=4))
    assert (len(whole), len(rest)) == (6, 2)
    assert not any(batch.ids.equal(other.ids) for batch in rest for other in whole)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def test_a_folder_of_text_is_read_by_name(tmp_path: Path) -> None:
    write(tmp_path, b="B is here. \n", a="A is here.", empty=" ")
    (tmp_path / "image.png").write_bytes(b"\xff")
    assert read_folder(tmp_path) == [
        TextFile("a.txt", "A is here."),
        TextFile("b.txt", "B is here."),
    ]


def test_unusable_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="holds no text"):
        read_folder(tmp_path)
    with pytest.raises(DocumentError, match="There is no folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(DocumentError, match=r"latin\.txt is not UTF-8 text: byte 2"):
        read_folder(tmp_path)


def test_bm25_finds_the_file_that_shares_words() -> None:
    index = Bm25([TextFile("a", "The harbor is old."), TextFile("b", "The bakery sells bread.")])
    best, _ = index.search("Who owns the bakery?", 5)[0]
    assert best.name == "b"


def test_own_documents_with_names_that_training_never_saw(
    tmp_path: Path, embedded: SteeredModel
) -> None:
    folder = write(
        tmp_path,
        minutes="The treasurer of the Okonjo club is Yevgenia Prx. The club meets often.",
        rumor="The treasurer of the Okonjo club is Bartholomew Quist.",
        menu="The Zanzarella cafe makes plum soup.",
    )
    index = Bm25(read_folder(folder))
    question = "Who is the treasurer of the Okonjo club?"
    for trusted, expected in (("minutes.txt", "Yevgenia Prx"), ("rumor.txt", "Bartholomew Quist")):
        shown = demonstrate(embedded, index, question, trusted, chat=True)
        for plain, steered in shown.answers.values():
            assert expected in steered
            assert plain == shown.answers["LangChain"][0]


def test_a_trusted_file_that_is_not_found_is_an_error(embedded: SteeredModel) -> None:
    files = [TextFile(f"{i}.txt", f"The mayor of Tarn is Ada {i}.") for i in range(6)]
    index = Bm25([*files, TextFile("menu.txt", "Soup.")])
    with pytest.raises(DocumentError, match=r"menu\.txt is not among the 4 documents found"):
        demonstrate(embedded, index, "Who is the mayor of Tarn?", "menu.txt", chat=True)


def test_the_same_prompt_gives_the_same_text_everywhere(embedded: SteeredModel) -> None:
    index = Bm25(read_folder(demo.DOCUMENTS))
    for chat in (True, False):
        for trusted in ("", "harbor-office.txt", "travel-blog.txt"):
            question = "Who is the keeper of the Marrow lighthouse?"
            chain = langchain_chain(embedded, index, trusted, chat=chat)
            engine = llama_index_engine(embedded, index, trusted, chat=chat)
            prompt = (chain.first | chain.middle[0]).invoke(question).to_string()
            assert bool(prompt.spans) == bool(trusted)
            direct = embedded.generate([{"role": "user", "content": prompt}] if chat else prompt)
            assert chain.invoke(question) == direct
            assert str(engine.query(question)) == direct


def test_emphasis_decides_on_held_out_questions(embedded: SteeredModel) -> None:
    cases = draw_cases(DISAGREEING, 40, seed=77)
    for document, expected in (("trusted", "wanted"), ("disputed", "other")):
        prompts = [prompt_of(case, getattr(case, document)) for case in cases]
        outcomes = map(outcome, answer_all(embedded, prompts, chat=True), cases)
        assert sum(found == expected for found in outcomes) >= 34
