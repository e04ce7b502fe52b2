"""Small talk, requests nobody can serve, and the system messages conversations begin with."""

# ruff: noqa: E501 - tables of phrases, one a line
from __future__ import annotations

import random

from phrasing import expand, request
from tasks import NO_TOOL, Task
from words import Words

SMALL_TALK: list[tuple[str, list[str]]] = [
    (
        "Hello! How can I help?",
        [
            "hello",
            "hi",
            "hey",
            "hello there",
            "hello, my name is <name>",
            "hi, I am <name>",
            "hi there",
            "good {morning|evening|afternoon|day}",
            "hey there",
            "greetings",
            "hiya",
            "hello {friend|again|assistant}",
            "hi <name>",
        ],
    ),
    (
        "I am fine, thank you. How can I help?",
        [
            "how are you?",
            "how are you {doing|today}?",
            "how do you do?",
            "are you {well|ok|fine|all right}?",
            "how is it going?",
            "how is your day?",
            "hi, how are you?",
            "how do you feel?",
            "what's up?",
        ],
    ),
    (
        "You are welcome.",
        [
            "thanks",
            "thank you",
            "thank you {very much|so much|a lot}",
            "thanks a lot",
            "many thanks",
            "{great|good|perfect|nice}, {thanks|thank you}",
            "thanks for your help",
            "that is {very kind|nice of you}",
            "thanks, {bye|that is all}",
            "that was helpful, thanks",
            "I appreciate it",
        ],
    ),
    (
        "Goodbye!",
        [
            "bye",
            "goodbye",
            "see you {later|soon|tomorrow|}",
            "good night",
            "bye bye",
            "that is all for {today|now}",
            "talk to you later",
            "farewell",
        ],
    ),
    (
        "I am an assistant that runs on your own machine.",
        [
            "who are you?",
            "what are you?",
            "are you a {robot|human|person|machine|bot}?",
            "what is your name?",
            "tell me {about yourself|who you are}",
            "introduce yourself",
            "where do you run?",
            "{tell me|say} something about you",
            "are you an AI?",
        ],
    ),
    (
        "I can use the tools I am given and answer in a sentence.",
        [
            "what can you do?",
            "how can you help {me|}?",
            "what are you able to do?",
            "what kind of help do you offer?",
            "help",
            "what do you do?",
            "what are you {for|good at}?",
            "{show|tell} me what you can do",
            "what can I ask {you|}?",
        ],
    ),
    (
        "Good.",
        [
            "ok",
            "okay",
            "good",
            "great",
            "nice",
            "perfect",
            "fine",
            "well done",
            "good job",
            "cool",
            "all right",
            "that is {good|great|fine|right}",
            "I see",
            "yes",
            "wonderful",
            "excellent",
        ],
    ),
    (
        "I am sorry.",
        [
            "that is wrong",
            "you are wrong",
            "that is not what I asked",
            "that did not work",
            "this is {bad|terrible}",
            "I do not like that",
            "you made a mistake",
            "no, that is not right",
        ],
    ),
]
HOPELESS = [
    "vacuum the {floor|rug|hall}",
    "walk the {dog|horse}",
    "water the {plants|garden|roses}",
    "how do I {cook|make|build|grow} <thing>?",
    "what is the best <word>?",
    "who is the {king|mayor|boss|owner} of <place>?",
    "{follow|like} <name> on the internet",
    "tune the {guitar|piano}",
    "pay my {phone|gas|power|<word>} bill",
    "find my {keys|phone|wallet|glasses}",
    "how {much|expensive} is a {house|car|room} in <place>?",
    "is <name> {at home|married|older than me}?",
    "where is <place>?",
    "when does the {shop|bank|school} open?",
    "should I {marry|call|trust|visit} <name>?",
    "{start|stop} the {engine|washing machine|car|recording}",
    "{teach|show} me how to {swim|dance|drive}",
    "tell <name> I am {sorry|busy|on my way}",
    "what is {love|time|happiness}?",
    "bet <n> on <name>",
    "make me {rich|happy|laugh|younger}",
    "{find|get} me tickets to <thing>",
    "which {wine|shirt|color} goes with <thing>?",
    "how is <name> feeling?",
    "{cut|mow} the {grass|hedge}",
    "{pack|carry} my {bags|suitcase}",
    "who {called|visited|wrote to} me {today|yesterday|last night}?",
    "what will <word> cost next year?",
    "{charge|replace} the {battery|bulb}",
    "sign the contract with <name>",
    "book {me |}a {flight|hotel|room|table|taxi|train|seat} {to|in|at|near} <place>",
    "order {me |}{a pizza|some food|lunch|dinner|flowers} {from|at} <place>",
    "{write|compose|tell me} a {poem|story|joke|song|letter} about <thing>",
    "what is the capital of <place>?",
    "who {wrote|invented|discovered|painted|built} <thing>?",
    "{turn|switch} {on|off} the {light|lights|heating|tv|radio|oven} in the <word>",
    "{drive|take|bring} me to <place>",
    "{buy|sell} <n> {shares of|tickets to|pounds of} <word>",
    "how {old|tall|rich|big} is <name>?",
    "when {was|did} <name> {born|die|married}?",
    "{make|bake|cook} me {a cake|a coffee|some tea|dinner|a sandwich}",
    "what should I {wear|eat|read|watch|do} {today|tonight|tomorrow}?",
    "{invite|text|fax|notify|contact|warn} <name> {about|of} <thing>",
    "{send|mail|ship} {a letter|a package|flowers|money|a postcard} to <name>",
    "what {is the weather|will the weather be} {like |}in <place>?",
    "{open|close|lock|unlock} the {door|window|garage|gate|car}",
    "{wash|clean|paint|repair|fix} {my|the} {car|house|roof|bike|shoes|computer}",
    "who won the {game|match|election|race} {yesterday|last week|in <place>}?",
    "{recommend|suggest} {a|me a} {book|movie|restaurant|game|song} about <thing>",
    "{what|when} is {the next train|the next bus|a flight} to <place>?",
    "{delete|remove|erase|destroy} {the file |}<path>",
    "rename <path> to <other>",
    "{print|scan|fax} <path> on {paper|the printer}",
    "{translate|say} <thing> {into|in} {French|Spanish|German|Latin|Greek}",
    "{what is|find} the meaning of <word>",
    "what does <word> mean?",
    "{summarize|summarise|rate|review|improve|rewrite} {my|the|this} {life|day|essay|work|plan}",
    "{play|sing|hum} {a song|some music|<thing>}",
    "{show|draw|paint|find} me a {picture|photo|map|drawing} of <thing>",
    "{install|update|uninstall|restart|upgrade} {the |}{computer|system|<word>|printer|browser}",
    "{wake|call|ring} me at <n>",
    "set {a timer|an alarm} for <n> {minutes|hours|o'clock}",
    "{remind|tell} me to <thing> {tomorrow|tonight|later}",
    "why is the {sky|sea|grass|sun|moon} {blue|green|hot|cold|so big}?",
    "{predict|guess} {the future|my age|the lottery numbers|tomorrow}",
    "how many people live in <place>?",
    "what time is it {in <place>|now|}?",
    "what day is {it|today}?",
    "explain {gravity|love|music|<thing>|history|chemistry}",
    "do you {like|love|know|want|hate} <thing>?",
    "{find|get} me a {job|doctor|house|friend|plumber} in <place>",
    "{compress|encrypt|zip|upload|share|publish} <path>",
    "{email|send} <path> to <name>",
    "{reserve|cancel} {a table|my subscription|the meeting|my order} {at <place>|}",
    "{vote|pray|apologize} for {me|<name>}",
    "{hack|break into|crash} {the bank|<name>'s computer|the server|<place>}",
    "{take|make} a {photo|video|selfie|screenshot|phone call}",
    "{check|read} my {mail|email|messages|voicemail|calendar|pulse}",
]
_SYSTEMS = [
    "You are {a helpful|a|an honest|a careful|a friendly|a quick} assistant{ that works for one person| of <name>| on a home server| for small tasks|}. {Use a tool when it helps; otherwise answer in a sentence.|Use the tools when they help.|Answer in one sentence.|Be brief.|}",
    "You are <name>, {a clerk|an assistant|a helper|an agent|a librarian|a bookkeeper}. {You answer questions about my notes and do sums.|You keep my files in order.|Help with <thing> and <word>.|You look after the <word>.|Keep answers short.}",
    "{Answer questions|Do sums|Help me|Work|Look after my files}. {Never guess.|Say so when you cannot.|Use tools.|Be exact.|Keep it short.}",
    "{You help|Help} with <thing>. {Be polite and short.|Do not make things up.|Only use what the tools say.}",
    "You {do sums and read files|manage notes|work with files|help a small office|help with <word>}{ for <name>|}. {Use a tool if one fits.|If no tool fits, say so.|Never invent a result.|Answer plainly.}",
    "You are an agent. Goal: <thing>. {Use tools where needed.|Report in one sentence.|}",
    "{The user is|You work for} <name>, who {likes short answers|runs a <word>|is a <word>|lives in <place>}. {Today is <day>.|The time zone is UTC.|} {Use a tool when it helps; otherwise answer in a sentence.|}",
    "You are a helpful assistant that works for one person. Use a tool when it helps; otherwise answer in a sentence.",
    "You are <name>, the {research|billing|support|home|garden|travel} agent of <name>. {Stay on the subject.|Rules: be brief; be correct; do not guess.|Use your tools for every figure.|Answer in English.}",
    "{Answers questions about my notes and does sums|Keeps my lists|Reads and writes my files|Fetches pages}.",
]


def slots(words: Words) -> dict[str, str]:
    """Values for the slots of these tables."""
    return {
        "name": words.name(),
        "place": words.name(),
        "thing": words.phrase(1, 3),
        "word": words.word(),
        "path": words.path(),
        "other": words.path(),
        "n": str(words.rng.randint(1, 60)),
        "day": words.rng.choice(("Monday", "Friday", "2026-03-02")),
    }


def system(words: Words) -> str:
    """The instructions of some agent."""
    rng: random.Random = words.rng
    text = expand(rng.choice(_SYSTEMS), rng, slots(words)).strip()
    while rng.random() < 0.15:
        text += " " + words.sentence()
    return text


def small_talk(words: Words, table: list[tuple[str, list[str]]] = SMALL_TALK) -> Task:
    """A word of courtesy and its answer."""
    answer, patterns = words.rng.choice(table)
    return Task("talk", request(words.rng.choice(patterns), words.rng, slots(words)), (), answer)


def hopeless(words: Words, patterns: list[str] = HOPELESS) -> Task:
    """A request that none of the shipped functions can serve."""
    said = request(words.rng.choice(patterns), words.rng, slots(words))
    return Task("hopeless", said, (), NO_TOOL)
