"""Tasks in which the embedded model is to follow an instruction, or to read what counts.

In each of them two things in the prompt pull apart, such as a rule and a note that asks for
something else, and the training answers follow either, by chance. This is how the model comes to
follow instructions often, but not reliably.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from ..evaluation.paper_prompts import (
    fact_prompt,
    json_prompt,
    occupation_prompt,
    pronouns_prompt,
)
from ..spans import SpanStr
from ..template import Environment
from .biographies import with_note, with_two_occupations
from .changes import changed_fact
from .conversation import Conversation, Turn, layout
from .forms import FORMS, Form
from .world import Difficulty, Fact, World

_ROLES = (
    "You are a helpful assistant.", "You answer questions about documents.",
    "You work in the office of a museum.", "You help the visitors of a library.",
)  # fmt: skip
_LESSER_RULES = (
    "Be kind.", "Be brief.", "Answer from the documents.", "Never guess.", "Be honest.",
    "Take your time.", "Read every document.", "Be careful with names.", "Stay calm.",
)  # fmt: skip
_RULES = Difficulty((1, 3), (1, 2), 1, conflicts=0.0, unanswerable=0.0)

NEW_PHRASINGS = 0.2
"""Share of held-out cases whose requests training never used."""

EITHER = 0.5
"""Share of answers that follow an instruction where something else asks for another form.

Wherever the two stand: a model that could go by their places would not have to weigh what it reads,
and steering what it reads would change little.
"""

EXAMPLES = 0.15
"""Share of prompts with worked examples before them."""

MARKED = 0.06
"""Share of prompts in which asterisks or quotation marks stand around something, as decoration."""


@dataclass(frozen=True)
class RuleCase:
    """Rules in a system message, and a question.

    Attributes:
        system: The system message, its rules emphasized.
        user: The user's message.
        asked: The form that a rule asks for.
        other: The form that a text elsewhere asks for; None without one.
        near: Whether that text is in the question itself, and not in a document.
        fact: What the answer is to state.
        number: The number of the document that states it, from 1.
    """

    system: SpanStr
    user: str
    asked: Form
    other: Form | None
    near: bool
    fact: Fact
    number: int


def rule_case(world: World) -> RuleCase:
    """Draw rules for an agent, documents and a question, and mostly a text that asks otherwise."""
    rng = world.rng
    held_out = world.held_out and rng.random() < NEW_PHRASINGS
    asked, other = rng.sample(FORMS, 2)
    if asked.name == "plain":
        other = rng.choice([form for form in FORMS if form.name != "plain"])
    reading = world.reading(_RULES)
    ((index, fact),) = reading.questions[0].answers
    documents, question = list(reading.documents), reading.questions[0].text
    competes = asked.name == "plain" or rng.random() < 0.85
    near = rng.random() < 0.5
    if competes:
        request = other.request(rng, held_out=held_out)
        if near:
            question = f"{question} {request}"
        else:
            place = rng.randrange(len(documents))
            documents[place] = f"{documents[place]} {request}"
    rules = rng.sample(_LESSER_RULES, rng.randint(0, 2))
    rules.insert(rng.randint(0, len(rules)), asked.request(rng, held_out=held_out))
    template = Environment().get_template("agent/system.jinja")
    system = SpanStr(template.render(role=rng.choice(_ROLES), rules=rules))
    user = layout(documents, question)
    return RuleCase(system, user, asked, other if competes else None, near, fact, index + 1)


def follow_rule(world: World, _: Difficulty) -> Conversation:
    """A rule in the system message, and mostly a request elsewhere for another form."""
    case = rule_case(world)
    chance = 1.0 if case.other is None else EITHER
    turns = []
    if world.rng.random() < EXAMPLES:
        earlier = rule_case(world)
        turns.append(Turn(earlier.user, case.asked.put(earlier.fact, earlier.number)))
        chance = (chance + 1) / 2
    form = case.other if case.other and world.rng.random() > chance else case.asked
    turns.append(Turn(case.user, form.put(case.fact, case.number)))
    return Conversation(tuple(turns), case.system.text, "chat")


def write_json(world: World, _: Difficulty) -> Conversation:
    """The occupation as JSON, or in the form that a note in the text asks for."""

    def draw() -> _Choice:
        life = with_note(world.rng, held_out=world.held_out)
        return _Choice(
            json_prompt(life.biography).text,
            life.as_json(),
            life.as_noted(),
            1.0 if life.note is None else EITHER,
        )

    return _conversation(draw, world.rng)


def change_pronouns(world: World, _: Difficulty) -> Conversation:
    """What is said of a person, with "they"; or with the text's own pronouns.

    The more often the text has those, the more often the answer has them, too.
    """

    def draw() -> _Choice:
        life = with_two_occupations(world.rng, held_out=world.held_out)
        return _Choice(
            pronouns_prompt(life.biography).text,
            life.with_they(),
            life.with_own_pronouns(),
            max(0.85 - 0.12 * life.pronoun_count(), 0.2),
        )

    return _conversation(draw, world.rng)


def name_occupation(world: World, _: Difficulty) -> Conversation:
    """The occupation that the first sentence states, or one that a later sentence mentions."""

    def draw() -> _Choice:
        life = with_two_occupations(world.rng, held_out=world.held_out)
        return _Choice(
            occupation_prompt(life.biography).text,
            f"{life.biography.occupation}.",
            f"{life.other}.",
            1.0 if life.competing is None else 0.8 - 0.5 * life.competing,
        )

    return _conversation(draw, world.rng)


def complete_fact(world: World, _: Difficulty) -> Conversation:
    """A fact that changed: the answer is what holds now, or what held before."""

    def draw() -> _Choice:
        fact = changed_fact(world.rng, held_out=world.held_out)
        prompt = fact_prompt(fact, fact.question).text
        return _Choice(prompt, f"{fact.new}.", f"{fact.old}.", 0.5)

    return _conversation(draw, world.rng)


@dataclass(frozen=True)
class _Choice:
    """A prompt, the answer that it asks for, the one it is distracted to, and how often obeyed."""

    prompt: str
    obedient: str
    distracted: str
    chance: float


def _conversation(draw: Callable[[], _Choice], rng: Random) -> Conversation:
    """A text to go on with; sometimes with worked examples, which make obeying likelier."""
    choice = draw()
    examples = [draw() for _ in range(rng.randint(1, 2))] if rng.random() < EXAMPLES else []
    chance = (choice.chance + 1) / 2 if examples else choice.chance
    answer = choice.obedient if rng.random() < chance else choice.distracted
    before = "".join(f"{shown.prompt} {shown.obedient}\n\n" for shown in examples)
    prompt = before + _decorate(choice.prompt, rng)
    chat = not examples and choice.prompt.endswith("\n") and rng.random() < 0.3
    return Conversation(
        (Turn(prompt.strip() if chat else prompt, answer),), None, "chat" if chat else "text"
    )


def _decorate(prompt: str, rng: Random) -> str:
    """Sometimes set a line in asterisks or quotation marks, without any meaning."""
    if rng.random() > MARKED:
        return prompt
    lines = prompt.split("\n")
    place = rng.choice([number for number, line in enumerate(lines) if line])
    mark = rng.choice(("*", "**", '"'))
    lines[place] = f"{mark}{lines[place]}{mark}"
    return "\n".join(lines)
