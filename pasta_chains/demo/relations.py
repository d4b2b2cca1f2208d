"""What can be said of the synthetic world, and how: relations and their phrasings.

`{e}` is the entity a question is about, `{v}` the value that answers it. In every relation the
last statement and the last question are held out: training never uses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from . import names
from .filler import WORDS


@dataclass(frozen=True)
class Relation:
    """A kind of fact.

    Attributes:
        key: Tells relations apart: two facts of one entity with equal keys contradict each other.
        entity: Kind of thing the fact is about; a function name in `names`.
        value: Kind of thing that answers; a key of `value_of`.
        statements: Sentences with `{e}` and `{v}`. The first is how answers put it; the last is
            held out.
        questions: Questions with `{e}`; the last is held out.
    """

    key: str
    entity: str
    value: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]

    def answer(self, entity: str, value: str) -> str:
        """The sentence that answers a question about this relation."""
        text = self.statements[0].format(e=entity, v=value)
        return text[0].upper() + text[1:]

    def statement(
        self, value: str, rng: Random, *, held_out: bool, value_first: float = 0.0
    ) -> str:
        """Draw a phrasing of the statement that fits a value.

        Args:
            value: The value. One in small letters begins no sentence.
            rng: Where chance comes from.
            held_out: Take the phrasing that training never uses.
            value_first: Share drawn from the phrasings that give the value before what it belongs
                to, besides those that chance draws.
        """
        if held_out:
            return self.statements[-1]
        known = self.statements[:-1]
        if value[0].islower() and not value.startswith("the "):
            known = tuple(text for text in known if not text.startswith("{v}"))
        first = tuple(text for text in known if text.index("{v}") < text.index("{e}"))
        return rng.choice(first if first and rng.random() < value_first else known)

    def question(self, rng: Random, *, held_out: bool) -> str:
        """Draw a phrasing of the question."""
        return self.questions[-1] if held_out else rng.choice(self.questions[:-1])


def entity_of(kind: str, rng: Random, *, held_out: bool) -> str:
    """Draw a name for an entity of a kind."""
    makers = {
        "person": names.person,
        "place": names.place,
        "company": names.company,
        "landmark": names.landmark,
        "work": names.work,
    }
    return makers[kind](rng, held_out=held_out)


def value_of(kind: str, rng: Random, *, held_out: bool) -> str:
    """Draw a value of a kind."""
    if kind in ("person", "place", "company", "landmark", "work"):
        return entity_of(kind, rng, held_out=held_out)
    named = {"thing": names.thing, "code": names.code}
    if kind in named:
        return named[kind](rng, held_out=held_out)
    closed = {"year": names.year, "number": names.number, "time": names.clock_time}
    if kind in closed | {"date": names.date}:
        return (closed | {"date": names.date})[kind](rng)
    lists = {
        "color": names.COLORS,
        "material": names.MATERIALS,
        "profession": names.PROFESSIONS,
        "weekday": names.WEEKDAYS,
    }
    return rng.choice(lists[kind])


_FIXED = (
    Relation(
        "capital", "place", "place",
        ("The capital of {e} is {v}.", "{v} is the capital of {e}.", "{e} has a capital, {v}.",
         "{e} is governed from its capital, {v}.", "The capital city of {e} is {v}.",
         "{v} has long been the capital of {e}.", "In {e}, the capital is {v}."),
        ("What is the capital of {e}?", "{e} has which capital?",
         "Which city is the capital of {e}?",
         "Name the capital of {e}.", "What city is the capital of {e}?",
         "Where is {e} governed from?", "Which is the capital city of {e}?",
         "Which town is the capital of {e}?"),
    ),
    Relation(
        "born", "person", "place",
        ("{e} was born in {v}.", "{e} comes from {v}.", "{v} is the birthplace of {e}.",
         "{e} was born and raised in {v}.", "{e} is a native of {v}.",
         "{v} is where {e} was born.", "{e} grew up in {v}.", "The birthplace of {e} is {v}."),
        ("Where was {e} born?", "{e} was born where?", "In which town was {e} born?",
         "What is the birthplace of {e}?",
         "In what place was {e} born?", "What town is {e} from?", "Which town was {e} born in?",
         "Where does {e} come from?"),
    ),
    Relation(
        "birth year", "person", "year",
        ("{e} was born in {v}.", "The year of birth of {e} is {v}.", "In {v}, {e} was born.",
         "{e} has a year of birth: {v}.", "{e} was born in the year {v}."),
        ("When was {e} born?", "{e} was born when?", "In which year was {e} born?",
         "What is the birth year of {e}?",
         "What is the year of birth of {e}?", "Which year was {e} born in?",
         "What year was {e} born in?"),
    ),
    Relation(
        "profession", "person", "profession",
        ("{e} works as a {v}.", "{e} is a {v}.", "{e} earns a living as a {v}.",
         "By profession {e} is a {v}.", "The profession of {e} is {v}.",
         "The job of {e} is that of a {v}.", "As a {v}, {e} makes a living.",
         "For a living {e} works as a {v}."),
        ("What is the profession of {e}?", "{e} works as what?", "What does {e} do for a living?",
         "What is the job of {e}?", "What work does {e} do?", "What kind of work does {e} do?",
         "What is {e} by profession?", "As what does {e} work?"),
    ),
    Relation(
        "home", "person", "place",
        ("{e} lives in {v}.", "{e} has a house in {v}.", "The home of {e} is in {v}.",
         "{v} is where {e} lives.", "{e} makes a home in {v}.", "{v} is home to {e}.",
         "{e} has lived in {v} for years.", "The house of {e} is in {v}."),
        ("Where does {e} live?", "{e} lives where?", "In which town does {e} live?",
         "Where is the home of {e}?",
         "In what place does {e} live?", "Where has {e} lived for years?",
         "Which town is home to {e}?", "What town does {e} live in?"),
    ),
    Relation(
        "location", "landmark", "place",
        ("{e} is in {v}.", "{e} stands in {v}.", "{e} is located in {v}.",
         "You will find {e} in {v}.", "{v} is home to {e}.", "In {v} stands {e}.",
         "{e} can be seen in {v}.", "Guests find {e} in {v}.",
         "{e} lies in {v}.", "{e} can be found in {v}."),
        ("Where is {e}?", "{e} is where?", "In which town is {e}?", "Where can {e} be found?",
         "What town is {e} in?", "Where will you find {e}?", "Where is {e} located?",
         "Where does {e} stand?"),
    ),
    Relation(
        "opened", "landmark", "year",
        ("{e} opened in {v}.", "{e} has been open since {v}.", "{e} opened its doors in {v}.",
         "{e} was opened to the public in {v}.", "In {v}, {e} opened.",
         "{v} was the year when {e} opened.", "{e} was opened in {v}.", "{e} first opened in {v}."),
        ("When did {e} open?", "{e} opened in which year?", "In which year did {e} open?",
         "Since when has {e} been open?",
         "In what year was {e} opened?", "When was {e} opened?", "Which year did {e} open in?",
         "What year did {e} open in?"),
    ),
    Relation(
        "material", "landmark", "material",
        ("{e} is made of {v}.", "{e} was built from {v}.", "The builders of {e} used {v}.",
         "{e} has walls of {v}.", "{e} is built of {v}.", "{v} was used to build {e}.",
         "{e} consists of {v}.", "{e} was made of {v}."),
        ("What is {e} made of?", "{e} is made of what?", "What was used to build {e}?",
         "Which material is {e} made of?",
         "Of what is {e} built?", "What material was used for {e}?",
         "What are the walls of {e} made of?", "From what was {e} built?"),
    ),
    Relation(
        "color", "landmark", "color",
        ("{e} is painted {v}.", "The color of {e} is {v}.", "{e} has a color: {v}.",
         "{e} is {v} in color.", "{v} is the color of {e}.", "They painted {e} {v}.",
         "The walls of {e} are painted {v}."),
        ("What color is {e}?", "{e} is what color?", "What is the color of {e}?",
         "Which color is {e} painted?",
         "What color are the walls of {e}?", "What color did they paint {e}?",
         "What is the color on {e}?", "In what color is {e} painted?"),
    ),
    Relation(
        "headquarters", "company", "place",
        ("{e} is based in {v}.", "The headquarters of {e} are in {v}.",
         "{e} has its main office in {v}.", "{v} is where {e} is based.",
         "{e} has headquarters in {v}.", "{e} operates from {v}.",
         "The main office of {e} is in {v}."),
        ("Where is {e} based?", "{e} is based where?", "Where are the headquarters of {e}?",
         "Where does {e} have its main office?", "In what town are the headquarters of {e}?",
         "Which town is {e} based in?", "What is the home town of {e}?",
         "In which town is {e} based?"),
    ),
    Relation(
        "product", "company", "thing",
        ("{e} makes {v}.", "{e} sells {v}.", "The main product of {e} is {v}.",
         "{e} is known for its {v}.", "{e} produces {v}.", "{v} is the main product of {e}.",
         "What {e} sells is {v}.", "{e} makes and sells {v}."),
        ("What does {e} make?", "{e} makes what?", "What does {e} sell?",
         "What is the main product of {e}?",
         "What product does {e} sell?", "What is {e} known for?", "What does {e} produce?",
         "What is it that {e} makes?"),
    ),
    Relation(
        "leader", "company", "person",
        ("{e} is led by {v}.", "{v} leads {e}.", "The head of {e} is {v}.",
         "The director of {e} is {v}.", "In charge of {e} is {v}.", "{v} is in charge of {e}.",
         "{v} is the head of {e}.", "The leader of {e} is {v}.", "{e} is now led by {v}."),
        ("Who leads {e}?", "{e} is led by which person?", "Who is the head of {e}?",
         "Who is in charge of {e}?",
         "Who is the leader of {e}?", "Who is the director of {e}?", "Which person leads {e}?",
         "By whom is {e} led?"),
    ),
    Relation(
        "marriage", "person", "person",
        ("{e} is married to {v}.", "{e} married {v}.", "{e} has been married to {v}.",
         "{v} is married to {e}.", "{v} is the spouse of {e}.", "{e} took {v} as a spouse.",
         "{e} has {v} as a spouse.", "{e} has a spouse: {v}.", "{e} and {v} are married.",
         "The spouse of {e} is {v}."),
        ("Who is married to {e}?", "{e} is married to which person?", "Whom did {e} marry?",
         "With whom is {e} married?",
         "Who is the spouse of {e}?",
         "Who did {e} marry?", "Name the spouse of {e}.", "Who is the husband or wife of {e}?",
         "To whom is {e} married?"),
    ),
    Relation(
        "opening time", "landmark", "time",
        ("{e} opens at {v}.", "The doors of {e} open at {v}.", "{e} is open from {v}.",
         "At {v}, {e} opens.", "{e} opens its doors at {v}.", "The opening time of {e} is {v}.",
         "Every day {e} opens at {v}."),
        ("At what time does {e} open?", "{e} opens at what time?",
         "When do the doors of {e} open?", "When does {e} open?",
         "What time does {e} open?", "When is {e} open?", "What is the opening time of {e}?",
         "From what time is {e} open?"),
    ),
)  # fmt: skip

_PERSON_NOUNS = (
    "captain mayor keeper owner chief founder treasurer manager teacher guard winner "
    "designer architect author inventor pilot chair president secretary editor "
    "inspector host champion heir sponsor doctor coach patron guide clerk producer curator "
    "librarian cook gardener engineer minister ambassador governor chancellor commander"
).split()
_RANKS = "chief deputy first former head junior new senior lead acting second current".split()
_THING_NOUNS = (
    "symbol mascot emblem prize gift treasure specialty dish drink export crop animal bird flower "
    "tree fuel cargo motto signal tool weapon instrument secret ingredient souvenir"
).split()
_NUMBER_NOUNS = (
    "height length width budget price population capacity age cost weight depth score limit size "
    "fee speed staff distance salary rent tax fine quota"
).split()
_PLACE_NOUNS = (
    "port base birthplace origin destination seat venue twin neighbor rival supplier branch depot "
    "source terminus partner campus"
).split()
_DATE_NOUNS = (
    "deadline anniversary festival launch closing holiday opening review exam fair".split()
)
_CODE_NOUNS = "password code reference number key serial license ticket model passphrase".split()
_DAY_NOUNS = "market rest meeting delivery training cleaning".split()

_VERBS = (
    "designed designed", "built built", "painted painted", "bought bought", "sold sold",
    "founded founded", "opened opened", "closed closed", "restored restored", "found found",
    "visited visited", "discovered discovered", "invented invented", "wrote written",
    "directed directed", "planned planned", "funded funded", "repaired repaired", "won won",
    "stole stolen", "saved saved", "owned owned", "managed managed", "drew drawn", "named named",
    "inspected inspected", "praised praised", "started started", "moved moved", "chose chosen",
    "ordered ordered", "finished finished", "photographed photographed", "tested tested",
    "destroyed destroyed", "described described", "defended defended", "paid for paid for",
    "cleaned cleaned", "guarded guarded", "decorated decorated", "approved approved",
    "inherited inherited", "financed financed", "created created", "commissioned commissioned",
)  # fmt: skip
_ENTITY_KINDS = ("person", "place", "company", "landmark", "work")


def _noun_relation(noun: str, entity: str, value: str) -> Relation:
    word = "Who" if value == "person" else "What"
    return Relation(
        noun, entity, value,
        (f"The {noun} of {{e}} is {{v}}.", f"{{v}} is the {noun} of {{e}}.",
         f"{{e}} has {{v}} as its {noun}.", f"{{e}} has a {noun}: {{v}}.",
         f"The {noun} of {{e}} was {{v}}.", f"As its {noun}, {{e}} has {{v}}.",
         f"The {noun} that {{e}} has is {{v}}.", f"The {noun} of {{e}} is said to be {{v}}.",
         f"In {{e}}, the {noun} is {{v}}.", f"{{v}} was the {noun} of {{e}}.",
         f"{{v}} is known as the {noun} of {{e}}.", f"{{e}} and its {noun}: {{v}}.",
         f"{{e}} calls {{v}} its {noun}.", f"{{e}} had a {noun}, {{v}}.",
         f"At {{e}}, the {noun} is {{v}}.", f"As to {{e}}, its {noun} is {{v}}.",
         f"With {{e}}, the {noun} was {{v}}.", f"The {noun} in {{e}} is {{v}}.",
         f"For {{e}}, the {noun} is {{v}}."),
        (f"{word} is the {noun} of {{e}}?", f"Name the {noun} of {{e}}.",
         f"{word} does {{e}} have as its {noun}?", f"Tell me the {noun} of {{e}}.",
         f"{word} was the {noun} of {{e}}?", f"What do we know of the {noun} of {{e}}?",
         f"Do you know the {noun} of {{e}}?", f"Can you name the {noun} of {{e}}?",
         f"Say {word.lower()} the {noun} of {{e}} is.", f"{word} is known as the {noun} of {{e}}?",
         f"{word} is the {noun} in {{e}}?", f"{{e}} has a {noun}. {word} is it?",
         f"{{e}} has {word.lower()} as its {noun}?", f"Of {{e}}, {word.lower()} is the {noun}?",
         f"In {{e}}, {word.lower()} is the {noun}?", f"I want to know the {noun} of {{e}}.",
         f"Which {noun} does {{e}} have?",
         f"Can you say {word.lower()} the {noun} of {{e}} is?"),
    )  # fmt: skip


def _verb_relation(past: str, participle: str, entity: str) -> Relation:
    return Relation(
        past, entity, "person",
        (f"{{e}} was {participle} by {{v}}.", f"{{v}} {past} {{e}}.",
         f"{{e}} had been {participle} by {{v}}.", f"The one who {past} {{e}} was {{v}}.",
         f"{{e}} is said to have been {participle} by {{v}}.",
         f"{{v}} is the one who {past} {{e}}.", f"It was {{v}} who {past} {{e}}.",
         f"Those who know say that {{e}} was {participle} by {{v}}.",
         f"{{e}} was first {participle} by {{v}}.", f"By {{v}}, {{e}} was {participle}.",
         f"{{e}} has been {participle} by {{v}}.",
         f"{{e}} was once {participle} by {{v}}."),
        (f"Who {past} {{e}}?", f"{{e}} was {participle}. By whom?",
         f"{{e}} was {participle} by which person?", f"{{e}} had been {participle}. Who did it?",
         f"By whom was {{e}} {participle}?",
         f"Which person {past} {{e}}?", f"Who was it that {past} {{e}}?",
         f"Tell me who {past} {{e}}.", f"Do you know who {past} {{e}}?",
         f"Who has {participle} {{e}}?", f"Name the one who {past} {{e}}.",
         f"Who was the person who {past} {{e}}?", f"Who is said to have {participle} {{e}}?",
         f"{{e}} was {participle} by whom?"),
    )  # fmt: skip


def _loose_relation(rng: Random, noun: str, entity: str, value: str) -> Relation:
    """A statement of random words, in which only the words of the question find the value."""

    def some() -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 3)))

    known = ["{e}", noun]
    rng.shuffle(known)
    loose = f"{known[0]} {some()} {known[1]} {some()} {{v}}."
    canonical, question = f"The {noun} of {{e}} is {{v}}.", f"What is the {noun} of {{e}}?"
    return Relation(noun, entity, value, (canonical, loose, loose, loose), (question, question))


def draw_relation(rng: Random, *, held_out: bool) -> Relation:
    """Draw a relation: one with its own phrasings, or a noun or verb in a common frame."""
    shape = rng.random()
    if shape < 0.3:
        return rng.choice(_FIXED)
    if shape < 0.6:
        past, participle = _split_verb(rng.choice(_VERBS))
        return _verb_relation(past, participle, rng.choice(("landmark", "work", "company")))
    groups = (
        (_PERSON_NOUNS, "person"), (_PERSON_NOUNS, "person"), (_PERSON_NOUNS, "person"),
        (_THING_NOUNS, "thing"), (_NUMBER_NOUNS, "number"), (_PLACE_NOUNS, "place"),
        (_DATE_NOUNS, "date"), (_CODE_NOUNS, "code"), (_DAY_NOUNS, "weekday"),
    )  # fmt: skip
    nouns, value = rng.choice(groups)
    noun = rng.choice(nouns)
    if rng.random() < 0.12:
        noun = names.made_up_word(rng, held_out=held_out)
    elif value == "person" and rng.random() < 0.3:
        noun = f"{rng.choice(_RANKS)} {noun}"
    elif value == "weekday":
        noun = f"{noun} day"
    elif value == "date" or rng.random() < 0.15:
        noun = f"{rng.choice(names.ADJECTIVES)} {noun}" if rng.random() < 0.4 else noun
    if value == "date":
        noun = f"{noun} date"
    entity = rng.choice(_ENTITY_KINDS[1:])
    if not held_out and rng.random() < 0.12:
        return _loose_relation(rng, noun, entity, value)
    return _noun_relation(noun, entity, value)


def _split_verb(pair: str) -> tuple[str, str]:
    words = pair.split()
    half = len(words) // 2
    return " ".join(words[:half]), " ".join(words[half:])
