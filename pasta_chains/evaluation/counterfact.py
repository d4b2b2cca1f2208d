"""Facts of CounterFact (Meng et al., arXiv 2202.05262), as the paper uses them.

The paper is Zhang et al., arXiv 2311.02262, section 4 and appendix A.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import TaskError
from .records import Counterfact
from .rows import read_rows, text_of, texts_of

_ARTIFACTS = (" (b. ", "(tr. ", "(min. ")
"""What titles of encyclopedia entries leave behind."""

_SENTENCE_ENDS = re.compile(r"""[.!?…]["'\u2019”»)\]]*""")


def read_counterfacts(file: Path) -> list[Counterfact]:
    """Reads facts from a file of JSON; see `counterfacts`.

    Raises:
        TaskError: The file cannot be read, or as `counterfacts` does.
    """
    return counterfacts(read_rows(file))


def counterfacts(rows: Iterable[Mapping[str, Any]]) -> list[Counterfact]:
    """Makes facts of rows of the published format.

    A row has "requested_rewrite" with "prompt", "subject", "target_new" and "target_true", each of
    these two with "str", and "paraphrase_prompts"; more is ignored. Rows that the paper's code
    reformatted have all this in "source", and are read too.

    As in that code, the question is the first paraphrase without the unrelated text before it, and
    the paraphrases are all of them as they are.

    Args:
        rows: The rows.

    Raises:
        TaskError: A field is missing or wrong.
    """
    return [_made(row, number) for number, row in enumerate(rows, 1)]


def _made(row: Mapping[str, Any], number: int) -> Counterfact:
    if isinstance(row, Mapping) and "requested_rewrite" not in row and "source" in row:
        row = row["source"]
    statement = text_of(row, number, "requested_rewrite.prompt")
    if statement.count("{}") != 1:
        raise TaskError(
            f"The field 'requested_rewrite.prompt' of row {number} is {statement!r}; it must have "
            "one {}, where the subject stands."
        )
    subject = text_of(row, number, "requested_rewrite.subject")
    paraphrases = texts_of(row, number, "paraphrase_prompts")
    return Counterfact(
        subject,
        statement,
        text_of(row, number, "requested_rewrite.target_new.str").strip(),
        text_of(row, number, "requested_rewrite.target_true.str").strip(),
        question_of(paraphrases[0], subject),
        tuple(paraphrases),
    )


def question_of(paraphrase: str, subject: str) -> str:
    """A paraphrase without the unrelated text that CounterFact puts before it.

    The question starts after the last line break, and then with the sentence that has the subject;
    a title before it, such as "Category:...", goes too. A paraphrase without the subject stays as
    it is, but for other lines. The paper's code does this with sentences that a spaCy model finds;
    here a sentence ends with ".", "!" or "?" wherever it stands.

    Args:
        paraphrase: The text, such as `"He is old. The capital of Iceland is"`.
        subject: What the fact is about, such as `"Iceland"`.
    """
    text = paraphrase.split("\n")[-1].strip()
    place = text.rfind(subject)
    if place < 0:
        return text
    starts = [0]
    if text.startswith("Category:"):
        starts.append(place)
    for artifact in _ARTIFACTS:
        found = text.rfind(artifact, 0, place)
        if found >= 0:
            starts.append(found + len(artifact))
    starts += [end.end() for end in _SENTENCE_ENDS.finditer(text, 0, place)]
    return text[max(starts) :].strip()
