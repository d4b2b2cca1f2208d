"""The synthetic world of the embedded model: facts, documents, and questions about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from .filler import decorate, filler, loosen
from .relations import Relation, draw_relation, entity_of, value_of


@dataclass(frozen=True)
class Fact:
    """One statement: what it says, and the sentence that says it."""

    relation: Relation
    entity: str
    value: str
    sentence: str

    @property
    def topic(self) -> tuple[str, str]:
        """Facts with equal topics and different values contradict each other."""
        return self.relation.key, self.entity


@dataclass(frozen=True)
class Question:
    """A question about documents.

    Attributes:
        text: The question.
        answers: For each document that answers it, `(document index, fact)`; empty when none does.
    """

    text: str
    answers: tuple[tuple[int, Fact], ...]


@dataclass(frozen=True)
class Reading:
    """Some documents and questions about them."""

    documents: tuple[str, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Difficulty:
    """How much there is to read.

    Attributes:
        documents: Fewest and most documents.
        sentences: Fewest and most sentences of a document.
        questions: Most questions about one set of documents.
        conflicts: Share of readings in which two documents disagree about one topic.
        unanswerable: Share of questions that no document answers.
    """

    documents: tuple[int, int] = (2, 8)
    sentences: tuple[int, int] = (1, 4)
    questions: int = 6
    conflicts: float = 0.5
    unanswerable: float = 0.12


@dataclass
class World:
    """Draws facts and readings.

    Attributes:
        rng: Where all chance comes from; equal seeds draw equal worlds.
        held_out: Draw names from the space that training never uses.
        new_phrasings: Share of statements and questions phrased in the held-out way.
        loosened: Share of statements and questions with meaningless words between their own.
        value_first: Share of statements drawn from those that give the value first, besides those
            drawn by chance: they are the hardest to learn.
        lookalikes: Share of facts that say of something else what another fact of the reading says
            of its entity. Retrieved documents are like that.
    """

    rng: Random
    held_out: bool = False
    new_phrasings: float = 0.0
    loosened: float = 0.0
    value_first: float = 0.0
    lookalikes: float = 0.0
    _subjects: list[tuple[str, str]] = field(default_factory=list)
    _relations: list[Relation] = field(default_factory=list)

    def reading(self, difficulty: Difficulty) -> Reading:
        """Draw documents and questions about them."""
        rng = self.rng
        self._subjects.clear()
        self._relations.clear()
        documents = self._documents(difficulty)
        if len(documents) > 1 and rng.random() < difficulty.conflicts:
            self._contradict(documents)
        facts = [(i, s) for i, doc in enumerate(documents) for s in doc if isinstance(s, Fact)]
        questions = self._questions(facts, difficulty)
        texts = tuple(
            " ".join(s.sentence if isinstance(s, Fact) else s for s in doc) for doc in documents
        )
        return Reading(texts, tuple(questions))

    def fact(self, relation: Relation, entity: str, value: str | None = None) -> Fact:
        """State a relation of an entity in one of its phrasings."""
        rng = self.rng
        if value is None:
            value = value_of(relation.value, rng, held_out=self.held_out)
        new = rng.random() < self.new_phrasings
        pattern = relation.statement(value, rng, held_out=new, value_first=self.value_first)
        sentence = _sentence(self._loosen(pattern).format(e=entity, v=value))
        sentence = _sentence(decorate(sentence, rng, held_out=self.held_out))
        return Fact(relation, entity, value, sentence)

    def _loosen(self, pattern: str) -> str:
        return loosen(pattern, self.rng) if self.rng.random() < self.loosened else pattern

    def _documents(self, difficulty: Difficulty) -> list[list[Fact | str]]:
        rng = self.rng
        topics: set[tuple[str, str]] = set()
        documents: list[list[Fact | str]] = []
        for _ in range(rng.randint(*difficulty.documents)):
            document: list[Fact | str] = []
            for position in range(rng.randint(*difficulty.sentences)):
                if position and rng.random() < 0.25:
                    document.append(filler(rng, held_out=self.held_out))
                else:
                    document.append(self._new_fact(topics))
            rng.shuffle(document)
            documents.append(document)
        return documents

    def _new_fact(self, topics: set[tuple[str, str]]) -> Fact:
        """A fact about something new, or about something that the documents mention already."""
        rng = self.rng
        while True:
            alike = bool(self.lookalikes and self._relations) and rng.random() < self.lookalikes
            if alike:
                relation = rng.choice(self._relations)
            else:
                relation = draw_relation(rng, held_out=self.held_out)
            known = [name for kind, name in self._subjects if kind == relation.entity]
            if known and not alike and rng.random() < 0.4:
                entity = rng.choice(known)
            else:
                entity = entity_of(relation.entity, rng, held_out=self.held_out)
            if (relation.key, entity) in topics:
                continue
            topics.add((relation.key, entity))
            self._subjects.append((relation.entity, entity))
            self._relations.append(relation)
            return self.fact(relation, entity)

    def _contradict(self, documents: list[list[Fact | str]]) -> None:
        """Let a second document state another value for a fact of a first."""
        rng = self.rng
        first = rng.randrange(len(documents))
        second = rng.choice([i for i in range(len(documents)) if i != first])
        fact = rng.choice([s for s in documents[first] if isinstance(s, Fact)])
        other = self.fact(fact.relation, fact.entity)
        while other.value == fact.value:
            other = self.fact(fact.relation, fact.entity)
        document = documents[second]
        if len(document) > 1 and rng.random() < 0.7:
            document[rng.randrange(len(document))] = other
        else:
            document.insert(rng.randint(0, len(document)), other)
            if len(document) > 4:
                document.remove(next(s for s in document if s is not other))

    def _questions(self, facts: list[tuple[int, Fact]], difficulty: Difficulty) -> list[Question]:
        rng = self.rng
        by_topic: dict[tuple[str, str], list[tuple[int, Fact]]] = {}
        for index, fact in facts:
            by_topic.setdefault(fact.topic, []).append((index, fact))
        asked = rng.sample(sorted(by_topic), min(len(by_topic), difficulty.questions))
        conflicting = [topic for topic, found in by_topic.items() if len(found) > 1]
        asked = conflicting + [topic for topic in asked if topic not in conflicting]
        if rng.random() < 0.2:
            asked = asked[:1]
        questions = [self._ask(by_topic[topic][0][1], tuple(by_topic[topic])) for topic in asked]
        questions = [
            self._unanswerable(facts) if rng.random() < difficulty.unanswerable else question
            for question in questions
        ]
        rng.shuffle(questions)
        return questions

    def _ask(self, fact: Fact, answers: tuple[tuple[int, Fact], ...]) -> Question:
        rng = self.rng
        text = self._loosen(fact.relation.question(rng, held_out=rng.random() < self.new_phrasings))
        return Question(_sentence(text.format(e=fact.entity)), answers)

    def _unanswerable(self, facts: list[tuple[int, Fact]]) -> Question:
        """Ask about a known entity and another relation, or a known relation and another entity."""
        rng = self.rng
        fact = rng.choice(facts)[1]
        topics = {known.topic for _, known in facts}
        while True:
            entity, relation = fact.entity, fact.relation
            if rng.random() < 0.5:
                relation = draw_relation(rng, held_out=self.held_out)
            if relation.entity != fact.relation.entity or relation.key == fact.relation.key:
                entity = entity_of(relation.entity, rng, held_out=self.held_out)
            if (relation.key, entity) not in topics:
                return self._ask(Fact(relation, entity, "", ""), ())


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
