"""Words of the synthetic world that say nothing: sentences, and what stands around statements."""

from __future__ import annotations

from random import Random

from . import names

_ADVERBS = "also always even indeed just later often only perhaps quite soon still then".split()
WORDS = (*names.ADJECTIVES, *names.NOUNS, *_ADVERBS, *_ADVERBS, *"the a of in with has is".split())
"""Words that can stand anywhere without a meaning."""

_SENTENCES = (
    "It is a quiet {a} place.", "Visitors often ask about the {n}.", "The {a} {n} is well known.",
    "Nobody remembers the {a} {n}.", "There is a {a} {n} nearby.", "The weather is often {a}.",
    "Many people like the {n}.", "The {n} is {a}.", "A {a} {n} can be seen from the road.",
    "Some say that the {n} was once {a}.", "The story of the {n} is long.",
    "Every {n} has its {n2}.", "People talk about the {a} {n} and the {n2}.",
    "The {n} lies behind the {n2}.", "This has been so for many years.",
    "Little else is known about it.", "{p} tells the story of the {n}.",
    "{p} once saw a {a} {n}.", "Guests like the {a} {n2} best.",
)  # fmt: skip

_BEFORE = (
    "According to the {a} {n}, ", "As of last {season}, ", "In those days, ", "Today, ",
    "As everyone knows, ", "For a long time now, ", "The {n} says that ", "{p} says that ",
    "Near the {n}, people say that ", "After the {a} {season}, ", "Since {y}, ", "Again, ",
    "The {a} guide says: ", "It is written that ", "Most people think that ", "In truth, ",
)  # fmt: skip
_AFTER = (
    ", as far as anyone knows", " these days", ", said {p}", " since {y}", " again",
    ", and the {n} knows it", ", not far from the {a} {n}", ", like the {n}", " until {season}",
    ", for better or worse", ", which is {a}", " with a {a} {n}", ", in spite of the {n2}",
)  # fmt: skip
_SEASONS = ("spring", "summer", "autumn", "winter")


def filler(rng: Random, *, held_out: bool) -> str:
    """A sentence that answers no question."""
    return _fill(rng.choice(_SENTENCES), rng, held_out)


def loosen(pattern: str, rng: Random) -> str:
    """Put words that mean nothing between those of a statement or question with `{e}`.

    What is left to go by are the words that statement and question share, which is also what an
    unknown phrasing leaves.
    """
    words = pattern.split(" ")
    for _ in range(rng.randint(1, 3)):
        word = rng.choice(WORDS)
        words.insert(rng.randint(0, len(words) - 1), word)
    return " ".join(words)


def decorate(sentence: str, rng: Random, *, held_out: bool) -> str:
    """Put words around a statement that change nothing."""
    if rng.random() < 0.12:
        before = _fill(rng.choice(_BEFORE), rng, held_out)
        common = sentence.startswith(("The ", "It ", "In ", "For ", "From ", "By ", "You ", "As "))
        sentence = before + (sentence[0].lower() + sentence[1:] if common else sentence)
    if rng.random() < 0.1:
        sentence = sentence.removesuffix(".") + _fill(rng.choice(_AFTER), rng, held_out) + "."
    return sentence


def _fill(pattern: str, rng: Random, held_out: bool) -> str:
    return pattern.format(
        a=rng.choice(names.ADJECTIVES),
        n=rng.choice(names.NOUNS),
        n2=rng.choice(names.NOUNS),
        p=names.person(rng, held_out=held_out),
        y=names.year(rng),
        season=rng.choice(_SEASONS),
    )
