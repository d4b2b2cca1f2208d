"""What the embedded model is taught: tasks drawn from the synthetic world as conversations.

A task is a function from a world and a difficulty to a `Conversation`; `TASKS` says how often each
is drawn. To teach the model something new, write one more function and give it a share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from .conversation import INSTRUCTION, Conversation, Turn, layout
from .instructions import (
    change_pronouns,
    complete_fact,
    follow_rule,
    name_occupation,
    write_json,
)
from .world import Difficulty, Question, Reading, World

ABSTAIN = "The documents do not say."
"""The answer when no document answers."""

_INSTRUCTIONS = (
    INSTRUCTION,
    "Answer from the documents.",
    "Read the documents and answer.",
    "Use the following documents to answer the question at the end.",
    "Context information is below.",
    "",
)
_SENTENCES = Difficulty((3, 6), (1, 1), 6)
_ALIKE = 0.8
"""Share of sentences that say of something else what another one says."""

_SYSTEMS = (
    "You are a helpful assistant.",
    "You answer questions about documents.",
    "Answer only from the documents.",
    "Be brief.",
)


def read_documents(world: World, difficulty: Difficulty) -> Conversation:
    """Questions about several documents; each answer restates what a document says.

    When two documents disagree, either is the answer: the model cannot know which to trust.
    """
    rng = world.rng
    return _about(world.reading(difficulty), rng)


def read_sentences(world: World, _: Difficulty) -> Conversation:
    """Questions about sentences that say much the same, as a search for the question finds them."""
    alike = replace(world, lookalikes=_ALIKE)
    return _about(alike.reading(_SENTENCES), world.rng)


def _about(reading: Reading, rng: Random) -> Conversation:
    decorated = [_decorate(text, rng) for text in reading.documents]
    answers = [_answer(question, reading, decorated, rng) for question in reading.questions]
    first, *rest = reading.questions
    opening = _vary_layout(decorated, first.text, rng)
    suffix = "\nAnswer:" if opening.endswith("\nAnswer:") else ""
    prefix = "Question: " if suffix or rng.random() < 0.5 else ""
    users = [opening, *(f"{prefix}{question.text}{suffix}" for question in rest)]
    system = rng.choice(_SYSTEMS) if rng.random() < 0.25 else None
    return Conversation(tuple(map(Turn, users, answers)), system)


Task = Callable[[World, Difficulty], Conversation]
TASKS: dict[str, tuple[Task, float]] = {
    "read documents": (read_documents, 0.48),
    "read sentences": (read_sentences, 0.18),
    "follow rule": (follow_rule, 0.14),
    "write json": (write_json, 0.08),
    "change pronouns": (change_pronouns, 0.04),
    "name occupation": (name_occupation, 0.04),
    "complete fact": (complete_fact, 0.04),
}
"""Each task by name, with its share of the training conversations."""


def draw_conversation(world: World, difficulty: Difficulty) -> Conversation:
    """Draw a task by its share, and a conversation from it."""
    shares = [share for _, share in TASKS.values()]
    ((task, _),) = world.rng.choices(list(TASKS.values()), shares)
    return task(world, difficulty)


def _decorate(text: str, rng: Random) -> str:
    """Sometimes set a document in asterisks or capitals, without any meaning.

    Real models have seen such text; one that had not would make marked prompts, the baseline that
    emphasis is compared with, look worse than they are.
    """
    chance = rng.random()
    if chance < 0.06:
        mark = rng.choice(("*", "**"))
        return f"{mark}{text}{mark}"
    return text.upper() if chance < 0.08 else text


def _answer(question: Question, reading: Reading, shown: Sequence[str], rng: Random) -> str:
    if not question.answers:
        return ABSTAIN
    index, fact = rng.choice(question.answers)
    capitals = shown[index] == reading.documents[index].upper()
    value = fact.value.upper() if capitals else fact.value
    return fact.relation.answer(fact.entity, value)


def _vary_layout(documents: Sequence[str], question: str, rng: Random) -> str:
    if rng.random() < 0.5:
        return layout(documents, question)
    numbered = rng.choice(
        ("[{i}] {d}", "[{i}] {d}", "- {d}", "Document {i}: {d}", "({i}) {d}", "{d}")
    )
    listed = rng.choice(("\n\n", "\n")).join(
        numbered.format(i=i, d=text) for i, text in enumerate(documents, 1)
    )
    asked = rng.choice(("Question: {q}\nAnswer:", "Question: {q}", "{q}")).format(q=question)
    return "\n\n".join(part for part in (rng.choice(_INSTRUCTIONS), listed, asked) if part)
