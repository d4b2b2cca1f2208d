"""Facts of the synthetic world that changed, in the manner of CounterFact."""

from __future__ import annotations

from random import Random

from ..evaluation.records import Counterfact
from .relations import Relation, draw_relation, entity_of, value_of

NEW_PHRASINGS = 0.2
"""Share of held-out facts with a question that training never used."""

_END = " {v}."
_QUESTIONS = 4


def changed_fact(rng: Random, *, held_out: bool) -> Counterfact:
    """Draw a fact, its value before and now, and texts that either may follow."""
    while True:
        relation = draw_relation(rng, held_out=held_out)
        new_phrasing = held_out and rng.random() < NEW_PHRASINGS
        openings = _openings(relation)
        if len(openings) > 2:
            break
    entity = entity_of(relation.entity, rng, held_out=held_out)
    new, old = (value_of(relation.value, rng, held_out=held_out) for _ in range(2))
    if new == old:
        return changed_fact(rng, held_out=held_out)
    statement, *others = rng.sample(openings, min(len(openings), _QUESTIONS + 1))
    last = relation.statements[-1]
    if new_phrasing and last.endswith(_END) and last.index("{e}") < last.index("{v}"):
        others[0] = last.removesuffix(_END)
    question, *paraphrases = (_sentence(text.format(e=entity)) for text in others)
    statement = statement.replace("{e}", "{}")
    return Counterfact(entity, statement, new, old, question, tuple(paraphrases))


def _openings(relation: Relation) -> list[str]:
    """The known statements that end with the value, without it."""
    known = relation.statements[:-1]
    return [
        text.removesuffix(_END)
        for text in known
        if text.endswith(_END) and text.index("{e}") < text.index("{v}")
    ]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
