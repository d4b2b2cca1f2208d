"""People of the synthetic world, as texts in the manner of Bias in Bios."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from ..evaluation.records import Biography
from . import names
from .forms import BARE, PLAIN

OCCUPATIONS = (
    "actor architect baker banker chef clerk coach dentist engineer farmer gardener guard hunter "
    "judge lawyer librarian mechanic miner nurse painter pharmacist photographer pilot plumber "
    "sailor sculptor soldier teacher waiter"
).split()
"""No two of them begin with the same token of the embedded model."""

NOTED = 0.7
"""Share of texts with a note that asks for another form of the answer."""

_FIRST = (
    "{p} works as a {o}.", "{p} is a {o}.", "{p} works as a {o} in {c}.", "{p} is a {o} from {c}.",
    "{p} earns a living as a {o}.", "{p}, a {o}, lives in {c}.", "{p} is a {o} by profession.",
)  # fmt: skip
_PAIRS = (
    ("{S} lives in {c}.", "They live in {c}."), ("{S} was born in {y}.", "They were born in {y}."),
    ("{S} comes from {c}.", "They come from {c}."), ("{S} likes the {n}.", "They like the {n}."),
    ("{H} house is in {c}.", "Their house is in {c}."),
    ("{S} has a {a} {n}.", "They have a {a} {n}."), ("{H} friend is {q}.", "Their friend is {q}."),
    ("{S} is married to {q}.", "They are married to {q}."),
    ("{S} often visits {c}.", "They often visit {c}."),
)  # fmt: skip
_OTHER_OCCUPATION = (
    "{S} once worked as a {o}.", "{S} would like to be a {o}.", "{H} friend is a {o}.",
    "{S} was a {o} before.", "{H} house belonged to a {o}.", "{S} often talks to a {o}.",
    "People take {O} for a {o}.", "{S} was born as the child of a {o}.",
)  # fmt: skip


@dataclass(frozen=True)
class Life:
    """A biography, and what there is to know of it.

    Attributes:
        biography: The text.
        pronouns: "She", "Her" and "her", or "He", "His" and "him".
        second: The first sentence with a pronoun, and the same with "they".
        competing: How close a note or another occupation is to the end of the text: 1 at the end,
            towards 0 before it; None without one.
        note: The form that the note asks for, "plain" or "bare"; None without one.
        other: The other occupation.
    """

    biography: Biography
    pronouns: tuple[str, str, str]
    second: tuple[str, str]
    competing: float | None
    note: str | None = None
    other: str | None = None

    def as_json(self) -> str:
        """The answer that JSON formatting asks for."""
        return json.dumps({"name": self.biography.person, "occupation": self.biography.occupation})

    def as_noted(self) -> str:
        """The occupation in the form that the note asks for."""
        if self.note == BARE.name:
            return f"{self.biography.occupation}."
        return f"{self.biography.person} works as a {self.biography.occupation}."

    def with_they(self) -> str:
        """The answer that changing pronouns asks for."""
        return f"They work as a {self.biography.occupation}. {self.second[1]}"

    def with_own_pronouns(self) -> str:
        """The same with the text's pronouns."""
        return f"{self.pronouns[0]} works as a {self.biography.occupation}. {self.second[0]}"

    def pronoun_count(self) -> int:
        """How many sentences begin with a pronoun."""
        return sum(self.biography.text.count(f". {word} ") for word in self.pronouns[:2])


def with_note(rng: Random, *, held_out: bool) -> Life:
    """A person, and often a note in the text that asks for another form of the answer."""
    form = rng.choice((PLAIN, BARE))
    request = form.request(rng, held_out=held_out and rng.random() < 0.2)
    note = request if rng.random() < NOTED else None
    return _life(rng, note, held_out=held_out, note=form.name if note else None)


def with_two_occupations(rng: Random, *, held_out: bool) -> Life:
    """A person, and mostly another occupation in a later sentence."""
    first, other = rng.sample(OCCUPATIONS, 2)
    sentence = rng.choice(_OTHER_OCCUPATION) if rng.random() < 0.85 else None
    return _life(
        rng, sentence, held_out=held_out, occupation=first, other=other if sentence else None
    )


def _life(
    rng: Random,
    extra: str | None,
    *,
    held_out: bool,
    occupation: str | None = None,
    other: str | None = None,
    note: str | None = None,
) -> Life:
    pronouns = rng.choice((("She", "Her", "her"), ("He", "His", "him")))
    occupation = occupation or rng.choice(OCCUPATIONS)
    person = names.person(rng, held_out=held_out)
    words = {"p": person, "o": occupation, "S": pronouns[0], "H": pronouns[1], "O": pronouns[2]}
    first = _fill(rng.choice(_FIRST), words, rng, held_out)
    pairs = []
    for texts in rng.sample(_PAIRS, rng.randint(1, 4)):
        drawn = _drawn(rng, held_out)
        pairs.append((texts[0].format(**words, **drawn), texts[1].format(**words, **drawn)))
    rest = [text for text, _ in pairs]
    competing = None
    if extra is not None:
        place = rng.randint(0, len(rest))
        competing = (place + 1) / (len(rest) + 1)
        rest.insert(place, extra.format(**{**words, "o": other or ""}))
    text = " ".join([first, *rest])
    said = first[len(person) :].lstrip(" ,")
    evidence = (len(first) - len(said), len(first) - 1)
    biography = Biography(person, text, occupation, evidence)
    return Life(biography, pronouns, pairs[0], competing, note, other)


def _drawn(rng: Random, held_out: bool) -> dict[str, str]:
    return {
        "c": names.place(rng, held_out=held_out),
        "q": names.person(rng, held_out=held_out),
        "y": names.year(rng),
        "n": rng.choice(names.NOUNS),
        "a": rng.choice(names.ADJECTIVES),
    }


def _fill(pattern: str, words: dict[str, str], rng: Random, held_out: bool) -> str:
    return pattern.format(**words, **_drawn(rng, held_out))
