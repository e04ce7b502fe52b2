"""The thirty cases of the tool-calling examination, to be read and argued with.

Five kinds, six cases each: the right tool among several; its arguments exactly; no call where no
tool fits; going on after a tool's error; two steps, the second from the first's result. The tools
belong to a library and a works yard, and to no node: no shipped tool is among them, and no model
of ours is trained on them. Tools come in two fixed sets, so that an engine which keeps prompts
evaluates each set once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from node.inference.types import FunctionSpec, ToolCall
from node.types import Json, JsonObject

Kind = Literal["right tool", "exact arguments", "no tool fits", "after an error", "two steps"]
KINDS: Final[tuple[Kind, ...]] = (
    "right tool",
    "exact arguments",
    "no tool fits",
    "after an error",
    "two steps",
)
SYSTEM: Final = (
    "You help the staff of a library and its works yard. Call a tool where one does what is asked. "
    "Where no tool does it, say so in words and call none."
)


@dataclass(frozen=True)
class Calls:
    """The model must call this tool; with these arguments exactly, unless they are None.

    `result` is what it is then told.
    """

    tool: str
    arguments: JsonObject | None = None
    result: str = ""


@dataclass(frozen=True)
class Says:
    """The model must answer in words, one of `words` among them if there are any.

    `instead` are calls that would do as well.
    """

    words: tuple[str, ...] = ()
    instead: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class Case:
    """A conversation. `given` is a call already made and its result; then what must follow."""

    kind: Kind
    asked: str
    tools: tuple[FunctionSpec, ...]
    expected: tuple[Calls | Says, ...]
    given: tuple[ToolCall, str] | None = None


def _tool(
    name: str, about: str, optional: tuple[str, ...] = (), **properties: Json
) -> FunctionSpec:
    required: list[Json] = [key for key in properties if key not in optional]
    schema: JsonObject = {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
    }
    return FunctionSpec(name, about, schema)


TEXT: Final[JsonObject] = {"type": "string"}
NUMBER: Final[JsonObject] = {"type": "number"}
YES_OR_NO: Final[JsonObject] = {"type": "boolean"}
BED: Final[JsonObject] = {"type": "string", "enum": ["north", "east", "south", "west"]}


def _whole(least: int, most: int) -> JsonObject:
    return {"type": "integer", "minimum": least, "maximum": most}


LIBRARY: Final = (
    _tool("shelf_lookup", "Find the shelf that a book stands on", title=TEXT),
    _tool("loan_extend", "Extend the loans on a reader's card", card=TEXT, days=_whole(1, 28)),
    _tool(
        "room_book",
        "Book a meeting room; the start is HH:MM",
        room=TEXT,
        start=TEXT,
        people=_whole(1, 40),
    ),
    _tool("tide_times", "High water at a harbour on a date, YYYY-MM-DD", harbour=TEXT, date=TEXT),
    _tool(
        "term_translate",
        "Translate one technical term",
        term=TEXT,
        language={"type": "string", "enum": ["de", "fr", "es", "it"]},
    ),
    _tool(
        "invoice_sum",
        "Add up the amounts of an invoice",
        amounts={"type": "array", "items": NUMBER, "minItems": 1, "maxItems": 50},
    ),
)
YARD: Final = (
    _tool("bed_water", "Water a bed of the greenhouse", bed=BED, litres=_whole(1, 50)),
    _tool("bed_readings", "Temperature and humidity at a bed of the greenhouse", bed=BED),
    _tool("stock_level", "How many of a part are in the warehouse", part=TEXT),
    _tool("stock_order", "Order more of a part", part=TEXT, quantity=_whole(1, 500)),
    _tool(
        "sensor_alarm",
        "Warn people when a sensor reads above a value",
        sensor=TEXT,
        above=NUMBER,
        notify={"type": "array", "items": TEXT, "minItems": 1, "maxItems": 5},
    ),
    _tool(
        "parcel_label",
        "Print the label of a parcel",
        ("express",),
        recipient={
            "type": "object",
            "properties": {"name": TEXT, "city": TEXT},
            "required": ["name", "city"],
            "additionalProperties": False,
        },
        weight_g=_whole(1, 30_000),
        express=YES_OR_NO,
    ),
    _tool("parcel_track", "Say where a parcel is", number=TEXT),
)

# one of these is in any honest report that something did not work
_FAILED: Final = (
    "not", "n't", "no ", "error", "fail", "unable", "cannot", "wrong", "unknown", "offline",
    "problem", "sorry", "taken", "unavailable", "instead",
)  # fmt: skip


def _right(asked: str, tools: tuple[FunctionSpec, ...], tool: str) -> Case:
    return Case("right tool", asked, tools, (Calls(tool),))


def _exact(asked: str, tools: tuple[FunctionSpec, ...], tool: str, **arguments: Json) -> Case:
    return Case("exact arguments", asked, tools, (Calls(tool, arguments),))


def _refuses(asked: str, tools: tuple[FunctionSpec, ...]) -> Case:
    return Case("no tool fits", asked, tools, (Says(),))


def _error(
    asked: str,
    tools: tuple[FunctionSpec, ...],
    made: ToolCall,
    error: str,
    *instead: ToolCall,
) -> Case:
    expected = (Says(_FAILED, instead),)
    return Case("after an error", asked, tools, expected, (made, f"error: {error}"))


def _two(asked: str, tools: tuple[FunctionSpec, ...], first: Calls, then: Calls | Says) -> Case:
    return Case("two steps", asked, tools, (first, then))


CASES: Final[tuple[Case, ...]] = (
    # ── the right tool ──
    _right("Where in the library does the book Moby Dick stand?", LIBRARY, "shelf_lookup"),
    _right("When is high water at Falmouth on 2031-04-02?", LIBRARY, "tide_times"),
    _right("What do the French call a torque wrench?", LIBRARY, "term_translate"),
    _right("Has parcel ZK7734 reached the sorting centre?", YARD, "parcel_track"),
    _right("How humid is the east bed at the moment?", YARD, "bed_readings"),
    _right("Do we still have any of part B-612 in the warehouse?", YARD, "stock_level"),
    # ── exact arguments ──
    _exact(
        "Card L-20981 needs another two weeks for its loans.",
        LIBRARY,
        "loan_extend",
        card="L-20981",
        days=14,
    ),
    _exact(
        "Nine of us will meet at half past two in the afternoon; book the room Oak.",
        LIBRARY,
        "room_book",
        room="Oak",
        start="14:30",
        people=9,
    ),
    _exact("The south bed should get 12 litres.", YARD, "bed_water", bed="south", litres=12),
    _exact(
        "We are short of KX-1180, order 250 more.",
        YARD,
        "stock_order",
        part="KX-1180",
        quantity=250,
    ),
    _exact(
        "If sensor T4 reads more than 37.5, ana and bo want to be warned.",
        YARD,
        "sensor_alarm",
        sensor="T4",
        above=37.5,
        notify=["ana", "bo"],
    ),
    _exact(
        "An express label, please: to Ines Almeida in Porto, the parcel weighs 840 grams.",
        YARD,
        "parcel_label",
        recipient={"name": "Ines Almeida", "city": "Porto"},
        weight_g=840,
        express=True,
    ),
    # ── no tool fits ──
    _refuses("Put on some quiet jazz in the reading room.", LIBRARY),
    _refuses("Please cancel my gym membership.", LIBRARY),
    _refuses("Take back the booking of the room Birch, we will not come.", LIBRARY),
    _refuses("Thanks, that was everything for today!", YARD),
    _refuses("Paint the fence of the yard green.", YARD),
    _refuses("Which of my colleagues has a birthday this week?", YARD),
    # ── after an error ──
    _error(
        "On which shelf is the book Emma?",
        LIBRARY,
        ToolCall("shelf_lookup", {"title": "Emma"}),
        "the catalogue is offline until tomorrow",
    ),
    _error(
        "Book Oak for 9 people at 14:30.",
        LIBRARY,
        ToolCall("room_book", {"room": "Oak", "start": "14:30", "people": 9}),
        "Oak is taken at 14:30; it is free from 15:00",
        ToolCall("room_book", {"room": "Oak", "start": "15:00", "people": 9}),
    ),
    _error(
        "High water at Falmuth on 2031-06-11?",
        LIBRARY,
        ToolCall("tide_times", {"harbour": "Falmuth", "date": "2031-06-11"}),
        "there is no harbour 'Falmuth'; did you mean 'Falmouth'?",
        ToolCall("tide_times", {"harbour": "Falmouth", "date": "2031-06-11"}),
    ),
    _error(
        "Where is parcel QQ5521?",
        YARD,
        ToolCall("parcel_track", {"number": "QQ5521"}),
        "no parcel has that number",
    ),
    _error(
        "Give the north bed 30 litres.",
        YARD,
        ToolCall("bed_water", {"bed": "north", "litres": 30}),
        "the valve of this bed does not answer",
    ),
    _error(
        "Order 400 of part P-77.",
        YARD,
        ToolCall("stock_order", {"part": "P-77", "quantity": 400}),
        "at most 300 of this part can be ordered at a time",
        ToolCall("stock_order", {"part": "P-77", "quantity": 300}),
    ),
    # ── two steps ──
    _two(
        "Which shelf is the book Persuasion on? I only need its number.",
        LIBRARY,
        Calls("shelf_lookup", {"title": "Persuasion"}, '{"shelf": "C17"}'),
        Says(("C17",)),
    ),
    _two(
        "What do 12.5, 30 and 7.25 on this invoice come to?",
        LIBRARY,
        Calls("invoice_sum", {"amounts": [12.5, 30, 7.25]}, '{"total": 49.75}'),
        Says(("49.75",)),
    ),
    _two(
        "Book the room Quay for 6 people, to start when it is high water at Brixham on 2031-05-09.",
        LIBRARY,
        Calls(
            "tide_times", {"harbour": "Brixham", "date": "2031-05-09"}, '{"high_water": "16:40"}'
        ),
        Calls("room_book", {"room": "Quay", "start": "16:40", "people": 6}),
    ),
    _two(
        "If there are fewer than 50 of part W-08 left, order 200 of it.",
        YARD,
        Calls("stock_level", {"part": "W-08"}, '{"part": "W-08", "in_stock": 12}'),
        Calls("stock_order", {"part": "W-08", "quantity": 200}),
    ),
    _two(
        "If there are fewer than 50 of part W-09 left, order 200 of it.",
        YARD,
        Calls("stock_level", {"part": "W-09"}, '{"part": "W-09", "in_stock": 90}'),
        Says(),
    ),
    _two(
        "Look at the west bed, and if it is under 40 percent humidity there, give it 20 litres.",
        YARD,
        Calls("bed_readings", {"bed": "west"}, '{"temperature_c": 24, "humidity_percent": 31}'),
        Calls("bed_water", {"bed": "west", "litres": 20}),
    ),
)
