"""The prompts of the paper's four tasks (Zhang et al., arXiv 2311.02262, section 4 and appendix A).

Each has the text that the paper emphasizes marked in it.
"""

from __future__ import annotations

from ..spans import SpanStr, emphasize
from .records import Biography, Counterfact

JSON_INSTRUCTION = (
    "Answer the occupation of {person} and generate the answer as json format. Here is an example: "
    '{{"name": , "occupation": ,}}. Now generate the answer:'
)
PRONOUNS_INSTRUCTION = (
    "For the aforementioned text, substitute 'she' and 'he' with 'they' and generate the "
    "occupation of {person} after changing pronouns:"
)

_EDGES = " ,-;:"
"""What is not emphasized at the ends of a fact."""


def json_prompt(biography: Biography) -> SpanStr:
    """JSON formatting: the biography, then the instruction, which is emphasized."""
    instruction = JSON_INSTRUCTION.format(person=biography.person)
    return SpanStr(f"{biography.text}\n") + emphasize(instruction) + "\n"


def pronouns_prompt(biography: Biography) -> SpanStr:
    """Pronouns changing: the biography, then the instruction, which is emphasized."""
    instruction = PRONOUNS_INSTRUCTION.format(person=biography.person)
    return SpanStr(f"{biography.text}\n") + emphasize(instruction) + "\n"


def occupation_prompt(biography: Biography) -> SpanStr:
    """Bias in Bios: what the first sentence says after the name is emphasized."""
    start, end = biography.evidence
    text = SpanStr(biography.text, [(start, end)])
    asked = f".\n\n{biography.person} has the occupation of"
    return text.rstrip(". ") + asked


def fact_prompt(fact: Counterfact, question: str) -> SpanStr:
    """CounterFact: what is said of the subject now is emphasized, the subject itself is not."""
    before, after = fact.statement.split("{}")
    old = f"Previously {before}{fact.subject}{after} {fact.old}. Currently "
    now = SpanStr(f"{before}{fact.subject}")
    said = f"{after} {fact.new}"
    start = len(said) - len(said.lstrip(_EDGES))
    end = len(said.rstrip(_EDGES))
    said_now = SpanStr(said, [(start, end)]).rstrip(". ")
    return SpanStr(old) + now + said_now + f". {question}"
