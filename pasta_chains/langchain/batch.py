"""Calls that run at once, answered in one batch of the model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from ..errors import PastaError
from ..generation import Generation
from ..prompts import Prompt
from ..streaming import Cancelled
from .options import Call

Answers = Sequence[Generation]


@dataclass
class _Asked:
    prompt: Prompt
    call: Call
    answers: Future[Answers] = field(default_factory=Future)


class Batch:
    """Waits until each of its calls has asked or has ended, and then answers all that asked.

    LangChain runs callbacks, caches and errors of each call for itself; only the model's part is
    done together. Every call has a seat, and must leave it.

    Args:
        size: How many calls there are. All of them must be running at once.
    """

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._awaited = size
        self._asked: list[_Asked] = []
        self._wanted = 0
        self._cancelled = Cancelled()

    def ask(self, prompt: Prompt, call: Call) -> Future[Answers]:
        """Ask for an answer; who asks last answers all."""
        asked = _Asked(prompt, call)
        with self._lock:
            self._asked.append(asked)
            self._wanted += 1
            due = self._arrive()
        self._answer(due)
        return asked.answers

    def do_without(self) -> None:
        """Tell that a call has ended and asked nothing: it failed before, or was in a cache."""
        with self._lock:
            due = self._arrive()
        self._answer(due)

    def give_up(self) -> None:
        """Tell that a call that asked wants no answer; when none does, the model stops."""
        with self._lock:
            self._wanted -= 1
            nobody = not self._wanted and not self._awaited
        if nobody:
            self._cancelled.set()

    def _arrive(self) -> list[_Asked]:
        self._awaited -= 1
        if self._awaited:
            return []
        due, self._asked = self._asked, []
        return due

    def _answer(self, due: Sequence[_Asked]) -> None:
        while due:
            alike = [asked for asked in due if asked.call == due[0].call]
            due = [asked for asked in due if asked.call != due[0].call]
            try:
                _share(alike, self._run(alike))
            except PastaError:
                self._one_by_one(alike)  # whose error it is shows
            except BaseException as error:  # handed to those who wait
                for asked in alike:
                    asked.answers.set_exception(error)

    def _run(self, alike: Sequence[_Asked]) -> Answers:
        call = alike[0].call
        given = call.arguments.get("stopping_criteria", ())
        stopping = {"stopping_criteria": [*given, self._cancelled]}
        call = replace(call, arguments={**call.arguments, **stopping})
        return call.run([asked.prompt for asked in alike])

    def _one_by_one(self, alike: Sequence[_Asked]) -> None:
        for asked in alike:
            try:
                asked.answers.set_result(self._run([asked]))
            except BaseException as error:  # handed to who waits
                asked.answers.set_exception(error)


def _share(alike: Sequence[_Asked], answers: Answers) -> None:
    copies = len(answers) // len(alike)
    for number, asked in enumerate(alike):
        asked.answers.set_result(answers[number * copies : (number + 1) * copies])


class Seat:
    """One call's place in a batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._asked = False

    def ask(self, prompt: Prompt, call: Call) -> Future[Answers]:
        """Ask for an answer."""
        self._asked = True
        return self._batch.ask(prompt, call)

    def give_up(self) -> None:
        """Want no answer any more."""
        self._batch.give_up()

    def leave(self) -> None:
        """End the call."""
        if not self._asked:
            self._asked = True
            self._batch.do_without()
