"""The table of functions that do not ship: see others.py for what is made of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Other:
    """names | descriptions; parameters as `name:slot`, `name?:slot` where optional; requests."""

    names: str
    descriptions: str
    parameters: str
    requests: tuple[str, ...]
    answers: str


# Slots: place person thing text int num unit lang date time bool word phrase
OTHERS: dict[str, Other] = {
    "weather": Other(
        "get_weather|weather|forecast|weather_now",
        "Tell the weather in a place|Current weather for a city|Weather forecast",
        "city:place",
        (
            "what is the weather {like |}in <city>?",
            "{is it raining|will it rain|is it sunny|is it cold} in <city>?",
            "{tell|give} me the {weather|forecast} {for|in} <city>",
            "weather in <city>",
        ),
        "temperature:int,sky:word",
    ),
    "timer": Other(
        "set_timer|timer|start_timer|countdown",
        "Start a timer|Set a countdown in minutes",
        "minutes:int",
        (
            "set a timer for <minutes> minutes",
            "{start|begin} a <minutes> minute {timer|countdown}",
            "wake me {up |}in <minutes> minutes",
            "time <minutes> minutes",
        ),
        "ok",
    ),
    "email": Other(
        "send_email|email|mail|send_mail",
        "Send an email to someone|Write and send a mail",
        "to:person,body:text",
        (
            "send an email to <to> saying <body>",
            "{email|mail} <to> {that|the text|:} <body>",
            "write to <to>: <body>>>",
            "let <to> know by email: <body>>>",
        ),
        "ok",
    ),
    "calendar": Other(
        "add_event|create_event|calendar_add|schedule",
        "Put an event in the calendar|Schedule an event on a day",
        "title:phrase,day:date",
        (
            "{add|put} <title> {to|in} my calendar {on|for} <day>",
            "schedule <title> {on|for} <day>",
            "create an event <title> on <day>",
            "I have <title> on <day>, put it in the calendar",
        ),
        "ok",
    ),
    "events": Other(
        "list_events|agenda|calendar_list",
        "Show the events of a day|What is in the calendar on a day",
        "day:date",
        (
            "what is on my calendar on <day>?",
            "{show|list} my {events|appointments|agenda} {on|for} <day>",
            "am I busy on <day>?",
            "what do I have planned for <day>?",
        ),
        "events:words",
    ),
    "translate": Other(
        "translate|translate_text|translation",
        "Translate a text into a language",
        "text:text,language:lang",
        (
            "translate <text> {to|into} <language>",
            "{say|how do you say} <text> in <language>",
            "what is <text> in <language>?",
            "give me <text> in <language>",
        ),
        "translation:phrase",
    ),
    "convert": Other(
        "convert_units|convert|unit_convert",
        "Convert a quantity from one unit to another",
        "amount:number,from:unit,to:unit",
        (
            "convert <amount> <from> to <to>",
            "how many <to> {are|is} <amount> <from>?",
            "<amount> <from> in <to>",
            "change <amount> <from> into <to>",
        ),
        "value:num",
    ),
    "currency": Other(
        "exchange|currency|convert_currency",
        "Exchange an amount between currencies",
        "amount:number,to:money",
        (
            "{convert|exchange|change} <amount> dollars {to|into} <to>",
            "how much is <amount> dollars in <to>?",
            "what are <amount> dollars worth in <to>?",
        ),
        "value:num",
    ),
    "contact": Other(
        "find_contact|contact|lookup_person|phone_book",
        "Find the phone number of a person|Look up a contact",
        "name:person",
        (
            "what is the phone number of <name>?",
            "{find|look up|get} {the contact|the number of|the phone of} <name>",
            "how do I {reach|call} <name>?",
        ),
        "phone:int",
    ),
    "call": Other(
        "call|phone|dial|make_call",
        "Call a person on the phone",
        "name:person",
        (
            "call <name>",
            "{phone|ring|dial} <name>",
            "{make|start} a call {to|with} <name>",
            "get <name> on the phone",
        ),
        "ok",
    ),
    "music": Other(
        "play_music|play|music|player",
        "Play a song or an artist|Start playing music",
        "title:phrase",
        (
            "play <title>",
            "{play|put on|start} the song <title>",
            "{I want to hear|let me hear} <title>",
            "put on some <title>",
        ),
        "ok",
    ),
    "light": Other(
        "set_light|light|switch_light|lamp",
        "Turn a light on or off|Switch the light in a room",
        "room:word,state:onoff",
        (
            "{turn|switch} <state> the {light|lamp} in the <room>",
            "{turn|switch} the <room> {light|lamp|lights} <state>",
            "<room> light <state>",
        ),
        "ok",
    ),
    "reminder": Other(
        "remind|add_reminder|reminder|set_reminder",
        "Remind of something at a time|Set a reminder",
        "what:phrase,time:time",
        (
            "remind me {to|about} <what> at <time>",
            "set a reminder {to|for} <what> at <time>",
            "at <time> remind me {of|to|about} <what>",
            "do not let me forget <what> at <time>",
        ),
        "ok",
    ),
    "route": Other(
        "route|directions|navigate|get_route",
        "Find the way to a place|Directions to a place",
        "to:place",
        (
            "how do I get to <to>?",
            "{give|show} me {directions|the way|the route} to <to>",
            "navigate to <to>",
            "how far is <to>?",
        ),
        "km:int,minutes:int",
    ),
    "define": Other(
        "define|dictionary|meaning|lookup_word",
        "Give the meaning of a word|Dictionary",
        "word:word",
        (
            "what does {the word |}<word> mean?",
            "define <word>",
            "what is the {meaning|definition} of <word>?",
            "look up the word <word> in the dictionary",
        ),
        "meaning:phrase",
    ),
    "random": Other(
        "random_number|roll|dice|random",
        "A random number up to a maximum|Roll a die",
        "max:int",
        (
            "{give me|pick|choose} a random number {up to|below|from 1 to} <max>",
            "roll a <max> sided die",
            "random number up to <max>",
        ),
        "number:int",
    ),
    "stock": Other(
        "stock_price|quote|stock|share_price",
        "Price of a share|Current price of a stock",
        "symbol:symbol",
        (
            "what is the {stock|share} price of <symbol>?",
            "how is <symbol> {stock |}doing?",
            "{get|give me} the {price|quote} {of|for} <symbol>",
            "how much is <symbol> trading at?",
        ),
        "price:num",
    ),
    "message": Other(
        "send_message|message|sms|text_person",
        "Send a short message to a person|Send an SMS",
        "to:person,text:text",
        (
            "{text|message} <to> <text>",
            "send {a message|an SMS|a text} to <to>: <text>>>",
            "tell <to> <text>",
            "send <to> the message <text>",
        ),
        "ok",
    ),
    "delete": Other(
        "delete_file|remove_file|rm|erase",
        "Delete a file|Remove a file for good",
        "path:path",
        (
            "{delete|remove|erase} {the file |}<path>",
            "get rid of <path>",
            "throw away <path>",
            "rm <path>",
        ),
        "ok",
    ),
    "rename": Other(
        "rename_file|move_file|mv|rename",
        "Give a file another name|Move a file",
        "old:path,new:path",
        ("rename <old> to <new>", "{move|mv} <old> to <new>", "change the name of <old> to <new>"),
        "ok",
    ),
    "append": Other(
        "append_file|add_line|append",
        "Add a line at the end of a file",
        "path:path,line:text",
        (
            "append <line> to <path>",
            "add the line <line> to the end of <path>",
            "add <line> at the end of <path>",
        ),
        "ok",
    ),
    "clock": Other(
        "current_time|clock|now|get_time",
        "The time now|Tell the time in a city",
        "city?:place",
        (
            "what time is it in <city>?",
            "{tell|give} me the time in <city>",
            "what is the time in <city>?",
        ),
        "time:time",
    ),
    "image": Other(
        "make_image|draw|generate_image|picture",
        "Draw a picture of something|Make an image",
        "prompt:phrase",
        (
            "draw {me |}<prompt>",
            "{make|create|generate} {a picture|an image|a drawing} of <prompt>",
            "paint <prompt>",
        ),
        "ok",
    ),
    "order": Other(
        "order_food|order|buy|shop",
        "Order a thing from the shop|Buy something",
        "item:phrase,count?:number",
        (
            "order <count> <item>",
            "buy <count> <item>",
            "get me <count> <item> from the shop",
            "{order|buy} <item>",
        ),
        "number:int",
    ),
    "flight": Other(
        "book_flight|flights|book_trip",
        "Book a flight to a place|Book a trip",
        "to:place,date:date",
        (
            "book {me |}a flight to <to> {on|for} <date>",
            "I {want|need} to fly to <to> on <date>",
            "get me a {ticket|plane ticket|seat} to <to> on <date>",
        ),
        "ok",
    ),
    "news": Other(
        "news|headlines|get_news",
        "Latest news on a topic",
        "topic:phrase",
        (
            "what is {new|the news} about <topic>?",
            "{show|give|tell} me {news|headlines} {on|about} <topic>",
            "latest news on <topic>",
            "what is happening with <topic>?",
        ),
        "headline:phrase",
    ),
    "volume": Other(
        "set_volume|volume|loudness",
        "Set the volume in percent",
        "level:int",
        (
            "set the volume to <level>",
            "{turn|make} the {sound|volume} {up |down |}to <level>",
            "volume <level>",
        ),
        "ok",
    ),
    "thermostat": Other(
        "thermostat|set_temperature|heating",
        "Set the heating of a room",
        "room:word,degrees:number",
        (
            "set the <room> to <degrees> degrees",
            "heat the <room> to <degrees>",
            "make {the|it} <room> <degrees> degrees",
        ),
        "ok",
    ),
    "todo": Other(
        "add_todo|todo_add|new_task|add_task",
        "Put a task on the to-do list",
        "task:phrase",
        (
            "add <task> to my {to-do list|todo list|tasks}",
            "put <task> on my {list|to-do list}",
            "new task: <task>>>",
            "I have to <task>, add it to my tasks",
        ),
        "ok",
    ),
    "todos": Other(
        "list_todos|todo_list|tasks",
        "Show the to-do list",
        "",
        (
            "what is on my to-do list?",
            "show {me |}my {tasks|to-do list|todos}",
            "what do I have to do?",
            "which tasks are open?",
        ),
        "tasks:words",
    ),
    "balance": Other(
        "get_balance|balance|wallet_balance",
        "Money in the wallet|Show the balance",
        "",
        ("what is my balance?", "how much money do I have?", "{show|check} my {balance|wallet}"),
        "sats:int",
    ),
    "pay": Other(
        "pay|send_money|transfer",
        "Pay an amount to a person|Send money",
        "to:person,amount:number",
        (
            "pay <to> <amount> {dollars|sats}",
            "{send|transfer} <amount> {dollars|sats} to <to>",
            "give <to> <amount> {dollars|sats}",
        ),
        "ok",
    ),
    "person": Other(
        "who_is|biography|person_info",
        "Facts about a person",
        "name:person",
        (
            "who is <name>?",
            "tell me about <name>",
            "what do you know about <name>?",
            "when was <name> born?",
        ),
        "about:phrase",
    ),
    "notes": Other(
        "search_notes|knowledge|ask_notes|recall",
        "Look something up in the knowledge base|Find notes on a subject",
        "question:phrase",
        (
            "what do my notes say {about|on} <question>?",
            "{search|check} my {notes|knowledge base} for <question>",
            "recall what I know about <question>",
        ),
        "passage:phrase",
    ),
    "alarm": Other(
        "set_alarm|alarm|wake_up",
        "Set an alarm at a time of day",
        "time:time",
        ("wake me {up |}at <time>", "set {an|the} alarm {for|at} <time>", "alarm at <time>"),
        "ok",
    ),
    "lock": Other(
        "lock_door|door|lock",
        "Lock or unlock a door",
        "door:word,locked:bool",
        ("lock the <door> door", "unlock the <door> door"),
        "ok",
    ),
}
