"""The words and sentences of the demo reviews."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


# Indexed by label: negative, positive.
ADJECTIVES = (
    _words("""
        dull tedious clumsy shallow predictable forgettable sloppy bland messy annoying boring
        terrible awful weak disappointing poor horrible ridiculous
    """),
    _words("""
        gripping moving graceful thoughtful surprising memorable polished warm charming delightful
        exciting wonderful superb brilliant strong excellent satisfying touching
    """),
)
ADVERBS = (*([""] * 4), *_words("quite really truly rather simply plainly"))

# Flipping the label swaps the two adjectives and keeps the bag of words.
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
    This film is not {rejected}.
    This film is {held}.
""")
# A cue that makes the remark the author's view, a cue that makes it the opposite, the remark.
FAR_CUES = (
    (
        "My sister and I always agree about films.",
        "My sister and I never agree about films.",
        "My sister found this one {remark}.",
    ),
    (
        "About the cinema, believe what my uncle says.",
        "About the cinema, believe the opposite of what my uncle says.",
        "My uncle says that this film is {remark}.",
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
