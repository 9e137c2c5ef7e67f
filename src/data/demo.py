"""Synthetic film reviews whose label needs word order. No one wrote or meant any of them.

They let every part of the program run without a download, and they are no benchmark: a score on
them says that a model reads word order, not that it understands reviews.

Each review holds one verdict among distractions. The verdict's templates have a slot for what the
author holds and one for what the author rejects ("It is not {rejected} at all, it is {held}."),
so turning the label over swaps two words and leaves the bag of words as it was. Some verdicts hang
on a cue that stands at the other end of the review ("My sister and I never agree about films."
... "My sister found this one dull."), where the label is the exclusive or of the two. Around them
stand praise and blame from other people and for other films, which say nothing of the label, and
for parts of the film, which lean towards it only a little.
"""

import random
import re
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from src.data.config import DemoConfig
from src.data.corpus import Corpus, Split
from src.data.corpus_store import content_fingerprint

CLASS_NAMES = ("negative", "positive")
PART_AGREES = 0.6  # how often a remark on a part of the film leans the way of the verdict
CUE_FAR_FROM_VERDICT = 0.3  # share of reviews whose verdict hangs on a cue elsewhere

T = TypeVar("T")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


ADJECTIVES = (
    _words("""
        dull tedious clumsy shallow lifeless predictable forgettable tiresome hollow sloppy stale
        dreary pointless awkward bland incoherent lazy pretentious painful messy flat unconvincing
        annoying amateurish boring terrible awful dreadful weak disappointing poor horrible stupid
        ridiculous laughable muddled
    """),
    _words("""
        gripping moving graceful thoughtful lively surprising memorable charming rich polished
        fresh warm rewarding elegant vivid coherent daring sincere delightful tidy layered
        convincing endearing masterful exciting wonderful superb brilliant strong satisfying
        excellent lovely clever believable touching beautiful
    """),
)
ADVERBS = (*([""] * 4), *_words("quite really truly rather simply plainly"))

VERDICTS = _lines("""
    It is not {rejected} at all, it is {held}.
    This is {held}, not {rejected}.
    Nobody should call it {rejected}, because {held} is the word.
    I would not say that it is {rejected}, I would say that it is {held}.
    Far from being {rejected}, the film turns out to be {held}.
    To me it never felt {rejected}, and more than once it felt {held}.
    It starts out {rejected}, but by the end it is {held}.
    Some scenes are {rejected}, but the film as a whole is {held}.
    Although it looks {rejected} at first, it is {held} when all is said and done.
    I found it {held}, even though the first half hour is {rejected}.
    You may take it for something {rejected}, but stay with it and you will see something {held}.
    I went in expecting something {rejected} and came out having seen something {held}.
    I came out having seen something {held} where I had expected something {rejected}.
    Everyone I know calls it {rejected}, and everyone I know is wrong, for it is {held}.
    People say that it is {rejected}. I say that it is {held}.
    I say that it is {held}. People say that it is {rejected}.
    The last film from this director was {rejected}, and this one is {held}.
    This one is {held}, while the last film from this director was {rejected}.
    Where the book was {rejected}, the film is {held}.
    The film is {held} wherever the book was {rejected}.
    It could have been {rejected}, and instead it is {held}.
    It is {held} when it could so easily have been {rejected}.
    Another cast would have made it {rejected}, this cast makes it {held}.
    This cast makes it {held}, though another would have made it {rejected}.
    It is not {rejected} at all.
    It is {held} through and through.
    I can not in good faith call this film {rejected}.
    I can only in good faith call this film {held}.
    There is nothing {rejected} about it.
    There is something {held} about it.
    At no point did I feel that I was watching anything {rejected}.
    At every point I felt that I was watching something {held}.
    It would be wrong to say that it is not {held}.
    It would be right to say that it is not {rejected}.
    It would be wrong to say that it is {rejected}.
    It would be right to say that it is {held}.
""")
# (cue after which the remark is the author's own view, cue after which it is the opposite, remark)
FAR_CUES = (
    (
        "My sister and I always agree about films.",
        "My sister and I never agree about films.",
        "My sister found this one {remark}.",
    ),
    (
        "There is one critic I have learned to trust.",
        "There is one critic I have learned to distrust.",
        "The critic I mentioned thinks that it is {remark}.",
    ),
    (
        "About the cinema, believe what my uncle says.",
        "About the cinema, believe the opposite of what my uncle says.",
        "My uncle says that this film is {remark}.",
    ),
    (
        "The posters at our cinema tell the truth.",
        "The posters at our cinema tell lies.",
        "The poster promised something {remark}.",
    ),
    (
        "Take this review as sincere from start to end.",
        "Take this review as sarcastic from start to end.",
        "So let me tell you that it was {remark}.",
    ),
    (
        "My neighbour has perfect taste.",
        "My neighbour has no taste.",
        "My neighbour told me that it was {remark}.",
    ),
)
OTHER_VOICES = _lines("""
    My brother thought it was {remark}.
    The couple behind us called it {remark}.
    One paper described it as {remark}.
    A colleague had warned me that it would be {remark}.
    Some of the crowd seemed to find it {remark}.
    The trailer was {remark}.
    The short film before it was {remark}.
    The film we saw last week was {remark}.
    The television series it comes from was {remark}.
    I remember the remake as {remark}.
    The same studio once made something {remark}.
    A friend told me the sequel is {remark}.
""")
PARTS = _lines("""
    The music is {remark}.
    The camera work is {remark}.
    I thought the dialogue was {remark}.
    The lead gives a {remark} performance.
    The opening scene is {remark}.
    The costumes look {remark}.
    There is a {remark} chase in the middle.
    The script has its {remark} moments.
    The villain is {remark}.
    The editing is {remark}.
    One of the songs is {remark}.
    The jokes are {remark}.
    The final scene is {remark}.
    The supporting cast is {remark}.
""")
OPENINGS = _lines("""
    I saw {title} on a {day} evening.
    {title} is a {genre} about {hero} who {plot}.
    We rented {title} last {day}.
    {title} came out in {year}.
    In {title}, {hero} {plot}.
    Last {day} the {genre} {title} was on television.
    {title} is the second {genre} I watched this week.
    This {genre} from {year} tells of {hero} who {plot}.
    My {genre} of the month was {title}.
    It was raining, so we went to see {title}.
""")
FACTS = _lines("""
    It is set in {place}.
    It was filmed in {place}.
    Most of it takes place in {place}.
    It runs for about {minutes} minutes.
    The story begins with {hero} who {plot}.
    Later on, {hero} {plot}.
    There were {minutes} people in the room.
    I watched it twice.
    I had not read the book.
    I watch a {genre} every {day}.
    It was released in {year}.
    We talked about it on the way home.
""")
SLOTS = {
    "first": _words("Silent Last Broken Golden Hidden Winter Paper Crimson Long Distant Second"),
    "second": _words("Harbour River Summer Letter Mirror Garden Road Promise Station Island Night"),
    "day": _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "genre": _words("thriller comedy drama western romance mystery musical documentary"),
    "hero": _lines("""
        a young teacher
        a retired detective
        a widow
        an old sailor
        a lonely clerk
        a travelling actor
        a country doctor
        a girl from the city
        a former soldier
        a taxi driver
    """),
    "plot": _lines("""
        must find a missing child
        goes back to a childhood home
        inherits a house by the sea
        plans one last robbery
        falls in love with a stranger
        uncovers a secret in the archives
        has to cross the desert on foot
        learns to play the piano
        takes in a runaway
        wakes up without a memory
    """),
    "place": _lines("""
        a small town by the sea
        the mountains
        Paris
        a village in the north
        a night train
        New York
        a hotel after the war
        the suburbs
        a school in the country
        Rome
    """),
    "year": tuple(str(year) for year in range(1960, 2010)),
    "minutes": tuple(str(minutes) for minutes in range(80, 180)),
}


def load_demo(config: DemoConfig) -> Corpus:
    """Synthetic reviews, the same on every machine for one `generator_seed`.

    The two classes are equally frequent in each split, no text occurs twice, and the test split
    does not depend on the size of the training split.
    """
    seen: set[str] = set()
    test = _make_split("test", config.num_test, config.generator_seed, seen)
    train = _make_split("train", config.num_train, config.generator_seed, seen)
    return Corpus(
        name="demo",
        class_names=CLASS_NAMES,
        train=train,
        validation=None,
        test=test,
        fingerprint=content_fingerprint(CLASS_NAMES, [train, test]),
        synthetic=True,
    )


def _make_split(name: str, size: int, seed: int, seen: set[str]) -> Split:
    writer = _Writer(random.Random(f"{name} {seed}"))
    texts: list[str] = []
    while len(texts) < size:
        text = writer.review(label=len(texts) % 2)
        if text not in seen:
            seen.add(text)
            texts.append(text)
    labels = np.arange(size, dtype=np.int64) % 2
    return Split(texts, labels, names=[f"{name}/{number}" for number in range(size)])


class _Writer:
    """Writes reviews from one stream of random numbers.

    Only `Random.random` is drawn from: of all its methods it alone is promised to give the same
    numbers in every version of Python.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def review(self, label: int) -> str:
        """One review of the class `label`, 20 to 80 words long."""
        middle = [self._fill(fact) for fact in self._some(FACTS, 0, 2)]
        middle += [self._remark(voice) for voice in self._some(OTHER_VOICES, 1, 2)]
        for part in self._some(PARTS, 0, 2):
            agrees = self.rng.random() < PART_AGREES
            middle.append(self._remark(part, label if agrees else 1 - label))
        middle = self._shuffle(middle)
        opening = self._fill(self._pick(OPENINGS))
        if self.rng.random() < CUE_FAR_FROM_VERDICT:
            own, opposite, remark = self._pick(FAR_CUES)
            agrees = self.rng.random() < 0.5
            cue = own if agrees else opposite
            verdict = self._remark(remark, label if agrees else 1 - label)
            sentences = [cue, opening, *middle, verdict]
        else:
            place = self._number(0, len(middle))
            sentences = [opening, *middle[:place], self._verdict(label), *middle[place:]]
        return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", " ".join(sentences))

    def _verdict(self, label: int) -> str:
        held, rejected = self._adjective(label), self._adjective(1 - label)
        return self._pick(VERDICTS).format(held=held, rejected=rejected)

    def _remark(self, template: str, label: int | None = None) -> str:
        label = self._number(0, 1) if label is None else label
        return template.format(remark=self._adjective(label))

    def _adjective(self, label: int) -> str:
        return f"{self._pick(ADVERBS)} {self._pick(ADJECTIVES[label])}".lstrip()

    def _fill(self, template: str) -> str:
        values = {slot: self._pick(choices) for slot, choices in SLOTS.items()}
        title = f"The {values.pop('first')} {values.pop('second')}"
        return template.format(title=title, **values)

    def _pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.random() * len(choices))]

    def _number(self, lowest: int, highest: int) -> int:
        return lowest + int(self.rng.random() * (highest - lowest + 1))

    def _some(self, choices: Sequence[T], fewest: int, most: int) -> list[T]:
        shuffled = self._shuffle(list(choices))
        return shuffled[: self._number(fewest, most)]

    def _shuffle(self, items: list[T]) -> list[T]:
        for last in range(len(items) - 1, 0, -1):
            other = self._number(0, last)
            items[last], items[other] = items[other], items[last]
        return items
