"""Names and words of the synthetic world that the embedded model is trained on.

Made-up words are drawn from an unbounded space, so a model can only copy them. A fixed eighth of
that space, chosen by a checksum of the word, is never used in training: held-out questions are
made of those words alone, and the split needs no stored list.
"""

from __future__ import annotations

import zlib
from random import Random

_ONSETS = (
    "b b c d d f g h j k k l l m m n n p r r s s t t v w y z br ch cl dr fl fr gl gr kl kr pl pr "
    "qu sh sk sl st str th tr vl"
).split()
_VOWELS = "a a a e e e i i o o u ai ea ei ia ie oa oo".split()
_CODAS = "d k l l m n n n r r r s t ck ld ll lm nd ng nk nt rd rk rn rt sk ss st th x".split()
_PERSON_ENDINGS = "a o i e an en in us ar el on ina ela sson berg mann ez".split()
_PLACE_ENDINGS = "ia ford burg ton dal holm mouth stad wick port ville ham by".split()
_REAL_FIRST_NAMES = (
    "Adam Aisha Alice Ana Anna Ben Carla Carlos Chen Clara Daniel David Diego Elena Emma Eva "
    "Farid Fatima Felix George Grace Hana Hugo Ibrahim Ines Ivan Jack James Jane John Jonas Julia "
    "Karim Kenji Laura Lena Leo Lin Lucas Lucy Maria Mark Martin Mary Mei Mina Nadia Noah Nora "
    "Olga Oscar Paul Peter Priya Rafael Rosa Ruth Samir Sara Simon Sofia Tariq Thomas Tom Vera Yuki"
).split()

ADJECTIVES = (
    "amber ancient black blue bright broad broken bronze calm cedar central clear cold copper "
    "crimson crooked crystal dark deep distant dry eastern early empty fair final first flat "
    "frozen gentle glass golden grand gray great green happy heavy hidden high hollow honest "
    "inner iron ivory jade large late little long lower lucky main marble middle morning narrow "
    "new noble northern old open outer pale plain proud public quiet rapid red royal rusty "
    "salt sandy second secret sharp short silent silver simple slow small smooth soft southern "
    "stone striped strong summer sunny tall third upper velvet warm western white wide wild "
    "windy winter wooden yellow young"
).split()
NOUNS = (
    "anchor apple arrow badger barley basket beacon bell birch boat bottle branch bridge brook "
    "camel candle canyon castle cedar circle clay cliff clock cloud clover coast comet coral "
    "corner crane creek crown cup daisy deer desert door dove dragon drum eagle elm falcon farm "
    "feather fern field finch flame flower forest fountain fox garden gate ginger goose grove "
    "hammer harbor hare hawk hazel heron hill hive horse island ivy kettle key lake lamp lantern "
    "lark leaf lemon lily lion lotus maple meadow mill mirror moon moss mountain needle oak ocean "
    "olive orchard otter owl palm peach pearl pepper pigeon pine pond poplar rabbit rain raven "
    "reed ribbon river robin rocket rose saddle sail seal shell shore sky sparrow spring spruce "
    "star stone storm stream summit sun swan tiger tower trail tree tulip tunnel valley violet "
    "walnut water wave whale wheel willow wind wolf wren"
).split()
PLACE_KINDS = (
    "academy airport archive arena bakery bank bridge cafe canal castle cathedral chapel cinema "
    "clinic club college dam factory farm ferry festival foundry gallery garden hall harbor "
    "hospital hotel house inn laboratory library lighthouse market mill mine monastery museum "
    "observatory office orchard palace park plant pool port quarry railway reservoir restaurant "
    "road school shipyard shop square stadium station studio temple theater tower tunnel "
    "university village vineyard warehouse workshop zoo"
).split()
COLORS = "red blue green yellow white black orange purple brown gray pink silver gold".split()
MATERIALS = (
    "oak brick granite glass steel copper bamboo clay leather linen marble paper pine rubber "
    "sandstone silk slate tin wool concrete cotton ivory iron bronze"
).split()
PROFESSIONS = (
    "actor architect artist baker banker biologist carpenter chef chemist clerk coach dancer "
    "dentist doctor driver engineer farmer fisherman gardener geologist guard hunter jeweler judge "
    "lawyer librarian mechanic miner musician nurse painter pharmacist photographer pilot plumber "
    "poet potter sailor sculptor singer soldier surgeon tailor teacher translator waiter weaver "
    "writer"
).split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def is_held_out(word: str) -> bool:
    """Whether a made-up word belongs to the eighth that training never uses."""
    return zlib.crc32(word.lower().encode()) % 8 == 0


def _syllables(rng: Random, count: int) -> str:
    parts = []
    for position in range(count):
        last = position == count - 1
        coda = rng.choice(_CODAS) if last and rng.random() < 0.6 else ""
        parts.append(rng.choice(_ONSETS) + rng.choice(_VOWELS) + coda)
    return "".join(parts)


def made_up_word(rng: Random, *, held_out: bool, endings: tuple[str, ...] = ()) -> str:
    """A lower-case word that no language has, from the training or the held-out space."""
    while True:
        if rng.random() < 0.04:
            letters = "abcdefghijklmnopqrstuvwxyz"
            word = "".join(rng.choice(letters) for _ in range(rng.randint(3, 7)))
        elif endings and rng.random() < 0.5:
            word = _syllables(rng, 1) + rng.choice(endings)
        else:
            word = _syllables(rng, rng.choice((1, 2, 2, 2, 3)))
        if 3 <= len(word) <= 11 and is_held_out(word) == held_out:
            return word


def person(rng: Random, *, held_out: bool) -> str:
    """A first and a last name; the last is made up, the first sometimes a common one."""
    endings = tuple(_PERSON_ENDINGS)
    common = not held_out and rng.random() < 0.3
    first = (
        rng.choice(_REAL_FIRST_NAMES)
        if common
        else made_up_word(rng, held_out=held_out, endings=endings).capitalize()
    )
    last = made_up_word(rng, held_out=held_out, endings=endings).capitalize()
    if rng.random() < 0.05:
        return f"{rng.choice(('Dr.', 'Captain', 'Professor', 'Judge'))} {last}"
    if rng.random() < 0.03:
        return f"{first} {rng.choice('ABCDEFGHJKLMNPRSTW')}. {last}"
    return f"{first} {last}"


def place(rng: Random, *, held_out: bool) -> str:
    """A made-up town or country."""
    name = made_up_word(rng, held_out=held_out, endings=tuple(_PLACE_ENDINGS)).capitalize()
    prefix = rng.choice(("", "", "", "", "", "", "North ", "New ", "Port ", "Lake "))
    return prefix + name


def company(rng: Random, *, held_out: bool) -> str:
    """A company, with or without a legal form."""
    name = made_up_word(rng, held_out=held_out).capitalize()
    return name + rng.choice(("", "", "", " Labs", " Foods", " Group", " Motors", " Works"))


def landmark(rng: Random, *, held_out: bool) -> str:
    """A building or institution, such as "the Cedar Tower" or "the Varn bridge"."""
    shape = rng.random()
    kind = rng.choice(PLACE_KINDS)
    if not held_out and shape < 0.3:
        return f"the {rng.choice(ADJECTIVES + NOUNS).capitalize()} {kind.capitalize()}"
    name = made_up_word(rng, held_out=held_out).capitalize()
    if shape < 0.5:
        return f"the {name} {kind}"
    if shape < 0.6:
        return f"the {kind} on {name} Street"
    if shape < 0.7:
        return f"the {kind} of {name}"
    return f"the {name} {kind.capitalize()}"


def work(rng: Random, *, held_out: bool) -> str:
    """A ship, project, book or band."""
    shape = rng.random()
    name = made_up_word(rng, held_out=held_out).capitalize()
    noun, adjective = rng.choice(NOUNS).capitalize(), rng.choice(ADJECTIVES).capitalize()
    if not held_out and shape < 0.3:
        return f"the {adjective} {noun}"
    if shape < 0.5:
        return f"Project {name}"
    if shape < 0.75:
        return f"the {name}"
    return f"the {name} {noun}" if shape < 0.9 else f"the {adjective} {name}"


def year(rng: Random) -> str:
    return str(rng.randint(1700, 2029))


def number(rng: Random) -> str:
    shape = rng.random()
    if shape < 0.5:
        return str(rng.randint(2, 99))
    return (
        str(rng.randint(100, 999))
        if shape < 0.8
        else f"{rng.randint(1, 99)},{rng.randint(0, 999):03d}"
    )


def code(rng: Random, *, held_out: bool) -> str:
    """A password or reference such as "varn-42" or "KX381"."""
    if rng.random() < 0.5:
        return f"{made_up_word(rng, held_out=held_out)}-{rng.randint(10, 99)}"
    return "".join(rng.choice("ABCDEFGHKLMNPRSTVXZ") for _ in range(2)) + str(rng.randint(100, 999))


def clock_time(rng: Random) -> str:
    return f"{rng.randint(1, 12)}:{rng.choice(('00', '15', '30', '45'))}"


def date(rng: Random) -> str:
    return f"{rng.choice(MONTHS)} {rng.randint(1, 28)}"


def thing(rng: Random, *, held_out: bool) -> str:
    """A small noun phrase such as "a silver kettle" or "zorbel oil"."""
    if not held_out and rng.random() < 0.6:
        return f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    return f"{made_up_word(rng, held_out=held_out)} {rng.choice(NOUNS)}"
