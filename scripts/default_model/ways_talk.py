"""Parts of small talk and of requests that nothing offered can serve, in the form of ways_single.py."""

# ruff: noqa: E501 - tables of phrases, one a line
from __future__ import annotations

from ways_single import Ways

_PARTS = {
    "@HI": "{hello|hi|hey|hello there|hi there|hey there|good morning|good evening|good afternoon|good day|greetings|howdy|hiya|yo|morning|evening|welcome}",
    "@YOU": "{assistant|friend|my friend|computer|helper|buddy|dear|<name>|again|everyone|you|robot|machine|old friend|there}",
    "@THING": "{<thing>|<word>|the <word>|my <word>|a <word>}",
}

# answer -> ways; the answers are those of talk.py
_SMALL_TALK = {
    "Hello! How can I help?": Ways(
        fragments=(
            "@HI",
            "@HI{,|} @YOU",
            "@HI{, |! |. }{my name is|I am|I'm|this is|it is|here is} <name>",
            "{it is|I am|it's} {me|me again|<name>|<name> again|back}",
            "{nice|good|pleased|happy|glad|great|lovely} to {meet|see|talk to|have} you{ again| here|}",
            "{are you|anyone|anybody|is anyone|is somebody|are you still} {there|here|home|awake|listening}?",
            "{I am|I'm} {back|here|home|new here|<name>}",
            "{long time no see|how nice to see you|can we talk|can we start|let us talk|may I ask you something|I have a question|shall we begin|are you ready}",
            "<name> here",
        )
    ),
    "I am fine, thank you. How can I help?": Ways(
        fragments=(
            "{@HI{,|} |}how {are|do|have} you {doing|feeling|been|today|this morning|these days|now|getting on|tonight|keeping}?",
            "{@HI{,|} |so, |}how {is|was|goes} {it going|life|your day|your morning|your week|everything|it|things|business|work|the day}{ today| so far|}?",
            "{are|do} you {happy|well|tired|okay|in good shape|busy|bored|awake|feel well|feel good|sleep well|have a good day|sad|healthy}{ today| now|}?",
            "how {are things|have you been|do you feel today|was your night|did you sleep}?",
            "{what's|what is} {new|happening|going on|up with you|your mood}?",
            "{everything|all|is all|is everything} {ok|well|good|fine|in order}?",
            "{you|are you} {ok|all right|good|fine|doing well}?",
            "I hope you are {well|fine|good|doing well}",
        )
    ),
    "You are welcome.": Ways(
        fragments=(
            "{thanks|thank you|thx|many thanks|thanks a lot|thanks a bunch|thanks so much|thank you kindly|thanks again|a thousand thanks|cheers|much appreciated|thank you indeed|ta}",
            "{thanks|thank you} {for|so much for|a lot for} {the help|your help|your time|that|this|everything|all you do|helping me|being quick|the answer|the file|your work|your patience|doing that}",
            "{thanks|thank you}, {you are kind|that helps|that was quick|that is all I need|it works|I needed that|<name>|my friend|that did it|I am happy|you saved me}",
            "{great|good|perfect|wonderful|nice|super|ok|very good|brilliant}{,| -|!} {thanks|thank you|many thanks|I thank you}",
            "{I am|I'm} {very |so |}{grateful|thankful|obliged}",
            "{you|that|it} {helped me a lot|was a great help|saved my day|are a great help|is much appreciated|made my day}",
            "{I appreciate|I value} {your help|this|what you did|that very much}",
            "{how|that is|you are|that's|this is} {very |so |}{kind|nice|helpful|sweet|good} of you",
        )
    ),
    "Goodbye!": Ways(
        fragments=(
            "{bye|goodbye|bye for now|see you|see you around|see you next time|cheerio|so long|take care|farewell|good night|ciao|until tomorrow|until next time|have a nice day|have a good day|have a good evening|catch you later|talk soon|later}",
            "{bye|goodbye|good night|see you|farewell}{,|} {@YOU|then|now|for now|for today|and thanks|and take care|tomorrow|on Monday|next week|soon}",
            "{I am|I'm|we are} {leaving|done|off|done for today|going home|going to bed|finished|out|logging off|signing off}{ now|}",
            "{I have to|I must|I need to|I will|I'll|time to} {go|leave|run|go now|sleep|be off|stop here|say goodbye}{ now|}",
            "{that is|that's|this was|that was} {all|it|everything} for {today|now|tonight|the day}",
            "{enough|we are done|no more|nothing more} for {today|now}",
        )
    ),
    "I am an assistant that runs on your own machine.": Ways(
        fragments=(
            "{who|what} {are you|am I talking to|is this|do you call yourself|is your name|made you|am I speaking with|are you exactly|kind of thing are you|is an assistant like you}?",
            "what {should|can|do|may} I call you?",
            "{are you|you are} {a person|alive|real|a program|software|a computer|a chatbot|a language model|an assistant|a human being|someone|intelligent|artificial|a man|a woman|in the cloud|on my computer|on the internet|local}{, right|}?",
            "{tell me|say|let me know|explain} {who you are|what you are|something about yourself|a bit about yourself|your name|more about you|where you live|where you run}",
            "{where|on what|on which machine|since when} do you {live|run|work|exist|come from|sit}?",
            "{do|did} you {have a name|have a body|run here|live in my computer|have feelings|think|have parents}?",
            "{describe|introduce|present} yourself{ to me| in a sentence|}",
            "your name{, please|?| is what?}",
            "{how old|how big|how clever} are you?",
        )
    ),
    "I can use the tools I am given and answer in a sentence.": Ways(
        fragments=(
            "what {can|could|do|may} you {do for me|help with|help me with|offer|help us with|know how to do|work on}?",
            "what {are|is} {your skills|your abilities|your talents|your features|your purpose|you able to do for me|possible|you made for|you here for|your job|your role|you capable of}?",
            "{tell|show} me {what you are able to do|what you are good at|your skills|how you can help|what is possible|what I can ask|how you work|your commands|your abilities}",
            "{how|in what way|with what} {can|could|do|will|would} you {help|be of use|assist|support|serve} {me|us|}?",
            "how do {you work|I use you|we do this|I talk to you|I ask you something}?",
            "{help|help me|I need help|I need some help|please help|can you help|can you help me|could you help me|help please|help!}",
            "{what|which} {things|tasks|questions|jobs|commands} can {you do|I ask|I give you|you answer|you handle}?",
            "{list|name} your {skills|abilities|features|commands}",
            "{what should|what could} I {ask|ask you|try|say}?",
            "I {do not|don't} know {what to ask|how to use you|what you can do|where to start}",
        )
    ),
    "Good.": Ways(
        fragments=(
            "{ok|okay|yes|yeah|yep|fine|right|sure|true|correct|exactly|agreed|indeed|of course|alright|understood|got it|good|great|nice|super|perfect|lovely|amazing|awesome|fantastic|brilliant|excellent|wow|bravo|hurray|well|good to know|no problem|sounds good|as I thought|makes sense}",
            "{that|this|it} {is|was|looks|sounds|seems} {very |really |so |}{good|great|right|fine|correct|perfect|nice|ok|helpful|true|clear|useful|impressive|fast|lovely}",
            "{good|nice|great|excellent|fine|fantastic|super|lovely} {work|job|answer|one|stuff|thinking|going|try|idea|to hear|to know}",
            "{you|you did|you are|you're} {very |really |}{right|good|clever|smart|well|great|the best|fast|a star|it|correct}",
            "{I|we} {like|love|enjoy} {it|that|this|you|your answer|how you work}",
            "{that|this|it} {works|helps|did it|is what I wanted|is what I needed|is enough|will do|makes me happy}",
            "{I am|I'm} {happy|glad|impressed|pleased|satisfied|delighted}{ with that| now|}",
            "{well done|good for you|keep it up|keep going|now I understand|now I see|now I know|I understand|very well|so it is}",
        )
    ),
    "I am sorry.": Ways(
        fragments=(
            "{that|this|it|your answer} {is|was|looks|seems} {very |really |all |so |}{wrong|bad|terrible|false|useless|not right|not correct|not true|not good|a mistake|an error|slow|nonsense|incorrect|not what I wanted|not what I meant|not helpful}",
            "{no|nope|hm}{,| -|!} {wrong|that is false|not that|that was not it|not what I meant|you misunderstood|that is a mistake|bad}",
            "{you|you are|you're|you were} {wrong|made an error|got it wrong|failed|misunderstood me|misread it|not helpful|useless|no help|slow|stupid|bad at this|annoying|mistaken}{ again|}",
            "{that|this|it} {does not|did not|doesn't|didn't} {work|help|make sense|look right|answer my question|do it}",
            "{I|we} {hate|don't like|do not like|am unhappy with|am angry about|am disappointed by|dislike|don't believe} {it|that|this|your answer|you|what you did}",
            "{why are you so|how can you be so|do not be so|don't be} {slow|wrong|stupid|bad|difficult}{?|}",
            "{wrong|bad|terrible|useless|poor} {answer|work|job|again|result|assistant}",
            "{I asked|I wanted|I meant} {something else|another thing|for something different}",
        )
    ),
}

_HOPELESS = Ways(
    commands=(
        "{send|mail|email|post|ship|forward|deliver|fax|text|message} {<name>|my boss|my mother|the team|everyone|a friend|the <word>} {a mail|an email|a message|a letter|a parcel|flowers|the invoice|a reminder|a postcard|my regards|money|a text|<thing>|an invitation}",
        "{send|mail|email|forward|share|upload|post|publish|deliver|text} {the file |}<path> {to|with} {<name>|my boss|my team|the office|everyone|a friend|the printer|the internet|the cloud|my phone}",
        "{delete|remove|erase|destroy|trash|wipe|shred|drop|kill|get rid of|throw away|clear|discard|purge|bin|recycle} {the file |the document |my file |my |the old |}<path>",
        "{delete|remove|erase|trash|wipe|shred|throw away|clear|purge} {all |}{my|the|these|old|all|the old} {files|documents|photos|folders|mails|backups|notes}",
        "{rename|move|relocate|shift|transfer the name of|give a new name to} {the file |}<path> {to|into|as} <other>",
        "{rename|move|archive|compress|zip|encrypt|lock|protect|sign|print|scan|convert|split|hide|share|restore|undelete|unzip|decrypt|rotate} {the file |}<path>",
        "{convert|turn|translate|export|transform} {the file |}<path> {to|into} {a PDF|French|German|Spanish|an image|a video|speech|Word|a slide show|audio|music}",
        "{summarize|summarise|translate|proofread|shorten|improve|rewrite|explain|correct|review|rate} {the file |the text in |}<path>",
        "{buy|order|sell|get|purchase|rent|lease|borrow|lend|reserve|book|ship|return} {me |us |}{a|an|the|some|two|<n>|my|another} {<word>|car|house|ticket|tickets|pizza|book|phone|shoes|flowers|table|room|flight|hotel|seats|taxi|boat|lunch|dinner|laptop|bike}",
        "{book|reserve|find|cancel|change|move|arrange} {me |us |}{a|the|my} {flight|hotel|table|trip|train|appointment|meeting|taxi|room|seat|ticket|visit|tour|car}{ to <place>| in <place>| for <name>| on Monday| for tomorrow| at <n>|}",
        "{call|phone|ring|dial|contact|text|page|invite|meet|visit|greet|thank|hire|fire|marry|follow|block|befriend|warn|notify|inform|wake} {<name>|my mother|the doctor|my boss|the police|a plumber|the bank|my friend|the office|customer service|my sister}",
        "{play|sing|hum|whistle|stream|record|stop|pause|skip|repeat} {a song|some music|the radio|a video|the next song|a film|this album|jazz|<thing>|my favorite song|the guitar|a podcast|a game}",
        "{remind|wake|warn|alert|notify|tell} {me|us|<name>} {in an hour|tomorrow|tonight|at <n>|later|next week|on Monday|about <thing>|to call <name>|when it rains|to buy <word>|of the meeting|of my appointment}",
        "{set|start|stop|cancel|create} {an alarm|a timer|a reminder|my alarm clock|a stopwatch|an event|a meeting|a countdown}{ for <n>| for tomorrow| at <n>| for <n> minutes|}",
        "{turn|switch|put} {on|off|up|down} {the|my} {light|lights|heating|lamp|tv|radio|oven|music|fan|computer|alarm|volume|screen|<word>}",
        "{open|close|lock|unlock|shut|raise|lower} {the|my} {door|window|gate|garage|blinds|curtains|car|fridge|safe|front door}",
        "{cook|bake|make|fry|prepare|brew|grill|fix} {me |us |}{a|some|the} {dinner|cake|coffee|tea|breakfast|soup|sandwich|pancakes|bread|pizza|<word>}",
        "{clean|wash|sweep|paint|repair|fix|build|tidy|vacuum|dust|iron|mend|polish|decorate} {my|the|our} {house|car|kitchen|room|shirt|roof|windows|bike|garden|desk|<word>}",
        "{draw|paint|sketch|design|show|photograph|film|generate|create|take} {me |}{a|an|the} {picture|photo|image|drawing|map|portrait|logo|selfie|video|poster|cartoon|diagram} {of|with|about|for} @THING",
        "{write|compose|tell|make up|invent|recite|draft|create} {me |}{a|an|another} {poem|story|joke|song|essay|letter|speech|novel|riddle|limerick|slogan|fairy tale|haiku|prayer} {about|on|for|with} @THING",
        "{translate|say|pronounce|spell} @THING {in|into|to} {French|Spanish|German|Italian|Chinese|Latin|Dutch|Polish|Japanese|another language|Greek}",
        "{explain|describe|define|discuss|clarify|teach me|tell me about|summarize} {@THING|the meaning of life|physics|gravity|evolution|history|photosynthesis|black holes|quantum theory|democracy|how a <word> works|why <name> left|the war|the economy}",
        "{recommend|suggest|name|pick|choose|find} {me |}{a|an|some|the best|a good|a nice|a cheap} {book|film|movie|restaurant|hotel|gift|name|doctor|song|game|recipe|holiday|school|lawyer|wine|<word>}{ for <name>| in <place>| for me| about <thing>|}",
        "{install|update|uninstall|upgrade|restart|reboot|shut down|format|configure|unplug|charge|connect|reset|hack} {the|my|this} {computer|printer|phone|system|app|router|server|browser|camera|laptop|<word>}",
        "{pay|transfer|send|withdraw|deposit|invest|lend|donate|refund|charge|wire} {<n> {dollars|euros|pounds}|my rent|the bill|some money|my taxes|the fine|<name>}{ to <name>| for <name>| to my account|}",
        "{drive|take|bring|carry|walk|fly|guide|follow} {me|us|the dog|my bags|the kids|<name>} {to|from} {<place>|the airport|school|the station|work|town|the park|home}",
        "{check|read|answer|open|delete|sort|empty|clean up} my {mail|email|inbox|messages|calendar|voicemail|phone|bank account|heartbeat|horoscope|letters|texts}",
        "{predict|guess|foretell|forecast} {the weather|the future|my age|the winner|the price of <word>|who will win|what <name> thinks|the next number}",
        "{feed|walk|wash|pet|train|find|catch} {the|my|our} {cat|dog|fish|horse|birds|chickens|rabbit}",
        "{sign|notarize|stamp|approve|cancel|terminate|renew|extend} {the|my} {contract|lease|subscription|insurance|passport|order|membership|document}",
        "{kiss|hug|love|help|save|protect|forgive|surprise|scare|believe} {me|<name>|the world|us|my mother}",
        "{win|lose|start|end|join|leave|watch|host} {the|a|my} {game|war|race|party|lottery|match|election|meeting|show|class}",
    ),
    things=(
        "{the weather|the forecast|the temperature|the time|the population|the capital|the mayor|the history|the map|the president} {of|in|for} <place>",
        "{the price|the cost|the value|the color|the age|the weight|the size|the owner|the meaning} of {a <word>|<thing>|<word>|gold|the <word>|a stamp|a house}",
        "{the phone number|the address|the birthday|the email|the age|the height|the salary|the favorite color} of {<name>|my boss|the mayor|my neighbor|the president}",
        "{the latest|today's|the|yesterday's} {news|scores|headlines|exchange rate|stock prices|traffic|weather|results|gossip}{ from <place>| about <name>|}",
        "{a|some} {massage|hug|break|holiday|joke|coffee|beer|advice|new job|friend|raise}",
        "{a flight|a taxi|a train|a ticket|the way|directions|the distance|the bus} to <place>",
    ),
    clauses=(
        "{who|what} {<name>|the president|the king|the mayor|my neighbor|the winner|the boss} is",
        "{where|when|why|how} {<name>|the bus|the train|the shop|my mother|the <word>} {is|went|left|opens|was born|died|lives|works|comes}",
        "what {the weather|the time|the date|the news|the traffic|the temperature} is{ in <place>|}",
        "{how|why|when} {birds fly|the sky is blue|the sun rises|cars work|bread rises|the war began|it will rain|<name> was born|people dream}",
        "{if|whether} {it rains|it will rain|<name> is home|<name> loves me|the shop is open|I am sick|the train is late|I should go|dogs dream|the bank is closed}",
        "what {<name>|he|she|my boss|the <word>} {thinks|wants|said|needs|likes|did yesterday|feels}",
        "how {far|long|old|tall|rich|high|deep|heavy|fast} {<place>|<name>|the moon|a <word>|the river|the tower} is",
    ),
    questions=(
        "{who|what} {is|was} {the|our} {president|king|queen|capital|mayor|owner|boss|author|inventor|largest city|best player|first man} {of|in} {<place>|<thing>|the world|Europe|the <word>}?",
        "who {is|was|are} {<name>|<name> of <place>|the people of <place>|my neighbor|the boss}?",
        "who {wrote|painted|invented|discovered|won|built|founded|killed|sang|said|stole|made} {<thing>|the <word>|the {race|cup|war}|<name>}?",
        "{when|where|why|how} {did|does|will|was|is} {<name>|the <word>|the train|the king|it} {die|born|leave|come|begin|end|happen|go|arrive|win}?",
        "where {is|are|can I find|do I get|did I put} {<place>|<name>|my {keys|glasses|phone|shoes|wallet|dog}|the {station|bank|bathroom|exit|hospital}|a good <word>|the nearest <word>}?",
        "{what|how} is the {weather|temperature|forecast|traffic|time|news|air|sea} {in|for|near} <place>{ today| tomorrow| now|}?",
        "{is it|will it be|was it} {raining|snowing|cold|hot|sunny|late|Monday|a holiday|windy|dark|far}{ in <place>| tomorrow| outside|}?",
        "{what|which} {time|day|date|month|year|season} is it{ now| today| in <place>|}?",
        "how {far|long|tall|old|deep|big|heavy|fast|high|rich|expensive} is {<place>|<name>|the moon|a <word>|Mount <name>|the <word>|a {whale|train|house}}?",
        "how {do|can|should|would} {I|you|we|one} {cook|grow|build|repair|learn|clean|catch|sell|open|plant|make|draw|knit|raise|tame} {a <word>|<word>|<thing>|rice|bread|French|a fire}?",
        "{should|may|must|can|will|shall} I {marry <name>|go out|eat <word>|call <name>|move to <place>|buy a <word>|quit my job|trust <name>|take an umbrella|sleep|invest in <word>|see a doctor}?",
        "{do|did|have|would|could|will} you {like|love|see|eat|ever been to|prefer|play|watch|hate|enjoy|dance|dream of|remember|believe in} {<word>|<place>|<name>|<thing>|music|pizza|football|me}?",
        "what {is|are} your {favorite <word>|opinion on <thing>|opinion of <name>|thoughts on <word>|favorite color|plans|dreams}?",
        "why {is|are|do|does|did} {the sky blue|the sea salty|cats purr|<name> angry|we dream|people lie|birds sing|<name> leave|it so cold|<place> famous|the <word> broken}?",
        "what {does|do} {<word>|the word <word>|<name>|this sign|a <word>} {mean|want|look like|eat|taste like|sound like}?",
        "what {is|are|was} {love|a <word>|<word>|the meaning of life|gravity|an atom|the best <word>|wrong with <name>|the difference between a <word> and a <word>|on tv tonight|for dinner|the wifi password}?",
        "{which|what} {is|are} {better|bigger|older|cheaper|nicer}, {<place> or <name>|a <word> or <thing>|cats or dogs|tea or coffee}?",
        "{how much|how many} {does a <word> cost|is a house in <place>|people live in <place>|legs has a spider|stars are there|calories has a <word>|languages are there|is a ticket to <place>|does <name> earn|countries are there}?",
        "can you {dance|drive|cook|sing|see me|hear me|smell|swim|fly|drive a car|lend me money|feel pain|keep a secret|play chess|speak French}?",
        "{am I|is <name>|are we|was I} {right about <name>|pretty|late|in love|ill|too old|invited|famous|in danger|rich}?",
    ),
    fragments=(
        "{weather|forecast|news|traffic|time} {in|for|from} <place>{?|}",
        "{<place>|<name>}{,| -} {weather|population|who is that|where is it|how far is it}?",
        "{flight|train|taxi|ticket|bus} to <place>{ tomorrow|, please|}",
        "{lights|music|heating|tv|radio} {on|off}{ please|}",
        "{a|one|two} {pizza|coffee|beer|tea}{,|} please",
        "I {am|feel} {hungry|tired|sick|lonely|cold|bored|in love|lost|thirsty|afraid}",
        "I {love|miss|hate|lost|want to meet|cannot find} {<name>|my {keys|dog|job|phone}|<place>|<thing>}",
        "{delete|remove|rename|send|mail|print|erase}: <path>>>",
    ),
)

SMALL_TALK = {answer: ways.with_parts(_PARTS) for answer, ways in _SMALL_TALK.items()}
HOPELESS = _HOPELESS.with_parts(_PARTS)
