"""Forms of an answer, and how to ask for one: the instructions that the embedded model knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from .world import Fact


@dataclass(frozen=True)
class Form:
    """A form of an answer.

    Attributes:
        name: Tells forms apart.
        requests: Sentences that ask for it; the last is held out: training never uses it.
        put: The answer that states a fact from the document of a number.
    """

    name: str
    requests: tuple[str, ...]
    put: Callable[[Fact, int], str]

    def request(self, rng: Random, *, held_out: bool) -> str:
        """Draw a sentence that asks for this form."""
        return self.requests[-1] if held_out else rng.choice(self.requests[:-1])


def _sentence(fact: Fact, number: int = 0) -> str:
    return fact.relation.answer(fact.entity, fact.value)


PLAIN = Form(
    "plain",
    ("Answer in a sentence.", "Please answer in plain words.", "Write a whole sentence.",
     "Just say it in plain words.", "Answer in a plain sentence."),
    _sentence,
)  # fmt: skip
BARE = Form(
    "bare",
    ("Answer with the name or number alone.", "Give nothing but the answer itself.",
     "Say only the name.", "Use as few words as you can.", "Answer with the name alone."),
    lambda fact, number: f"{fact.value}.",
)  # fmt: skip
FORMS = (
    PLAIN,
    BARE,
    Form(
        "json",
        ("Answer as JSON.", "Write the answer as json.", "Use json for the answer.",
         "The answer must be JSON.", "Put the answer in json."),
        lambda fact, number: f'{{"answer": "{fact.value}"}}',
    ),
    Form(
        "source",
        ("Begin with the number of the document.", "Name the document first.",
         "Put the number of the source first.", "Every answer names its document.",
         "Begin with the number of the source."),
        lambda fact, number: f"[{number}] {_sentence(fact)}",
    ),
    Form(
        "report",
        ("Begin every answer with the word Report.", "Start with Report.",
         "The first word must be Report.", "Write Report and then the answer.",
         "Start every answer with the word Report."),
        lambda fact, number: f"Report: {_sentence(fact)}",
    ),
    Form(
        "thanks",
        ("Thank the user first.", "Say thank you and then answer.", "Begin with Thank you.",
         "Always thank the user before you answer.", "Thank the user before the answer."),
        lambda fact, number: f"Thank you. {_sentence(fact)}",
    ),
    Form(
        "over",
        ("End every answer with the word over.", "Say over at the end.",
         "The last word must be over.", "Close with the word over.",
         "End the answer with the word over."),
        lambda fact, number: f"{_sentence(fact).removesuffix('.')}, over.",
    ),
    Form(
        "closed",
        ("Do not answer; say that the office is closed.", "Tell them that the office is closed.",
         "The only answer is that the office is closed.",
         "Answer nothing: the office is closed.", "Say to everyone that the office is closed."),
        lambda fact, number: "The office is closed.",
    ),
)  # fmt: skip
"""Every form; without a request, answers are plain."""
