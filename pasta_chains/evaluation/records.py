"""What the paper's tasks are made of: a biography, and a fact that changed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Biography:
    """A text about a person, as in Bias in Bios (De-Arteaga et al., arXiv 1901.09451).

    Attributes:
        person: The name, which the text contains exactly once.
        text: The text.
        occupation: What the person does for a living.
        evidence: Start and end, in characters of the text, of what the first sentence says after
            the name.
    """

    person: str
    text: str
    occupation: str
    evidence: tuple[int, int]


@dataclass(frozen=True)
class Counterfact:
    """A fact that changed, as in CounterFact (Meng et al., arXiv 2202.05262).

    Attributes:
        subject: What it is about.
        statement: What is said of the subject, up to the value that changed: `"{} is led by"`.
        new: The value now.
        old: The value before.
        question: A text that either value may follow.
        paraphrases: Others.
    """

    subject: str
    statement: str
    new: str
    old: str
    question: str
    paraphrases: tuple[str, ...]
