"""The ways to ask that are trained on, by intent. The bench has its own (heldout.py)."""

from __future__ import annotations

# Requests in training. The bench has its own (heldout.py); none may appear in both.
PATTERNS: dict[str, list[str]] = {
    "calc": [
        "{what is|what's|how much is|compute|calculate|work out|evaluate|solve} <said>{?|}",
        "what is <said>?", "what's <said>?", "calculate <said>", "how much is <said>?",
        "what does <said> {equal|come to|make|give}?", "<said>?", "<said> = ?>>", "<said>",
        "{tell me|give me|find} {the result of|the value of|what you get for|the answer to|} <said>",
        "{do the math|do this sum|compute this|calculate this|solve this}: <said>>>",
        "I need {the result of|the value of|} <said>", "{find out|figure out} {how much|what} <said> is",
        "what do you get for <said>?", "{can|could} you {calculate|compute|work out} <said>?",
        "use {the|your} {calculator|math tool} {for|on} <said>", "the answer to <said>?",
    ],
    "list": [
        "what files {do I have|are there|are here|exist}?", "{list|show|show me} {my|the|all|all my} files",
        "which files {do I have|are there|are here}?", "what is in {the|my} {folder|workspace|directory}?",
        "{show|tell|give} me {a list of|} {my|the|all} files", "ls", "{list|show} {everything|the workspace|the top folder}",
        "what {documents|files} {can you see|did I save|have I got}?", "do I have any files?",
        "{list|show} {the contents of|} the {workspace|main folder|current folder|root folder}",
    ],
    "list_in": [
        "what files are in <folder>?", "{list|show|show me} {the|all|} files in {the folder |}<folder>",
        "what is in {the|my} <folder> {folder|directory}?", "which files {are in|does} <folder>{ contain|}?",
        "{list|show} {the folder|the directory|} <folder>", "{list|show me} {what is in|the contents of|everything in} <folder>",
        "what do I have in <folder>?", "ls <folder>", "look {into|in} the folder <folder>",
        "{what is|what's} inside <folder>?", "{tell me|find out} what the folder <folder> {has|holds|contains}",
    ],
    "read": [
        "{read|open|show|show me|display|print|load|get|fetch} {the file |file |}<path>",
        "{read|open|look at|check|go through} <path> and {tell me|say} what {it says|is in it|it contains|it has}",
        "what {is in|does it say in|is written in|is inside} {the file |}<path>?",
        "what does {the file |}<path> {say|contain|hold|have in it}?", "what's in <path>?",
        "{tell me|show me|let me see|give me} {the contents of|what is in|what's in|the text of} <path>",
        "{can|could} you {read|open|show me} <path>?", "cat <path>", "{print|output} the {text|contents} of <path>",
        "I {want|need} to {see|read|know} what is in <path>", "{read|open} {me |}<path>",
        "what did I {write|put|save} in <path>?", "{have|take} a look at <path>", "the contents of <path>",
    ],
    "lookup": [
        "what does <path> say about <key>?", "{how many|how much} <key> {is|are} in <path>?",
        "{look up|find|get} <key> in <path>", "what is {the value of |the |}<key> in <path>?",
        "{read|open|check} <path> and tell me {the |}<key>", "{tell me|give me} the <key> from <path>",
        "according to <path>, what is <key>?", "which number does <path> give for <key>?",
        "{check|see} {how many|how much} <key> <path> {has|lists|says}",
    ],
    "write": [
        "write <text> {to|in|into} {the file |}<path>", "{save|put|store} <text> {to|in|into} {the file |a file called |}<path>",
        "{make|create} {a file|the file|a new file} <path> {with|containing|saying|that says} <text>",
        "{make|create} <path> {with the text|with the content|with} <text>",
        "write {the text|the words|the line|the note|} <text> to <path>", "{note|note down|jot down|record} <text> in <path>",
        "in {the file |}<path>{,|} write <text>", "{set|change} {the contents of |}<path> to <text>",
        "{write|save} to <path>: <text>>>", "{write|put} this {in|into|to} <path>: <text>>>",
        "{overwrite|replace} <path> with <text>", "{can|could} you {write|save|put} <text> {to|in|into} <path>?",
        "I {want|need} <text> {saved|written|stored} in <path>", "remember <text> in <path>",
        "{save|write|store} <text> as <path>", "{fill|update} <path> with <text>",
    ],
    "search": [
        "{search|look} for <query> in {my|all|all my|the} files", "{which|what} {files|file} {mention|mentions|contain|contains|have|talk about} <query>?",
        "{find|search} <query> in {my|the|all} files", "where {is|did I write|do I mention|have I written} <query>?",
        "{find|show|list|get} {all |the |every |}{lines|line|mentions|places} {with|that mention|that contain|containing|of} <query>",
        "search {the files|my files|the workspace|everything} for <query>", "grep <query>", "{is|was} <query> {mentioned |}in any {of my |}{files|file}?",
        "{does|do} any {of my files|file} {mention|contain|say} <query>?", "look {up|for} <query> {in the workspace|everywhere|in all files}",
        "in which file is <query>?", "find {the text|the word|the words|} <query>",
    ],
    "fetch": [
        "{fetch|open|get|load|read|download|visit|check|go to} <url>", "{fetch|open|get|read} {the page|the web page|the site|the website} <url>",
        "what does <url> say?", "what is {on|at} <url>?", "{show|tell} me what {is on|is at} <url>", "{look at|browse to|browse} <url>",
        "{read|open|fetch} <url> and tell me what {it says|is there}", "get {me |}the {text|content|contents} of <url>",
        "what can I read {at|on} <url>?", "{download|load} the page at <url>",
    ],
    "match": [
        "find {all |}{matches of|what matches} <pattern> in <text>", "{apply|run|use} the {regex|pattern|regular expression} <pattern> {to|on|over} <text>",
        "what does {the regex |the pattern |}<pattern> match in <text>?", "{match|find} <pattern> {against|in} <text>",
        "which parts of <text> match <pattern>?", "does <text> match <pattern>?", "{search|scan} <text> with the {regex|pattern} <pattern>",
        "in <text>, find {the pattern |}<pattern>", "extract <pattern> from <text>",
    ],
    "query": [
        "{get|take|find|read|extract|give me|show me} <path> {from|in|out of} {the JSON |this JSON: |}<json>", "what is <path> in {the JSON |}<json>?",
        "{query|look up} <path> in <json>", "from {the JSON |}<json> {get|take|extract|give me} <path>", "what value does <path> have in <json>?",
        "in the JSON <json>, what is <path>?", "what is at {path |}<path> in <json>?",
    ],
    "diff": [
        "{compare|diff} <old> {and|with|to} <new>", "what {changed|is different} {between|from} <old> {and|to} <new>?",
        "{show|tell|give} me the {difference|differences} between <old> and <new>", "how {does|do} <old> {and <new> differ|differ from <new>}?",
        "what is the difference between <old> and <new>?", "{find|list} {the |}{changes|differences} {between|from} <old> {and|to} <new>",
        "is <old> the same as <new>?",
    ],
    "count": [
        "count the <unit> in <text>", "how many <unit> {are in|does} <text>{ have|}?", "how many <unit> are {there |}in <text>?",
        "{give me|tell me|find} the number of <unit> in <text>", "what is the {number of <unit>|<unit> count} {in|of} <text>?",
        "{count|number} <unit> {in|of} <text>", "<unit> in <text>?", "how many <unit> has <text>?", "number of <unit> in <text>",
    ],
    "count_all": [
        "count <text>", "{how long is|what is the length of|what is the size of} <text>?", "count {the text|everything in|all in} <text>",
        "{measure|size up} <text>", "{give me|show} the {counts|statistics} {of|for} <text>",
    ],
    "js": [
        "run {this |the |}{JavaScript|JavaScript code|JS|js code}: <code>>>", "{execute|run|evaluate} <code> {in|as|with} {JavaScript|JS}",
        "what does {this JavaScript|the JS|the JavaScript code} {print|do|output}: <code>>>", "{use|with} {JavaScript|js} {to |}run <code>",
        "what is the output of the JavaScript <code>?", "JavaScript: <code>>>",
    ],
    "python": [
        "run {this |the |}{Python|Python code|python program|python}: <code>>>", "{execute|run|evaluate} <code> {in|as|with} {Python|python}",
        "what does {this Python|the Python code|the python program} {print|do|output}: <code>>>", "{use|with} {Python|python} {to |}run <code>",
        "what is the output of the Python <code>?", "Python: <code>>>",
    ],
    "read_calc": [
        "read <path> and <change>", "{open|load|look at|check|get} <path> and <change>", "{take|get} the number in <path> and <change>",
        "{read|open} <path>, then <change>", "{read|take} the {number|value|figure} {from|in} <path> and <change>", "{look in|see} <path> and then <change>",
        "first read <path>, then <change>", "<change_of> the number in <path>", "<change_of> the {value|figure|content} {of|from} <path>",
    ],
    "pair_calc": [
        "read <path> and {multiply|take} the <key> {times|by} <n>", "multiply {the |}<key> {in|from} <path> by <n>",
        "what is <n> times {the |}<key> {in|from} <path>?", "what do <n> <key> cost with {the prices in |}<path>?",
    ],
    "total": [
        "{add|sum} {up |}the numbers in <path>", "what is the {total|sum} {in|of} <path>?", "read <path> and {add|sum} {up |}{the numbers|everything|it all}",
        "{total|add up} <path>", "{work out|calculate|give me} the {total|sum} {of|in|from} <path>",
    ],
    "read_write": [
        "copy <path> to <other>", "read <path> and {write|save|put} it {to|into|in} <other>", "{save|make} a copy of <path> {as|in|to} <other>",
        "{copy|duplicate} {the file |}<path> {to|as|into} <other>", "{put|write|save} {what is in|the contents of|the text of} <path> {in|into|to} <other>",
    ],
    "read_count": [
        "how many <unit> {are in|does} {the file |}<path>{ have|}?", "count the <unit> {in|of} {the file |}<path>", "read <path> and count {the|its} <unit>",
        "what is the number of <unit> in <path>?", "how many <unit> are there in {the file |}<path>?", "{tell me|give me} the number of <unit> in <path>",
    ],
    "calc_write": [
        "{calculate|compute|work out} <said> and {write|save|put} {the result|the answer|it} {to|in|into} <path>",
        "{write|save|put|store} the {result|value|answer} of <said> {to|in|into} <path>", "{what is|how much is} <said>? {write|save} {it|the answer} {to|in} <path>>>",
        "work out <said>, then {save|write|put} {it|that|the result} {to|in|into} <path>",
    ],
    "search_read": [
        "{find|look for} the file {that mentions|with|about|containing} <query> and read it", "search for <query> and {read|open|show me} the file {it is in|}",
        "{which file mentions|what file has} <query>? {read|open|show} {it|that file}>>", "read the file that {mentions|contains|has} <query>",
        "{open|show me} {the file|whichever file} {mentioning|with|that says} <query>",
    ],
    "list_read": [
        "list the files in <folder> and read the first {one|file}", "read the first file in <folder>", "{open|show me} the first file {of|in} {the folder |}<folder>",
        "look in <folder> and {read|open} the first {file|one}", "what does the first file in <folder> say?",
    ],
    "fetch_write": [
        "{fetch|get|download|read} <url> and {save|write|put|store} it {to|in|into} <path>", "{save|download|store} {the page |}<url> {to|as|in|into} <path>",
        "{put|write} {the text of|what is at} <url> {in|into|to} <path>", "get <url>, then save the text {in|to} <path>",
    ],
    "read_query": [
        "{get|read|find|take|give me|show me} <field> {from|in|out of} <path>", "read <path> and {get|give me|tell me} <field>", "what is <field> in {the JSON file |}<path>?",
        "{look up|query} <field> in <path>", "what value does <field> have in <path>?",
    ],
}
