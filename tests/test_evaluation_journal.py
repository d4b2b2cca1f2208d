"""Finished work in a file, and what is done when the file is cut off, broken or another's."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pasta_chains.errors import TaskError
from pasta_chains.evaluation.journal import Journal

ABOUT = {"model": "tiny", "heads": {"0": (1, 2)}, "alpha": 0.01, "é": None}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "task" / "steered.jsonl"


def test_work_is_found_again(file: Path) -> None:
    journal = Journal(file, ABOUT)
    assert journal.known == {}
    journal.write("1", ["Ada\nLowe", "Größe\u2028🙂"])
    journal.write("Ü", {"a": 1.5})
    assert journal.known == {"1": ["Ada\nLowe", "Größe\u2028🙂"], "Ü": {"a": 1.5}}
    again = Journal(file, ABOUT)
    assert again.known == journal.known
    again.write("2", None)
    assert list(Journal(file, ABOUT).known) == ["1", "Ü", "2"]
    lines = file.read_text(encoding="utf-8").split("\n")
    assert [json.loads(line).keys() for line in lines[:-1]] == [{"about"}, *[{"key", "value"}] * 3]
    assert "Größe" in lines[1], "as a person can read it"
    assert lines[-1] == ""


def test_a_piece_that_is_done_again_replaces_the_first(file: Path) -> None:
    journal = Journal(file, ABOUT)
    journal.write("1", "old")
    journal.write("1", "new")
    assert Journal(file, ABOUT).known == {"1": "new"}


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_that_was_cut_off_is_dropped(file: Path, cut: int) -> None:
    journal = Journal(file, ABOUT)
    journal.write("1", "é")
    before = file.read_bytes()
    journal.write("2", "Größe🙂")
    file.write_bytes(file.read_bytes()[:-cut])
    again = Journal(file, ABOUT)
    assert again.known == {"1": "é"}
    assert file.read_bytes() == before
    again.write("3", "whole")
    assert Journal(file, ABOUT).known == {"1": "é", "3": "whole"}


def test_a_first_line_that_was_cut_off_begins_anew(file: Path) -> None:
    Journal(file, ABOUT)
    whole = file.read_bytes()
    for length in (0, 1, 10, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert Journal(file, ABOUT).known == {}
        assert file.read_bytes() == whole


@pytest.mark.parametrize("content", ["my notes", '{"about": {"model": "oth', "3", '{"key": "1"'])
def test_a_file_of_something_else_is_left_alone(file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_text(content)
    for ending in ("", "\n", "\nmore\n"):
        file.write_text(content + ending)
        with pytest.raises(TaskError, match=r"first line of .*steered\.jsonl does not say what"):
            Journal(file, ABOUT)
        assert file.read_text() == content + ending


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b'{"key": "1"}',
        b'{"value": "1"}',
        b'{"key": 1, "value": 2}',
        b'{"key": ["1"], "value": 2}',
        b"[1]",
        b"null",
        b'{"key": "1", "value": "\xff"}',
        b'{"key": "1", "val{"key": "2", "value": 1}',
    ],
)
def test_a_broken_line_in_the_middle_is_told(file: Path, line: bytes) -> None:
    journal = Journal(file, ABOUT)
    journal.write("0", "kept")
    broken = file.read_bytes() + line + b"\n"
    file.write_bytes(broken + b'{"key": "3", "value": 1}\n')
    with pytest.raises(
        TaskError, match=r"Line 3 of .*steered\.jsonl is not what was .* Remove that"
    ):
        Journal(file, ABOUT)
    file.write_bytes(broken.removesuffix(line + b"\n"))
    assert Journal(file, ABOUT).known == {"0": "kept"}, "that advice helps"


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({**ABOUT, "model": "other"}, 'its model is "tiny", and now it is "other"'),
        ({**ABOUT, "heads": {"0": (1,)}}, r'its heads is {"0": \[1, 2\]}, and now'),
        ({**ABOUT, "alpha": 0.1}, "its alpha is 0.01, and now it is 0.1. Choose another folder"),
        ({**ABOUT, "new": "x" * 200}, "its new is null, and now it is .x{99}…"),
        ({"model": "tiny"}, "its alpha is 0.01, and now it is null"),
    ],
)
def test_work_of_another_run_is_not_used(file: Path, about: dict[str, Any], message: str) -> None:
    Journal(file, ABOUT).write("1", "a")
    before = file.read_bytes()
    with pytest.raises(TaskError, match=f"holds the work of another run: {message}"):
        Journal(file, about)
    assert file.read_bytes() == before


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_of_a_file_cut_anywhere_whole_pieces_are_kept(pieces: dict[str, Any], cut: int) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "any.jsonl"
        journal = Journal(file, ABOUT)
        for key, value in pieces.items():
            journal.write(key, value)
        assert Journal(file, ABOUT).known == pieces
        kept = file.read_bytes()[: max(len(file.read_bytes()) - cut, 0)]
        file.write_bytes(kept)
        known = Journal(file, ABOUT).known
        whole = max(kept.count(b"\n") - 1, 0)
        assert list(known.items()) == list(pieces.items())[:whole]
        for key, value in pieces.items():
            Journal(file, ABOUT).write(key, value)
        assert Journal(file, ABOUT).known == pieces
