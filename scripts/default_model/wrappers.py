"""What people put around the part of a request that says what they want: shared by all intents.

`<x>` is the part: a command ("read a.txt"), its -ing form, a thing ("the text of a.txt"), a clause
("what a.txt says") or a question. Nothing here says which function is meant.
"""

# ruff: noqa: E501 - tables of phrases, one a line
from __future__ import annotations

COMMANDS = (
    "{can|could|would|will|might} you {please |kindly |just |maybe |perhaps |possibly |quickly |}<x>?",
    "please <x>",
    "{kindly|now|then|next|just|simply|quickly|also|again|first|ok|okay|right|so|well|alright} <x>",
    "{I'd like you|I would like you|I want you|I need you|I am asking you|I ask you|I expect you|I would love you|I told you} to <x>",
    "I {need|want|have|would like|would love|am trying|wish|was hoping|hope|am about|forgot} to <x>",
    "{any chance you {could|can}|is there any chance you can|do you think you could|I wonder if you could|I was wondering if you could|I was wondering whether you can|it would be great if you could|it would be nice if you could|I'd appreciate it if you could|I would be glad if you could|I'd be grateful if you would|see if you can|I hope you can|maybe you can|perhaps you could|if you can} <x>",
    "{is it possible|would it be possible|are you able|may I ask you|could I ask you|can I ask you|can I get you|can I trouble you|how hard is it|do you know how} to <x>?",
    "{make sure|be sure|remember|do not forget|don't forget|try|it is time|time|be so kind as|you are|your task is|your job is|the next step is|the task is|what I want is|what I need is|what you should do is|all you have to do is|I need someone|I need help|the idea is|the plan is|we have|we need} to <x>",
    "{you should|you can|you could|you may|you must|let's|let us|let me|we should|I should|I must|shall we|can we|could we|now we} <x>",
    "{go ahead and|go and|do me a favor and|be a dear and|come on,|help me|be quick and|hurry and|do} <x>",
    "{task|todo|to do|action|job|request|command|order|instruction|step|next|one more thing|first}: <x>>>",
    "{hey|hi|hello|hey there|hi there|yo|dear assistant|assistant|excuse me|sorry|um|well|look|listen}, <x>",
    "if {you can|possible|you do not mind|it is not too much trouble|you have a moment|it helps}, <x>",
    "{when you can|when you have time|once more|one more time|before I forget|for my records|for tomorrow|this time|as a test|to begin with|for now|from now on|after this}, <x>",
    "how {do|can|could|would|should} {I|you|we|one} <x>?",
    "{why don't you|will you|won't you|can't you|couldn't you} <x>?",
)
ENDINGS = (
    " {please|for me|for me please|now|right now|right away|at once|quickly|again|once more|today|if you can|if possible|when you can|would you|will you|ok|and be quick|for a friend|for my boss|as soon as you can|first|instead|this time|real quick|asap|thanks|thank you}",
    ", {please|thanks|thank you|ok|would you|will you|could you|if you can|if possible|if you please|for a change|my friend|thanks a lot|that is all|cheers|many thanks}",
    ". {Thanks|Thank you|Please|That is all|Be quick|Hurry|It is urgent|No rush|I am waiting|Thank you very much|Cheers|I need it soon|I appreciate it|Nothing else}",
)
DOING = (
    "would you mind <x>?",
    "do you mind <x>?",
    "{how|what} about <x>?",
    "{start by|try|begin by|go on with|continue by|I suggest|I feel like|I was thinking of|consider|we are|I need help|help me with|thanks for|I am|let us start by|next is} <x>",
    "{is|would} <x> {possible|an option|something you can do|be possible}?",
)
THINGS = (
    "{I need|I want|I'd like|I would like|I require|I am after|I'm looking for|I am looking for|I wish to have|I could use|I have to have|I wish for|we need|get me|give me|bring me|hand me|show me|tell me|let me have|let me see|find me|provide|report|return|output|display|print|show|find|get|read me|pass me|fetch me|present|I asked for|I am waiting for|I miss|I need to see|I want to see|I'd love to see|I must know|I want to know|I need to know|I would like to know|I am curious about|remind me of|name|state|say|produce|deliver} <x>",
    "{can|could|may|might} I {have|get|see|know|look at|ask for} <x>?",
    "{can|could|would|will} you {give|show|tell|get|find|bring|read|hand|fetch} me <x>?",
    "{what is|what's|what was|what are|do you know|do you have|have you got|how about|where is} <x>?",
    "{what is|what's|what was} <x> again?",
    "{I forgot|I cannot remember|I can't remember|I don't remember|I do not know|I lost|I no longer know|I never knew|no idea of|I have forgotten} <x>",
    "<x>",
    "<x>?",
    "<x>{, please| please| now|, thanks| again| for me}",
    "{the question is|question|wanted|needed|required|missing|my question|now|next|next up|still missing|what I need|what I want}: <x>>>",
    "{my boss|my friend|my team|somebody|a client|my teacher|my sister} {asks for|wants|needs|wants to see|asked for} <x>",
)
CLAUSES = (
    "{tell me|let me know|show me|say|report|find out|check|see|look up|figure out|work out|remind me|inform me|explain|state|determine|discover|learn|I need to know|I want to know|I'd like to know|I would like to know|I have to know|I must know|I wonder|I am wondering|I'm curious|I wish I knew|I was wondering|I ask myself|I want to find out|I need to find out|help me find out|I need you to tell me|please say|go and see|try to find out|make sure you tell me} <x>",
    "{I forgot|I cannot remember|I can't remember|I don't remember|I do not know|I don't know|I have no idea|I am not sure|not sure|I can't tell|I never knew|I have forgotten} <x>",
    "{do you know|can you tell me|could you tell me|would you tell me|can you say|can you see|could you check|can you find out|any idea|may I know|might I ask|can I ask|could you find out|can you check|could you look up|would you check|do you remember|can you remind me|are you able to tell me|would you mind telling me|is it known} <x>?",
    "<x>",
    "<x>?",
    "{my boss|my friend|my team|somebody|a client|my teacher} {asks|wants to know|needs to know|asked me|would like to know} <x>",
    "{the question is|question|what I need to know is|what I want to know is}{:|} <x>>>",
)
QUESTIONS = (
    "<x>",
    "{hey|hi|hello|so|well|now|and|ok|tell me|say|listen|please|sorry|excuse me|quick question|one question|just wondering|out of curiosity|I forgot|remind me|I ask again|one more|question|hm|um}{,|:} <x>",
    "<x> {please|thanks|I forgot|I forget|again|tell me|do you know|just asking|I need to know|anyone|hm}",
)
REASONS = (
    "I {am writing a report|am in a hurry|lost my notes|need it for work|have a meeting soon|am cleaning up|am a bit lost|am new here|have no time|need this today|am checking something|am making a plan|cannot find it|forgot it|am working on something|was away|have to go soon|just woke up|am on the phone|want to be sure}",
    "{my boss|my friend|my wife|my team|the teacher|a client|<name>|the office} {asked for it|wants it|is waiting|needs it|asked me|called about it|will check it}",
    "{it is|this is} {urgent|important|for a report|for my boss|for tomorrow|just a test|not urgent|for <name>|for the meeting|about my work|my last question|the first task|needed today}",
    "{good morning|hello|hi|hello again|hi there|good evening|sorry to bother you|here is a task|a small thing|new task|next task|next question|one more thing|I need your help|help me|listen|I have a question|I have a request|let us begin|ready}",
    "{thanks|thank you|well done} {so far|for that|for the last one|for your help}",
)
FILLERS = "{just|quickly|maybe|perhaps|kindly|now|again|then|also|really|um|well|please|actually|somehow|simply|first|there|once|today}"
