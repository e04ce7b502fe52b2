"""Ways to ask that are kept for the bench: no pattern here is trained on (a test compares)."""

from __future__ import annotations

PATTERNS: dict[str, list[str]] = {
    "calc": [
        "I wonder what <said> is", "would you mind working out <said>?", "how does <said> come out?",
        "any idea what <said> is?", "I have to know what <said> comes to", "quick sum: <said>>>",
        "my homework asks for <said>", "run the numbers on <said>",
    ],
    "list": [
        "give me an overview of my files", "name every file I have", "what have I got stored here?",
        "I lost track of my files, list them", "which documents exist?", "are there any files around?",
    ],
    "list_in": [
        "give me an overview of the folder <folder>", "name every file in <folder>",
        "what have I got stored in <folder>?", "I lost track of what is in <folder>, list it",
        "which documents exist in <folder>?", "browse the folder <folder>",
    ],
    "read": [
        "I would like to know what <path> contains", "pull up <path>", "what is the text of <path>?",
        "bring up the file <path>", "let me read <path>", "what was in <path> again?",
        "I forgot what <path> says", "recite <path>",
    ],
    "lookup": [
        "how many <key> does <path> list?", "see what <path> says about <key>",
        "which value belongs to <key> in <path>?", "I need the number for <key> from <path>",
    ],
    "write": [
        "please keep <text> in a file named <path>", "let <path> say <text>",
        "I would like <path> to contain <text>", "type <text> into <path>",
        "make sure <path> holds <text>", "enter <text> in the file <path>",
        "put down <text> in <path>", "a new file <path> should say <text>",
    ],
    "search": [
        "is there a file that talks about <query>?", "locate <query> in my files",
        "hunt for <query> in the workspace", "scan all files for <query>",
        "I am looking for <query> in my files", "can you find <query> anywhere?",
    ],
    "fetch": [
        "pull up <url>", "what is written at <url>?", "bring me the page <url>",
        "I would like to read <url>", "take a look at <url>", "grab <url>",
    ],
    "match": [
        "try the regex <pattern> on <text>", "what in <text> fits the pattern <pattern>?",
        "pick out <pattern> from <text> with a regex", "test the pattern <pattern> against <text>",
    ],
    "query": [
        "pull <path> out of <json>", "what does <json> have at <path>?",
        "tell me the value of <path> in <json>", "I need <path> from the JSON <json>",
    ],
    "diff": [
        "how did <old> change to become <new>?", "spot the difference between <old> and <new>",
        "put <old> next to <new> and show what changed", "contrast <old> with <new>",
    ],
    "count": [
        "I need to know how many <unit> <text> has", "how many <unit> does the text <text> contain?",
        "what number of <unit> is in <text>?", "please count up the <unit> of <text>",
    ],
    "count_all": ["take the measure of <text>", "what are the counts for <text>?"],
    "js": ["try this JavaScript: <code>>>", "see what the JavaScript <code> gives"],
    "python": ["try this Python: <code>>>", "see what the Python <code> gives"],
    "read_calc": [
        "look up the number in <path> and <change>", "there is a number in <path>, <change>",
        "use the number from <path> and <change>", "once you have read <path>, <change>",
    ],
    "pair_calc": ["take the <key> from <path> and multiply by <n>", "<n> times the <key> in <path>?"],
    "total": ["how much do the numbers in <path> add up to?", "read <path> and give me the sum"],
    "read_write": ["I need <other> to be a copy of <path>", "take the text of <path> and write it to <other>"],
    "read_count": ["tell me how many <unit> <path> has", "read <path> and tell me how many <unit> it has"],
    "calc_write": ["work out <said> and keep the answer in <path>", "<path> should hold the result of <said>"],
    "search_read": ["find out which file mentions <query> and show it to me", "locate the file with <query> and open it"],
    "list_read": ["see what is in <folder> and open the first file", "read me the first file of the folder <folder>"],
    "fetch_write": ["keep a copy of <url> in <path>", "read <url> and write the text to <path>"],
    "read_query": ["pull <field> out of <path>", "tell me what <field> is in <path>"],
}
HOPELESS = [
    "get me two seats for the opera in <place>", "call my mother and say hello", "feed the cat",
    "what is the height of {the Eiffel tower|Mount Everest}?", "turn the dishwasher on",
    "how do I fix a flat tire?", "post a picture on my profile", "which team is better, <name> or <word>?",
    "find out when <place> was founded", "transfer my savings to <name>", "cook the rice for dinner",
    "what do you think about <thing>?", "hire a plumber", "order a cab to the airport",
    "what is the exchange rate of the euro?", "who is the president of <place>?", "dim the lamps in the hall",
    "erase everything in <path>", "give <path> another name", "schedule lunch with <name>", "text my boss that I am late",
    "make a phone call to <name>", "what is the best way to lose weight?", "rent a car in <place>", "tell me the score of the match",
]
SMALL_TALK = [
    "hello, nice to meet you", "good to see you", "thanks again for everything", "how have you been?",
    "have a nice day, bye", "who am I talking to?", "what sort of things can you do?", "that was great",
    "hi, good morning to you", "you have been very kind, thank you",
]
SYSTEM = (
    "You are a helpful assistant that works for one person. Use a tool when it helps; otherwise "
    "answer in a sentence."
)
