"""Words, names, numbers and file contents, split in two so that a bench can use unseen ones.

A word belongs to the training side or to the held-out side by its CRC-32, whoever makes it: a list
of common words and a syllable generator give both sides endless words that never meet.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

_COMMON = """
apples bread milk butter sugar flour rice salt pepper lemon honey coffee tea water juice cheese eggs
onions garlic carrots potatoes tomatoes beans corn peas soup cake pie chocolate vanilla cream yogurt
pasta noodles oil vinegar oats bananas grapes pears plums cherries melon mango spinach celery ham
house garden kitchen window door table chair lamp floor roof wall fence gate road bridge river lake
mountain forest beach island valley desert city village street market school office library museum
hospital station airport harbor farm barn field meadow pond hill cave castle tower church park square
dog cat horse cow sheep goat pig chicken duck goose rabbit fox wolf bear deer mouse bird eagle owl
fish whale shark snake frog turtle spider bee ant fly butterfly worm lion tiger elephant monkey
red green blue yellow orange purple black white brown pink gray silver golden bright dark light
quick slow big small tall short long wide narrow deep shallow heavy soft hard cold warm hot cool dry
wet clean dirty new old young early late happy sad angry calm quiet loud brave shy kind rude smart
run walk jump swim fly drive ride climb fall push pull carry throw catch build break open close start
stop wait watch listen speak read write draw paint sing dance play work rest sleep wake eat drink cook
bake wash dry fold pack ship send bring take give lend borrow buy sell pay owe save spend win lose
today tomorrow yesterday morning noon evening night week month year spring summer autumn winter
monday tuesday wednesday thursday friday saturday sunday january february march april june july august
one two three four five six seven eight nine ten hundred thousand first second third last next
project report budget invoice receipt order price total amount rate tax cost profit sales stock plan
meeting agenda notes minutes draft letter email memo summary list table chart graph data record log
config settings backup archive photo video music song album poster ticket menu recipe guide manual
team client customer partner manager teacher student doctor nurse lawyer farmer baker driver pilot
width height length depth weight size speed distance area volume age score count level limit target
alpha beta gamma delta sigma omega north south east west left right top bottom front back inner outer
apple server client port host user admin token session query index cache queue task job script module
paint brush hammer nail screw drill saw ladder rope chain wheel engine motor battery cable switch lamp
shirt pants socks shoes boots hat coat scarf glove belt dress skirt jacket sweater towel blanket pillow
book page chapter story poem novel paper pen pencil ink eraser ruler folder file box bag basket bottle
cup glass plate bowl spoon fork knife pot pan oven stove fridge freezer sink soap sponge broom bucket
rain snow wind storm cloud sun moon star sky fog ice fire smoke dust sand stone rock mud grass leaf
tree root branch flower rose tulip daisy seed fruit berry nut mushroom moss fern ivy oak pine maple
call visit repair order clean paint return cancel renew check confirm review update collect deliver
the a an and or of to in on for with from by at about after before near over under between
dentist plumber landlord neighbor cousin uncle aunt brother sister mother father friend guest
rent loan debt bank card cash coin bill bonus salary wage fee fine grant award prize medal trophy
""".split()
_ONSETS = "b c d f g h j k l m n p r s t v w z br cr dr fl gr pl pr sh sl st th tr ch".split()
_VOWELS = "a e i o u ai ea oo ou ie".split()
_CODAS = ["", "", "", "n", "r", "l", "s", "t", "m", "k", "d", "nd", "st", "rk", "ng", "x"]
_EXTENSIONS = "txt txt txt txt md md json csv log cfg ini yaml toml html py js dat tsv conf xml".split()
_DOMAINS = "com org net io dev info co.uk example eu edu app".split()


def is_held_out(word: str) -> bool:
    """True where the word is kept for the bench and never trained on."""
    return zlib.crc32(word.lower().encode()) % 5 == 0


@dataclass
class Words:
    """A source of words of one side, drawn from `rng`."""

    rng: random.Random
    held_out: bool = False

    def _ours(self, word: str) -> bool:
        return is_held_out(word) == self.held_out

    def made(self) -> str:
        """A word nobody has seen, of one to three syllables."""
        while True:
            parts = []
            for _ in range(self.rng.choice((1, 2, 2, 2, 3))):
                parts += [self.rng.choice(_ONSETS), self.rng.choice(_VOWELS)]
            word = "".join(parts) + self.rng.choice(_CODAS)
            if len(word) > 2 and self._ours(word):
                return word

    def common(self) -> str:
        """A word of English."""
        while True:
            word = self.rng.choice(_COMMON)
            if self._ours(word):
                return word

    def word(self) -> str:
        """A common word, or a made one about one time in four."""
        return self.made() if self.rng.random() < 0.25 else self.common()

    def name(self) -> str:
        """A word with a capital."""
        word = self.made() if self.rng.random() < 0.6 else self.common()
        return word.capitalize()

    def phrase(self, low: int = 1, high: int = 5) -> str:
        """Some words, now and then with a capital, a number or a comma."""
        words = [self.word() for _ in range(self.rng.randint(low, high))]
        if self.rng.random() < 0.12:
            words.insert(self.rng.randint(0, len(words)), str(self.rng.randint(1, 999)))
        text = " ".join(words)
        if len(words) > 3 and self.rng.random() < 0.1:
            text = text.replace(" ", ", ", 1)
        return text[0].upper() + text[1:] if self.rng.random() < 0.2 else text

    def sentence(self) -> str:
        """A phrase with a capital and a full stop."""
        text = self.phrase(3, 9)
        return text[0].upper() + text[1:] + self.rng.choice("....!")

    def integer(self) -> str:
        """Digits; short ones more often."""
        digits = self.rng.choice((1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6, 8, 12))
        return str(self.rng.randint(10 ** (digits - 1), 10**digits - 1))

    def number(self) -> str:
        """An integer, or a decimal about one time in four."""
        if self.rng.random() < 0.25:
            places = self.rng.choice((1, 1, 2, 2, 3))
            return f"{self.rng.randint(0, 999)}.{self.rng.randint(1, 10**places - 1):0{places}d}"
        return self.integer()

    def stem(self) -> str:
        """A file's name without its extension."""
        roll = self.rng.random()
        if roll < 0.7:
            return self.word()
        if roll < 0.85:
            return self.word() + self.rng.choice("-_") + self.word()
        if roll < 0.95:
            return self.word() + self.rng.choice(("", "-", "_")) + str(self.rng.randint(1, 2030))
        return self.name()

    def folder(self) -> str:
        """A folder's path, one or two deep."""
        parts = [self.word() for _ in range(1 if self.rng.random() < 0.8 else 2)]
        return "/".join(parts)

    def path(self, extension: str | None = None) -> str:
        """A file's path, in a folder about one time in four."""
        ending = extension or self.rng.choice(_EXTENSIONS)
        if extension is None and self.rng.random() < 0.05:
            ending = self.made()[:4]
        file = f"{self.stem()}.{ending}"
        return f"{self.folder()}/{file}" if self.rng.random() < 0.28 else file

    def url(self) -> str:
        """A web address, usually with a path."""
        scheme = "https" if self.rng.random() < 0.85 else "http"
        host = self.word() + "." + self.rng.choice(_DOMAINS)
        if self.rng.random() < 0.3:
            host = self.rng.choice(("www", "api", "docs", self.word())) + "." + host
        path = "".join("/" + self.stem() for _ in range(self.rng.choice((0, 1, 1, 2))))
        tail = self.rng.choice(("", "", "", ".html", "/", f"?id={self.integer()}"))
        return f"{scheme}://{host}{path}{tail if path or tail == '/' else ''}"

    def pairs(self) -> list[tuple[str, str]]:
        """Names with numbers, as a price list has them; names differ."""
        found: dict[str, str] = {}
        for _ in range(self.rng.randint(2, 6)):
            found[self.word()] = self.number() if self.rng.random() < 0.5 else self.integer()[:3]
        return list(found.items())

    def content(self) -> str:
        """The text of a small file."""
        roll = self.rng.random()
        if roll < 0.12:
            return self.number()
        if roll < 0.4:
            gap = self.rng.choice((" ", " ", ": ", " = ", ",", "="))
            return "\n".join(f"{key}{gap}{value}" for key, value in self.pairs())
        if roll < 0.65:
            return " ".join(self.sentence() for _ in range(self.rng.choice((1, 1, 2, 3))))
        if roll < 0.85:
            dash = self.rng.choice(("", "", "- ", "* "))
            lines = self.rng.choice((1, 2, 3, 3, 4, 5, 6))
            return "\n".join(dash + self.phrase(1, 4) for _ in range(lines))
        return self.phrase(1, 8)
