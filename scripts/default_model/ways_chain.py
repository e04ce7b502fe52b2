"""Parts of requests that take two calls, in the form of ways_single.py."""

# ruff: noqa: E501 - tables of phrases, one a line
from __future__ import annotations

from ways_single import Ways

_PARTS = {
    "@READ": "{read|open|load|take|get|check|look at|look in|look into|consult|see|view|pull up|grab|go to|use|fetch|start with|begin with|access|inspect}",
    "@THEN": "{ and| then|, then| and then|, and| and after that|, after that|, afterwards|;|. Then}",
    "@SAVE": "{write|save|put|store|record|note|enter|keep|place|log|insert|drop|print|file}",
    "@ADD": "{add up|sum|total|sum up|tally|add together|add|tot up|accumulate}",
    "@NUMBERS": "{the numbers|the values|the figures|the amounts|all numbers|all the numbers|all values|everything|every number|all figures|all the amounts|the entries|the prices|the rows|all rows|the column}",
    "@ANSWER": "{the result|the answer|it|that|the total|the outcome|the value|what you get|what comes out|the number}",
}

_CHAINED = {
    "read_calc": Ways(
        commands=(
            "@READ {the file |the number in |the value in |the figure in |}<path>@THEN <change>",
            "{take|get|use|read|fetch|grab|find} {the number|the value|the figure|the amount|what is written|what is} {in|from|of|inside} {the file |}<path>@THEN <change>",
            "{calculate|compute|work out|give me|tell me|find|determine|get|show me|report} <change_of> {the number|the value|the figure|the amount|what is|what stands} {in|from|inside} {the file |}<path>",
        ),
        things=(
            "<change_of> {the number|the value|the figure|what is|the amount} {in|inside|from} {the file |}<path>",
        ),
        clauses=(
            "{what|how much} <change_of> {the number|the value|the figure} {in|from} {the file |}<path> {is|makes|gives|would be}",
        ),
        questions=(
            "{what|how much} {is|would be|makes|are} <change_of> {the number|the value|the figure|what is|the amount} {in|from|inside} {the file |}<path>?",
            "{what|how much} do {I|you|we} get if {I|you|we} read <path> and <change>?",
            "there is a number in <path>, {can|could|would} you <change>?",
        ),
        fragments=(
            "<path>{:|,| ->} <change>",
            "{the file |}<path> {has|holds|contains} a {number|figure|value}{:|,|.} <change>",
            "{the number|the value} {is|stands} in <path>{:|,|;} <change>",
            "{in|from} <path>{,|:} <change>",
        ),
    ),
    "pair_calc": Ways(
        commands=(
            "{multiply|take} {the |the value of |the number for |the price of |}<key> {in|from|of|out of|listed in} {the file |}<path> {by|times|with} <n>",
            "@READ {the file |}<path> {and|then|, then} {multiply|take} {the |}<key> {by|times|with} <n>",
            "@READ {the file |}<path> {and|to} {tell me|find out|calculate|work out|see|compute|say|give me|figure out} {what|how much} <n> {<key> {cost|are|make|come to}|times {the |}<key> {is|makes|gives}}",
            "{calculate|compute|work out|find|give me|tell me|determine|get|show me} {<n> times|<n> x|<n> *} {the |the value of |}<key> {in|from|of|with} {the file |}<path>",
            "{calculate|compute|work out|tell me|find|give me|determine} the {price|cost|total|value|amount} of <n> <key> {with|using|from|by|in} <path>",
            "{use|take} <path> {and|to} {work out|calculate|compute|get|find} <n> times {the |}<key>",
        ),
        things=(
            "the {price|cost|total|value} of <n> <key> {from|by|with|according to|as listed in} {the file |}<path>",
            "<n> times {the |}<key> {in|from|of} {the file |}<path>",
        ),
        clauses=(
            "{what|how much} <n> <key> {cost|costs|are|come to|make|would be|would cost} {with|by|according to|going by} {the list in |the prices in |the file |}<path>",
            "{what|how much} <n> times {the |}<key> {in|from|of} {the file |}<path> {is|makes|gives}",
        ),
        questions=(
            "{what|how much} {do|would|will} <n> <key> {cost|come to|make|be|cost me} {with|by|according to|going by|in} {the list in |the file |}<path>?",
            "{what|how much} {is|would be|are|makes} <n> {times|x|multiplied by} {the |}<key> {in|from|of|listed in} {the file |}<path>?",
            "if I {buy|take|need|want|order|have} <n> <key>, {what|how much} {is that|does that cost|do I pay|is it|will it be} {with|by|according to} <path>?",
            "<path> {lists|has|gives} <key>{,|:} {what|how much} {are|is} <n> {of them|times that|of it}?",
        ),
        fragments=(
            "<n> {x|times|*} <key> {from|in|of|by} <path>",
            "<path>: <n> {times |x |}<key>",
            "{price|cost|total} of <n> <key>, {see|list in|prices in|from} <path>",
            "I {buy|bought|need|want|take|ordered|sold} <n> <key>{, the prices are in|. Prices:|; see|, see} <path>",
        ),
    ),
    "total": Ways(
        commands=(
            "@ADD @NUMBERS {in|from|of|inside|listed in} {the file |}<path>",
            "{calculate|compute|work out|find|give me|tell me|determine|get|show me|figure out|report} the {sum|total|grand total} {of|in|for|from} {@NUMBERS in |the file |}<path>",
            "@READ {the file |}<path>@THEN @ADD {@NUMBERS|it|it all|them|what is in it}",
            "@ADD {the file |}<path>",
            "{make|do|build|form} the {sum|total} of {@NUMBERS in |}<path>",
        ),
        things=("the {sum|total|grand total} {of|in|for|from} {@NUMBERS in |the file |}<path>",),
        clauses=(
            "{what|how much} @NUMBERS in <path> {add up to|come to|make|make together|amount to|sum to|are together|are in all}",
            "{what|how much} {the sum|the total} {of|in} {the file |}<path> is",
        ),
        questions=(
            "{what|how much} {do|does|would} @NUMBERS {in|from|of} {the file |}<path> {add up to|come to|make|sum to|make together|amount to}?",
            "what is the {sum|total|grand total} {of|in|for} {@NUMBERS in |the file |}<path>?",
            "how much {is|are|does} {@NUMBERS in |}<path> {in all|altogether|together|in total|all told}?",
        ),
        fragments=(
            "{sum|total|grand total}{:| of|,} <path>",
            "<path>{,| -|:} {the sum|sum|total|the total|add it up|all together}{?|}",
            "{in|from} <path>{,|:} @ADD @NUMBERS",
        ),
    ),
    "read_write": Ways(
        commands=(
            "{copy|clone|duplicate|back up|save|mirror|transfer|reproduce|replicate|carry over|export|write|put} {the file |the text of |the contents of |the content of |everything in |what is in |what stands in |all of |}<path> {to|into|in|as|over to} {the file |a new file |a file called |}<other>",
            "@READ {the file |}<path>@THEN {write|save|put|store|copy|keep|place|record} {it|that|the text|the contents|what it says|everything|what you read|the same|all of it} {to|into|in|as} {the file |}<other>",
            "{make|create|write|produce|save|store} {a|one|another} {copy|duplicate|backup} of <path> {in|as|at|called|named|under|and call it} <other>",
            "{make|have|let} <other> {say|contain|hold} {what|the same as|whatever} <path> {says|contains|holds|}",
            "{fill|overwrite|create|make|replace} {the file |}<other> with {the text of|the contents of|what is in|what stands in|the content of} <path>",
            "{put|write|save|copy} {into|in|to} <other> {what|everything that|the text that} {is|stands|is written} in <path>",
        ),
        things=(
            "{a copy|a duplicate|a backup|one more copy} of <path> {in|as|at|under the name} <other>",
        ),
        questions=(
            "{can|could|may} I {have|get} a {copy|backup|duplicate} of <path> {in|as|at|called} <other>?",
        ),
        fragments=(
            "<path> {to|->|into} <other>{, copy|}",
            "{copy|backup|duplicate}: <path> {to|->|into|as} <other>>>",
            "<other> {should|must|shall|ought to} {say|contain|hold|have} {what|the same as} <path> {says|does|has|contains}",
            "{what is in|the text of|the contents of} <path> {goes|belongs|should go|should be|must go} {in|into|to} <other>{ too| as well|}",
        ),
    ),
    "read_count": Ways(
        commands=(
            "{count|number|tally|tell me|find|determine|get|report} {the |all |all the |}<unit> {in|of|inside} {the file |the document |}<path>",
            "@READ {the file |}<path>@THEN {count|tell me|number|tally|give me|report} {the |its |the number of |}<unit>{ in it|}",
            "{give|tell|get|show|find} me {the number of|how many|the count of} <unit> {in|there are in|of} {the file |}<path>",
        ),
        things=(
            "{the number of <unit>|the <unit> count|the count of <unit>} {in|of|for} {the file |}<path>",
        ),
        clauses=(
            "how many <unit> {the file |}<path> {has|contains|holds|counts|is long}",
            "how many <unit> {are|there are|I wrote|stand|are found} in {the file |}<path>",
        ),
        questions=(
            "how many <unit> {are|do you find|did I write|stand|do you count|can be found} in {the file |my file |}<path>?",
            "how many <unit> {does|has|long is} {the file |}<path>{ have| hold| contain|}?",
            "what is the {number of <unit>|<unit> count|count of <unit>} {in|of|for} {the file |}<path>?",
        ),
        fragments=(
            "<unit> {in|of} <path>?",
            "<path>{,| -|:} {how many <unit>|number of <unit>|count the <unit>|<unit>}?",
        ),
    ),
    "calc_write": Ways(
        commands=(
            "{calculate|compute|work out|evaluate|solve|do|figure out|find|determine|get|reckon} <said>@THEN @SAVE @ANSWER {in|into|to|as|down in} {the file |a file |}<path>",
            "@SAVE {the result|the answer|the value|the outcome|the total} {of|for|from} <said> {in|into|to} {the file |a file called |}<path>",
            "@SAVE {what|how much} <said> {is|makes|gives|comes to} {in|into|to} {the file |}<path>",
            "{make|create|write|prepare} {a file |the file |}<path> with {the result|the answer|the value} of <said>",
            "@SAVE {in|into|to} <path> {what|how much} <said> {is|makes|gives|comes to}",
        ),
        things=(
            "{the result|the answer|the value} of <said> {in|saved in|written to|put into} {the file |}<path>",
        ),
        questions=(
            "{what|how much} is <said>? {write|save|put|note|store} @ANSWER {in|into|to} <path>>>",
            "{what|how much} {is|makes|does} <said>{ make| give|}, and {can|could} you {write|save|put} it {in|into|to} <path>?",
        ),
        fragments=(
            "<said>{ ->| into| to|, save to|, write to|, result to} <path>",
            "{in|into|to} <path>{:|,} {the result of|the answer to|what you get for} <said>",
            "<path> {should|must|shall} {hold|contain|say|have} {the result of|the value of|the answer to|what you get for} <said>",
        ),
    ),
    "search_read": Ways(
        commands=(
            "{find|search for|look for|locate|seek|search|hunt for|track down} {the file with |the file about |the note about |the file that mentions |the document with |}<query>@THEN {read|open|show me|display|print|give me|load} {it|that file|the file|what it says|the whole file|the text}",
            "{read|open|show|show me|display|print|load|give me|pull up|bring me} {the file|the note|the document|whichever file|whatever file|the one file} {that mentions|that contains|that has|with|about|mentioning|containing|where I wrote|which has|that talks about|which says} <query>",
            "{see|find out|check} {which|what} file {mentions|has|contains} <query>@THEN {read|open|show me} it",
        ),
        things=(
            "{the text|the contents|the whole} of the {file|note} {that mentions|with|about|containing} <query>",
            "the {file|note|document} {that mentions|with|about|containing|where I wrote} <query>",
        ),
        clauses=(
            "what the {file|note|document} {with|about|that mentions|containing} <query> {says|contains|holds}",
        ),
        questions=(
            "what does the {file|note|document} {with|about|that mentions|containing|where I wrote} <query> {say|contain|hold}?",
            "{which|what} file {has|mentions|contains} <query>, and what does it {say|contain}?",
        ),
        fragments=(
            "<query>{:|,| -} {find|search for} {the file|it} and {read|open|show} it",
            "{file|note} {with|about} <query>{,|:} {read it|open it|what does it say?}",
        ),
    ),
    "list_read": Ways(
        commands=(
            "{list|look in|look into|open|go to|check|browse|see|go into|scan} {the folder |the directory |}<folder>@THEN {read|open|show me|print|load|display|give me} {the first|its first|the top|the very first} {file|one|entry|document}",
            "{read|open|show|show me|print|display|load|give me|take|get} the {first|very first|top} {file|document|entry|one} {in|of|from|inside|under|listed in} {the folder |the directory |}<folder>",
        ),
        things=(
            "the {first|top|very first} {file|document|entry} {in|of|from} {the folder |}<folder>",
            "{the contents|the text} of the first file {in|of} {the folder |}<folder>",
        ),
        clauses=(
            "what the first {file|document|entry} {in|of} {the folder |}<folder> {says|contains|holds}",
        ),
        questions=(
            "what {does|is in} the {first|very first|top} {file|document|one} {in|of|inside} {the folder |the directory |}<folder>{ say| contain|}?",
            "what {stands|is written} in the first file {of|in} <folder>?",
        ),
        fragments=(
            "first file {in|of} {the folder |}<folder>",
            "<folder>{:|,} {read |open |}{the |}first file",
        ),
    ),
    "fetch_write": Ways(
        commands=(
            "{save|download|store|copy|write|put|keep|archive|export|dump|grab|mirror|back up|load} {the page |the text of |the content of |the contents of |what is at |what is on |what you find at |the text at |}<url> {to|in|into|as|under} {the file |a file called |}<path>",
            "{fetch|get|open|read|download|visit|load|go to|check|grab|take|look at|pull} {the page |}<url>@THEN {write|save|put|store|keep|copy|record|note} {it|the text|what it says|the page|what you get|the content|what is there} {to|in|into|as|under} {the file |}<path>",
            "{fill|create|make|write|overwrite} {the file |a file |}<path> with {the text of|what is at|the text at|the content of|the page at} <url>",
            "{make|create|save|store} a copy of {the page |}<url> {in|as|at|called|under} <path>",
        ),
        things=(
            "{a copy of|the text of|the page} <url> {saved in|saved as|stored in|stored under|kept in} <path>",
        ),
        questions=(
            "{can|could|may} I {have|get} {a copy of |the text of |}<url> {in|as|saved in} <path>?",
        ),
        fragments=(
            "<url> {to|->|into|as} <path>",
            "{what is at|the text of|the page} <url> {goes|belongs|should go|should be} {in|into|to} <path>",
            "{in|into|to} <path>{:|,} {the text of|what is at|the page} <url>",
        ),
    ),
    "read_query": Ways(
        commands=(
            "{get|take|find|read|extract|fetch|pull|return|show|give me|look up|pick|select|report|print} {the value of |the value at |the field |the key |what is at |the entry |}<field> {from|in|out of|of|inside} {the JSON in |the JSON file |the file |}<path>",
            "@READ {the JSON in |the JSON file |}<path>@THEN {get|give me|tell me|find|show|take|extract|return|report|pick} {the value of |the value at |the field |the entry |}<field>",
            "{look|search|check} {in|into|inside} {the JSON file |}<path> for {the field |the key |the entry |}<field>",
        ),
        things=(
            "{the value|the entry|the field} {of|at|for|under|} <field> {in|from|of} {the JSON file |}<path>",
            "<field> {from|of|in} {the JSON in |}<path>",
        ),
        clauses=(
            "what {is|stands|lies} {at|under|in|behind} <field> in {the JSON file |}<path>",
            "what {value|entry} <field> has in <path>",
        ),
        questions=(
            "what {is|stands|lies|do you find|sits|is stored} {at|under|in|for} {the path |the key |the field |}<field> {in|of} {the JSON in |}<path>?",
            "{which|what} value {is|does|belongs to|stands for} <field> {have |}in {the JSON file |}<path>?",
            "{in|with|for} {the JSON file |}<path>{,|:} {what is|what's|which value has|what about} <field>?",
        ),
        fragments=(
            "<field> {of|in|from} <path>",
            "<path>{:|,| -} <field>",
            "{JSON|json} file <path>{,|:} {field|key|get} <field>",
        ),
    ),
}

CHAINED = {intent: ways.with_parts(_PARTS) for intent, ways in _CHAINED.items()}
