"""Parts of requests for one call: see phrasing.py for what they are put together to.

Commands begin with a choice of verbs, of which any form can be made; `things` are what a person may
want, ask for or have forgotten; `clauses` follow "tell me" or "I forgot"; `questions` stand alone.
"""

# ruff: noqa: E501 - tables of phrases, one a line
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ways:
    """How one thing can be asked. In each entry `{a|b|}` is a choice and `<slot>` a value."""

    commands: tuple[str, ...] = ()
    things: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    fragments: tuple[str, ...] = ()

    def with_parts(self, parts: dict[str, str]) -> Ways:
        """The same with the names of `parts` in every entry replaced by what they stand for."""
        return Ways(**{form: _replaced(entries, parts) for form, entries in vars(self).items()})


def _replaced(entries: tuple[str, ...], parts: dict[str, str]) -> tuple[str, ...]:
    for name, part in parts.items():
        entries = tuple(entry.replace(name, part) for entry in entries)
    return entries


SINGLE: dict[str, Ways] = {
    "calc": Ways(
        commands=(
            "{calculate|compute|evaluate|solve|reckon|resolve|determine|crunch|process|do|total|count} <said>",
            "{work|figure|puzzle} out <said>",
            "{run|do|make} {a|the|this} {calculation|computation|sum|maths}: <said>>>",
            "{run|put|type|enter|key} <said> {through|into|in} {the|your|a} {calculator|calc|machine}",
            "{give|tell|show|get} me <said>",
            "{find|get|determine|give|return|compute|show|report|print} the {result|value|answer|outcome|solution|number|total} {of|for|to} <said>",
            "{evaluate|solve|simplify|calculate|compute} {the|this|that} {expression|formula|sum|equation|problem|exercise}{:|} <said>",
            "{help|assist} me with <said>",
            "{double-check|verify|confirm|check} <said>",
        ),
        things=(
            "the {result|value|answer|outcome|solution|total|number} {of|for|to} <said>",
            "<said>",
            "the {exact|precise|right|correct} {value|result|answer} of <said>",
        ),
        clauses=(
            "{what|how much|how many} <said> {is|makes|gives|comes to|amounts to|equals|works out to|adds up to|would be}",
            "{what|how much} {one|you|we|I} {get|gets} {for|from|with} <said>",
        ),
        questions=(
            "{what|how much|how many} {is|would be|are|will be|was} <said>?",
            "what {does|would|will|do} <said> {amount to|come out at|result in|yield|work out to|produce|add up to}?",
            "<said> {is|equals|makes|gives} {what|how much}?",
            "<said> is what number?",
            "what {number|figure|value} {is|do you get for|comes from|results from} <said>?",
            "{how|what} about <said>?",
            "do you {happen to |}know <said>?",
        ),
        fragments=(
            "<said>",
            "<said> {please|now|quickly|=|equals}",
            "{sum|calc|calculation|maths|arithmetic|exercise|next one|quick one}{:| -|,} <said>>>",
            "{now|then|next|so|again|also|and then} <said>",
            "<said> - {the result|what is it|how much}?",
        ),
    ),
    "list": Ways(
        commands=(
            "{list|show|display|enumerate|name|print|view|see|give|inventory|present|reveal|output} {me |}@FILES",
            "{list|name|show|print|enumerate} {what is here|all there is|everything here|everything I have|whatever is here|what I have saved|what I have got}",
            "{give|get|show|print|make|read|bring|hand} {me |}{a|the} {list|listing|overview|index|inventory|catalogue|table|rundown} of {my|the|all|all the|all my} {files|documents}",
            "{look|peek|glance} {around|into|in|at} {my|the} {workspace|folder|directory|home folder|main folder}",
            "{list|show|browse|scan|display|open|inspect} {my|the|this} {workspace|home folder|main folder|main directory|root|top folder|current directory|working directory}",
        ),
        things=(
            "{a|the} {list|listing|overview|names} of {my|the|all} files",
            "the names of {all |}{my|the} {files|documents}",
            "{the contents|a listing} of {my|the} {workspace|main folder|working directory}",
            "{all the files|every file} {here|I have|you have|there is|you can see}",
        ),
        clauses=(
            "{what|which} {files|documents|notes} {I have|are here|there are|exist|you can see|I saved|are there|we have|I own}",
            "what is {here|in my workspace|in this folder|in the workspace|stored here|saved here}",
            "{what|which files} {my|the} {workspace|folder|directory} {contains|holds|has}",
        ),
        questions=(
            "{what|which} {files|documents|notes} {do I have|are there|can you see|are here|exist|have I saved|did I store|do you have|are available|are stored|have we got}?",
            "what is {in|inside} {my|the|this|our} {workspace|folder|directory|main folder|working directory}?",
            "what's {here|stored here|in here|around}?",
            "are there {any |}{files|documents} {here|at all|in the workspace}?",
            "{have I|did I} {got|saved|stored|kept} {any files|anything} here?",
            "what {all |}have I {saved|stored|kept|put here}?",
        ),
        fragments=(
            "files?",
            "{all|my} files{, please|}",
            "{file|directory} listing{ please|}",
            "ls{ please| .|}",
            "dir",
        ),
    ),
    "list_in": Ways(
        commands=(
            "{list|show|display|enumerate|name|view|see|print|inspect|browse|scan} {me |}{the files|all files|every file|everything|the documents|what there is|what you find|the content} {in|inside|within|under|of} {the folder |the directory |}<folder>",
            "{look|peek|glance|go|check|search|see} {into|inside|in} {the folder|the directory|folder|directory} <folder>",
            "{list|browse|scan|inspect|explore|open|show|display} {the |}{folder|directory} <folder>",
            "{give|get|show|print|make|bring} {me |}{a|the} {list|listing|overview|index|inventory} of {the folder |the directory |what is in |}<folder>",
            "{list|show|name} <folder>'s {files|contents|entries}",
        ),
        things=(
            "{the files|the contents|a listing|the names of the files|everything|a list of what is} {in|inside|under} {the folder |the directory |}<folder>",
            "{a|the} {list|listing|overview} of {the folder |}<folder>",
        ),
        clauses=(
            "{what|which files|which documents} {is|are} {in|inside|under|stored in|kept in} {the folder |the directory |}<folder>",
            "{what|which files} {the folder |the directory |}<folder> {contains|has|holds|has in it}",
            "what {I have|I put|I saved|there is|I keep} {in|inside|under} {the folder |}<folder>",
        ),
        questions=(
            "{what|which} {files|documents|notes|entries} {are|do I have|do I keep|can you see|did I put|are stored} {in|inside|under} {the folder |the directory |}<folder>?",
            "what {is|do you find|do you see|lies|can be found} {in|inside|under} {the folder |the directory |my folder |}<folder>?",
            "what does {the folder|the directory|my folder} <folder> {contain|hold|have|have in it}?",
            "are there {any |}files in <folder>?",
            "has {the folder |}<folder> {any files|anything in it|something in it}?",
        ),
        fragments=(
            "{files|entries|listing|everything|contents} {in|of|inside|under} <folder>",
            "{folder|directory} <folder>{:| -} {files|what is in it|contents}?",
            "{ls|dir} <folder>",
        ),
    ),
    "read": Ways(
        commands=(
            "{read|open|show|display|print|view|see|examine|inspect|study|scan|skim|check|load|access|pull up|bring up|call up|output|reveal|present|retrieve|get|fetch|grab|review|consult|browse|cat|dump|echo|quote|recite|repeat|unfold|peruse} {the file |the document |file |my file |my |the text file |the text in |}<path>",
            "{look|peek|glance|have a look|take a look|go} {at|into|inside|through} {the file |the document |my |}<path>",
            "{read|recite|quote|say|tell|repeat} {me |}{the text|the content|the contents|what is written} {of|in} <path>",
            "{show|give|tell|get|read|bring|hand|send|fetch|print|pass} me <path>",
            "{show|give|get|read|print|display|output|bring|list|reveal|extract} {me |}{the contents|the content|the text|everything|the whole text|all the text|whatever is|all lines|the words|what is} {of|in|from|inside} {the file |}<path>",
            "{read|open|load|take|grab} {the file |}<path> {and|then} {show|tell|give|say|report|print} {me |}{what it says|its contents|the contents|the text|what is inside|everything in it|what you find}",
            "{read|open} <path> {aloud|out|out loud|to me|for me|completely|in full}",
            "{go|walk} through <path> {and|to} {see|tell me} what it {says|contains}",
        ),
        things=(
            "{the contents|the content|the text|the words|everything|all} {of|in|inside} {the file |my file |}<path>",
            "{the file|my file|the document|the note} <path>",
            "<path>",
            "what {is|was} {in|inside|written in} <path>",
            "what I {wrote|put|noted|saved} {in|into|down in} <path>",
        ),
        clauses=(
            "what {the file |the document |my file |}<path> {says|contains|holds|has in it|reads|is about|has to say|tells}",
            "what {is|was|stands} {in|inside|written in|stored in|saved in|kept in|noted in} {the file |my file |}<path>",
            "what {I|we} {wrote|put|noted|saved|stored|kept|jotted down|have} {in|into} {the file |}<path>",
        ),
        questions=(
            "what {is|was|stands|lies|have I got|did I write|did I put|do I have|did I note|is there|do you see|do you find|can be read} {in|inside} {the file |my file |the document |}<path>?",
            "what does {the file |my file |the note |}<path> {say|contain|hold|read|tell|have inside|have to say|look like|include}?",
            "what's {in|inside|written in|the content of|the text of} {the file |}<path>?",
            "<path> {says|contains|has|holds} what?",
            "is there {anything|something|any text} {in|inside} <path>?",
            "may I {see|read|have} <path>?",
            "{can|could|shall} we {see|read|open|look at} <path>?",
            "how does <path> read?",
            "{and |}what about <path>?",
        ),
        fragments=(
            "<path>",
            "<path>{,| -|:} {what does it say|what is in it|contents|show me|open it|read it|please|let me see}{?|}",
            "{the |}{text|contents|content} of <path>",
            "{now|then|next|and|also} <path>",
            "{file|document|note}: <path>>>",
        ),
    ),
    "lookup": Ways(
        commands=(
            "{find|look up|get|check|see|fetch|read|extract|pull|grab|locate|take|retrieve|pick|dig out} {the |the value of |the number for |the entry for |the figure for |the amount of |the row of |the line of |}<key> {in|from|out of|inside|within} {the file |}<path>",
            "{open|read|check|consult|look at|go through|use|take|scan|search} {the file |}<path> {and|to} {tell me|give me|find|see|say|report|get|look up|find out} {the |the value of |what it has for |how much is }<key>",
            "{look|check|see|search} {in|into|inside} <path> for {the |}<key>",
            "{tell|give|show|get|read} me {the |the value of |the number for |the figure of |the amount of |the entry for |the line with |}<key> {in|from|out of|of} {the file |}<path>",
        ),
        things=(
            "{the |the value of |the number for |the figure for |the amount of |the entry for |}<key> {in|from|according to|listed in} {the file |}<path>",
            "what <path> {says|has|lists|gives} {about|for|on|under} <key>",
        ),
        clauses=(
            "{what|how much|how many} {is |}{the |}<key> {is|are} {in|according to|by} <path>",
            "what {the file |}<path> {says|has|lists|gives|notes|shows|knows} {about|for|on|under|as|of} <key>",
            "what {the |}<key> {is|was|costs|has|comes to} {in|according to|by} <path>",
        ),
        questions=(
            "{what|how much|how many} {is|are|was|were} {the |}<key> {in|according to|by|listed in|noted in} {the file |}<path>?",
            "what {number|figure|value|amount|entry} {has|does|is given for|belongs to|goes with|stands for|is listed for} <key> {have |}in <path>?",
            "what {does|did} <path> {list|give|have|note|show|state|report} {for|as|under|beside|about} <key>?",
            "<key> in <path>{,| -} {what is it|how much|how many|which number}?",
            "{is|was} <key> {in|listed in|mentioned in|noted in} <path>?",
        ),
        fragments=(
            "<key> {in|from|of|,} <path>?",
            "<path>: <key>?",
            "{value|number|figure|amount} of <key> {in|from} <path>",
            "{in|from|per} <path>{,|:} {the |}<key>",
        ),
    ),
    "write": Ways(
        commands=(
            "{write|save|put|store|enter|insert|place|print|dump|type|record|log|keep|file|stick|add|note|jot|output|drop|leave|set|paste|copy|send|commit|push|register|inscribe|pen} {the text |the words |the line |the note |the sentence |}<text> {in|into|to|inside|down in|onto} {the file |the document |a file |a file called |a file named |my file |a new file |}<path>",
            "{create|make|start|generate|produce|prepare|set up|open|build|form} {a file|the file|a new file|a document|a text file|a note|} {called |named |}<path> {with|containing|that contains|holding|saying|that says|which says|that reads|whose content is|with the text|with the content|with the words|and put in it|and write in it|and fill it with} <text>",
            "{fill|overwrite|replace|update|set|load} {the file |the contents of |the text of |}<path> {with|to} <text>",
            "{have|let|make} {the file |}<path> {say|contain|read|hold} <text>",
            "{write|save|put|store|note|record|keep} {this|the following|that|what follows} {in|into|to|as} <path>: <text>>>",
            "{write|save|put|note|record} <text>{,| and} {call|name} {it|the file} <path>",
            "{save|write|keep|store|record|note} <text> as <path>",
            "{write|note|jot|put|record|scribble|take} down <text> {in|into} <path>",
            "{change|turn|edit|modify} {the content of |the text of |}<path> {to|into} <text>",
            "{put|write|save} {into|in|to} <path> {the text |the words |the line |}<text>",
        ),
        things=(
            "{a|one|another} {new file|new document|new note|new text file} {called |named |}<path> {with|containing|saying|that says|which reads} <text>",
            "<path> {to say|to contain|to read|to hold|with the text} <text>",
        ),
        clauses=(),
        questions=(
            "{can|could|will|would} {the file |}<path> {say|contain|have} <text>?",
            "{can|could} I {have|get|see} <text> {in|written to|saved in} <path>?",
        ),
        fragments=(
            "<text> {goes|belongs|should go|must go|shall go|has to go|should be} {in|into|to} {the file |}<path>",
            "<path> {should|must|shall|has to|ought to} {say|contain|read|hold|have|be} <text>",
            "{note|new file|new note|text|content} {for|in|into|to} <path>: <text>>>",
            "<text> {to|into|in|->|as} {file |}<path>",
            "{into|in|to} {the file |}<path>{:|,} <text>>>",
        ),
    ),
    "search": Ways(
        commands=(
            "{search|look|hunt|check|browse|comb|scan|seek|dig|grep|scour|go} {for|through my files for|in my files for|through everything for|around for|all files for|through all files for|the workspace for} {the text |the word |the words |mentions of |lines with |}<query>",
            "{find|locate|spot|discover|trace|identify|detect|get|list|show|collect|gather} {me |}{all |every |any |the |}{mention|mentions|occurrence|occurrences|line|lines|place|places|instance|instances|appearance} {of|with|containing|that contain|that mention|saying|about|where I wrote} <query>",
            "{find|locate|name|list|show|get} {me |}{the|all|all the|every|any|which} {file|files|document|documents|note|notes} {that mention|that mentions|mentioning|with|containing|that contain|that has|about|where I wrote|that talk about|that say} <query>",
            "{find|locate|search|grep} <query> {in|among|across|throughout|within} {my files|all files|the files|the workspace|my notes|my documents|everything|any file}",
            "{search|scan|check|grep|query|comb} {my files|all files|the files|the workspace|my notes|everything|my documents|every file} for <query>",
            "{see|check|find out|tell me} {if|whether} <query> {is|occurs|appears|comes up|is mentioned} {anywhere|somewhere|in any file|in my files}",
        ),
        things=(
            "{the|all|every|any} {mentions|places|lines|file|files|notes|spot|line} {with|of|about|that mention|mentioning|containing|where I mention} <query>",
        ),
        clauses=(
            "{where|in which file|in what file|in which files} {I|we} {wrote|mentioned|noted|put|said} <query>",
            "{where|in which file} <query> {is|was|stands|occurs|appears|comes up|is mentioned|is written}",
            "{which|what} {file|files|notes|documents} {has|have|mention|mentions|contain|contains|talk about} <query>",
        ),
        questions=(
            "{where|in which file|in what file} {do|did|have} I {mention|write|say|note|written|noted|talk about|put} <query>?",
            "{where|in which file|in which files} {is|does|was|can I find|could|do you find|do you see} <query> {appear|mentioned|written|stand|be|}?",
            "{which|what} {file|files|note|notes|document|documents|lines} {mention|mentions|contain|contains|has|have|includes|talks about|is about|speak of} <query>?",
            "{is|was} there {anything|something|a line|a note|a file|any mention} {about|on|of|with} <query>{ in my files| anywhere|}?",
            "{have|did} I {ever |}{written|write|note|mention|noted|mentioned} {anything about |}<query>{ anywhere| somewhere|}?",
            "any {mention|trace|sign|line|file} {of|with|about} <query>?",
        ),
        fragments=(
            "{search|grep|find|look for|mentions}: <query>>>",
            "<query>{,| -} {which file|where is it|in which file|where}?",
            "{files|lines|notes} {with|about|mentioning|containing} <query>",
        ),
    ),
    "fetch": Ways(
        commands=(
            "{fetch|open|get|load|read|download|visit|check|retrieve|access|view|pull|grab|show|display|request|browse|scrape|look up|call up|pull up|bring up|see|inspect|render|query|crawl} {the page |the site |the web page |the website |the address |the link |the URL |this page: |this link: |}<url>",
            "{go|navigate|head|surf|browse|jump|connect|hop} {over |}to {the page |the site |the address |}<url>",
            "{look|peek|glance|have a look|take a look} at {the page |the site |}<url>",
            "{get|fetch|read|show|give|bring|print|extract|load|pull} {me |}{the text|the content|the contents|the page|what is|everything|whatever is} {at|of|from|on|behind} <url>",
            "{open|visit|fetch|read|load|check} <url> {and|then} {tell me|show me|say|report|give me} {what it says|what is there|what you find|the text|what is on it|what you see}",
            "{click|follow} {on |the link |this link: |}<url>",
        ),
        things=(
            "{the text|the content|the contents|the page} {at|of|on|from} <url>",
            "<url>",
            "{the page|the site|the website|the article at} <url>",
        ),
        clauses=(
            "what {the page |the site |the link |}<url> {says|contains|shows|has|is about|reads}",
            "what {is|stands|was|there is} {on|at|behind|under} {the page |}<url>",
        ),
        questions=(
            "what {is|can be found|stands|do you find|do you see|is written|is there|could I read} {on|at|under|behind} {the page |the site |}<url>?",
            "what does {the page|the site|the website|the link|} <url> {say|show|contain|hold|have|read}?",
            "{is there|do you see} {anything|something} {on|at} <url>?",
            "what's {on|at|new at|behind} <url>?",
            "{and |}what about <url>?",
        ),
        fragments=(
            "<url>",
            "<url>{,| -} {what does it say|what is there|please|open it|show me}{?|}",
            "{page|site|link|web page|URL}: <url>>>",
            "{now|then|next|and} <url>",
        ),
    ),
    "match": Ways(
        commands=(
            "{find|get|list|show|extract|collect|give me|pull|return|pick} {all |the |every |}{matches|hits|parts|pieces|occurrences} {of|for|that match|matching|that fit|fitting} {the pattern |the regex |}<pattern> {in|from|within|out of|inside} {the text |the string |}<text>",
            "{apply|run|use|try|test|match|execute|put|check} {the regex |the pattern |the regular expression |}<pattern> {on|over|to|against|with|in} {the text |the string |}<text>",
            "{search|scan|match|check|test|filter|parse|go through} {the text |the string |}<text> {for|with|using|by|against} {the regex |the pattern |the expression |matches of |}<pattern>",
            "{extract|pull|pick|take|get} <pattern> {from|out of} {the text |}<text>",
            "{see|check|tell me|find out|show me} {what|which parts} <pattern> {matches|finds|hits|catches|picks out} in <text>",
        ),
        things=(
            "{the|all} {matches|hits} {of|for} {the pattern |the regex |}<pattern> in {the text |}<text>",
        ),
        clauses=(
            "what {the regex |the pattern |}<pattern> {matches|finds|hits|catches} in {the text |}<text>",
            "{what|which parts|which words} {of|in} <text> {matches|match|fits|fit} {the pattern |the regex |}<pattern>",
        ),
        questions=(
            "what {does|would|will} {the regex |the pattern |the expression |}<pattern> {match|find|hit|catch|pick out|give} in {the text |}<text>?",
            "{what|which parts|which pieces} {of|in} {the text |}<text> {match|matches|fit|fits} {the pattern |the regex |}<pattern>?",
            "{is|are} there {a match|matches|any matches|any hits} {of|for} <pattern> in <text>?",
        ),
        fragments=(
            "{regex|pattern|match} <pattern>{ on|, text| in|:} <text>",
            "<text>{,| -} {matches|hits} {of|for} <pattern>?",
        ),
    ),
    "query": Ways(
        commands=(
            "{get|take|find|read|extract|fetch|pull|return|show|give me|look up|pick|select|grab|report|print} {the value of |the value at |the field |the key |what is at |the entry |}<path> {from|in|out of|of|inside|within} {the JSON |this JSON: |the object |the document |}<json>",
            "{parse|take|read|use|query|look at|go through|search} {the JSON |this JSON: |the object |}<json> {and|to} {give me|tell me|get|find|return|show|take|extract|read|report} {the value of |the value at |the field |}<path>",
            "{look|search|check} {in|into|inside} {the JSON |}<json> for {the field |the key |}<path>",
        ),
        things=(
            "{the value|the entry|the field} {of|at|for|under|} <path> {in|from|of} {the JSON |this JSON: |}<json>",
            "<path> {from|out of|in} {the JSON |}<json>",
        ),
        clauses=(
            "what {is|stands|lies|sits} {at|under|in|behind} <path> in {the JSON |}<json>",
            "what {value|entry} <path> has in {the JSON |}<json>",
        ),
        questions=(
            "what {is|stands|lies|do you find|sits|is stored} {at|under|in|for} {the path |the key |the field |}<path> {in|of} {the JSON |this JSON: |}<json>?",
            "{which|what} value {is|does|belongs to|goes with|stands for} <path> {have |}in {the JSON |}<json>?",
            "{in|given|with|for} {the JSON |}<json>{,|:} {what is|what's|which value has|what about} <path>?",
        ),
        fragments=(
            "<path> {of|in|from} <json>",
            "<json>{,| -|:} <path>",
            "{JSON|json|data}: <json>{,|;} {field|path|key|give me|get|value of} <path>>>",
        ),
    ),
    "diff": Ways(
        commands=(
            "{compare|diff|contrast|check|match|set} {the text |the texts |}<old> {with|to|and|against} {the text |}<new>",
            "{show|tell|give|find|list|get|point out|report|spot|see} {me |}{the difference|the differences|the changes|what changed|how they differ|what is different} {between|from|in} <old> {and|to} <new>",
            "{make|run|do|produce|print|show} {a diff|a comparison} {of|between|from|for} <old> {and|to|with} <new>",
            "{see|check|tell me|find out} {if|whether} <old> {is|equals|is the same as|matches|differs from} <new>",
        ),
        things=(
            "{the difference|the differences|the changes|a comparison|a diff} {between|of|from} <old> {and|to} <new>",
        ),
        clauses=(
            "{how|where|in what} <old> {differs|is different} from <new>",
            "what {changed|changes|is different|differs} {between|from|if you go from} <old> {and|to} <new>",
            "{if|whether} <old> and <new> {are the same|are equal|differ|are identical}",
        ),
        questions=(
            "what {changed|changes|differs|is different|has changed|was changed} {between|from|when going from} <old> {and|to} <new>?",
            "{how|where} {do|does} <old> {and <new> differ|differ from <new>|compare to <new>}?",
            "{are|is} <old> {and <new> identical|and <new> equal|identical to <new>|equal to <new>|any different from <new>}?",
            "<old> or <new>{,| -} what is the difference?",
        ),
        fragments=(
            "{before|old|first|old text|one}: <old>{,|;| -} {after|new|second|new text|other}: <new>>>",
            "<old> {vs|versus|against|compared to} <new>",
            "{diff|difference|changes}: <old> {and|->|to} <new>>>",
            "it {was|said|read} <old> and {is now|now says|now reads} <new>, what changed?",
        ),
    ),
    "count": Ways(
        commands=(
            "{count|number|tally|tell me|report|find|determine|get|check|compute|measure} {the |all the |all |}<unit> {in|of|inside|within} {the text |the string |the phrase |the line |}<text>",
            "{give|tell|find|get|show} me {the number of|the count of|how many} <unit> {in|there are in|are in|for} {the text |the phrase |}<text>",
            "{count|add} up the <unit> {in|of} {the text |}<text>",
            "{take|look at|read|go through} {the text |}<text> and {count|tell me the number of|number} {the |its |}<unit>",
        ),
        things=(
            "{the number of <unit>|the <unit> count|the count of <unit>} {in|of|for} {the text |the phrase |}<text>",
        ),
        clauses=(
            "how many <unit> {the text |the phrase |}<text> {has|contains|holds|counts|consists of|is made of}",
            "how many <unit> {are|there are|you find|are found} in {the text |the phrase |}<text>",
        ),
        questions=(
            "how many <unit> {are|do you see|do you find|can be found|would you say are|stand} in {the text |the phrase |the string |}<text>?",
            "how many <unit> {does|has|make up|long is} {the text |the phrase |}<text>{ have| hold|}?",
            "what is the {number of <unit>|<unit> count|count of <unit>} {in|of|for} {the text |}<text>?",
            "{the text |}<text> has how many <unit>?",
        ),
        fragments=(
            "<unit> {in|of} <text>",
            "<text>{,| -|:} {how many <unit>|number of <unit>|count the <unit>|<unit>}?",
            "{count|number of} <unit>: <text>>>",
        ),
    ),
    "count_all": Ways(
        commands=(
            "{count|measure|size|gauge|tally|analyse|analyze} {the text |the phrase |this: |}<text>",
            "{give|tell|show|get|find} me {the size|the length|the statistics|the counts|the measurements} of {the text |}<text>",
        ),
        things=("{the length|the size|the counts|the statistics} {of|for} {the text |}<text>",),
        clauses=("how {long|big|large} {the text |the phrase |}<text> is",),
        questions=(
            "how {long|big|large} is {the text |the phrase |}<text>?",
            "what {length|size} {has|does|is} <text>{ have|}?",
        ),
        fragments=(
            "{length|size|counts|statistics}{:| of} <text>>>",
            "<text>{,| -} how long{ is it|}?",
        ),
    ),
}

_RUNNING = Ways(
    commands=(
        "{run|execute|evaluate|try|start|test|launch|perform|interpret|do} {this |the |this piece of |some |}@CODE: <code>>>",
        "{run|execute|evaluate|try|test|start|interpret} <code> {in|as|with|using|through} @LANGUAGE",
        "{see|show me|tell me|find out|check} what {the |this |}@CODE {prints|gives|returns|does|outputs|says}: <code>>>",
        "{use|start|take} @LANGUAGE {to|and} {run|execute|evaluate|do} <code>",
    ),
    things=("{the output|the result|what comes} {of|from|out of} {the |this |}@CODE{:|} <code>>>",),
    clauses=("what {the |this |}@CODE <code> {prints|gives|returns|does|outputs|yields}",),
    questions=(
        "what {does|will|would} {the |this |}@CODE <code> {print|give|return|do|output|yield}?",
        "what {is the output|comes out|is printed|do I get} {of|if you run|with|when I run} {the |this |}@CODE{:|} <code>?",
    ),
    fragments=("@LANGUAGE{:| -|,} <code>>>", "<code> {in|as} @LANGUAGE"),
)


def _running(language: str, short: str) -> Ways:
    """The ways to have code run: the same for every language."""
    kinds = [f"{language} {kind}" for kind in ("code", "program", "script", "snippet")]
    code = "|".join([language, short, *kinds])
    return _RUNNING.with_parts({"@CODE": f"{{{code}}}", "@LANGUAGE": f"{{{language}|{short}}}"})


SINGLE["list"] = SINGLE["list"].with_parts(
    {
        "@FILES": "{my|the|all|all my|all the|all of my|these|those|our} {files|documents|notes|texts|papers}"
    }
)
SINGLE["js"] = _running("JavaScript", "JS")
SINGLE["python"] = _running("Python", "python")
