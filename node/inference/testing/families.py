"""Families of models as a test sees them: a short template of our own, and their special tokens.

The templates use each family's real tokens, turns and idioms (macros, namespaces, filters, what
they raise on, how they want arguments), so that what is recognised, rendered and read here is what
real files hold. The token texts are facts of the families' vocabularies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from node.inference.testing.gguf import CONTROL, NORMAL, USER_DEFINED, TinyModel

if TYPE_CHECKING:
    from node.inference.llama.vocab import Vocab

_CHATML = (("<|im_start|>", CONTROL), ("<|im_end|>", CONTROL))
_HERMES_CALLS = (("<tool_call>", USER_DEFINED), ("</tool_call>", USER_DEFINED))
_THINK = (("<think>", USER_DEFINED), ("</think>", USER_DEFINED))

QWEN3 = r"""
{%- if tools %}<|im_start|>system
    {{- '\n' + (messages[0].content if messages[0].role == 'system' else '') + '\n<tools>' }}
    {%- for t in tools %}{{- '\n' }}{{- t | tojson }}{%- endfor %}
    {{- '\n</tools>\nAnswer with <tool_call>\n{...}\n</tool_call><|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(last=0) %}
{%- for m in messages[::-1] %}
    {%- if m.role == 'user' and m.content is string and not m.content.startswith('<tool_resp') %}
        {%- set ns.last = messages | length - loop.index %}{%- break %}
    {%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- if m.role == 'user' %}{{- '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}
    {%- elif m.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' + m.content.split('</think>')[-1].lstrip('\n') }}
        {%- for c in m.tool_calls or [] %}
            {%- set c = c.function %}
            {%- if m.content or not loop.first %}{{- '\n' }}{%- endif %}
            {{- '<tool_call>\n{"name": "' + c.name + '", "arguments": ' }}
            {{- c.arguments if c.arguments is string else c.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif m.role == 'tool' %}
        {%- if loop.first or loop.previtem.role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\n<tool_response>\n' + m.content + '\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|im_end|>\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""

QWEN_CODER = r"""
{%- macro listed(things, tag) %}
    {%- for thing in things %}{{- '\n<' ~ tag ~ '>' ~ thing ~ '</' ~ tag ~ '>' }}{%- endfor %}
{%- endmacro %}
{%- if tools is iterable and tools | length > 0 %}
    {{- '<|im_start|>system\n<tools>' }}
    {%- for t in tools %}
        {{- '\n<function>\n<name>' ~ t.function.name ~ '</name>' }}
        {%- for key, about in t.function.parameters.properties | items %}
            {{- '\n<parameter>' ~ key ~ ': ' ~ (about.type | string) ~ '</parameter>' }}
        {%- endfor %}
        {{- listed(t.function.parameters.required or [], 'required') ~ '\n</function>' }}
    {%- endfor %}
    {{- '\n</tools>\n<tool_call>\n<function=NAME>\n...</tool_call><|im_end|>\n' }}
{%- endif %}
{%- for m in messages %}
    {%- if m.role == 'tool' %}
        {{- '<|im_start|>user\n<tool_response>\n' ~ m.content ~ '\n</tool_response><|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + m.role + '\n' + m.content }}
        {%- for c in m.tool_calls or [] %}
            {{- '<tool_call>\n<function=' + c.function.name + '>\n' }}
            {%- for key, value in c.function.arguments | items %}
                {%- set value = value if value is string else value | tojson | safe %}
                {{- '<parameter=' + key + '>\n' ~ value ~ '\n</parameter>\n' }}
            {%- endfor %}
            {{- '</function>\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""

GLM = r"""[gMASK]<sop>
{%- if tools -%}<|system|>
<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools>{%- endif -%}
{%- for m in messages -%}
    {%- if m.role == 'assistant' -%}{{ '<|assistant|>\n<think></think>' + m.content }}
        {%- for c in m.tool_calls or [] -%}{{ '\n<tool_call>' + c.function.name + '\n' }}
            {%- for k, v in c.function.arguments.items() -%}
                {{ '<arg_key>' ~ k ~ '</arg_key>\n<arg_value>' }}
                {{- v if v is string else v | tojson }}{{ '</arg_value>\n' }}
            {%- endfor -%}
            {{ '</tool_call>' }}
        {%- endfor -%}
    {%- elif m.role == 'tool' -%}
        {{ '<|observation|>\n<tool_response>\n' + m.content + '\n</tool_response>' }}
    {%- else -%}{{ '<|' + m.role + '|>\n' + m.content }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""

LLAMA3 = r"""{{- bos_token }}
{%- set date = date_string if date_string is defined else strftime_now("%d %b %Y") %}
{%- set about = '' %}
{%- if messages[0].role == 'system' %}
    {%- set about = messages[0].content | trim %}{%- set messages = messages[1:] %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\nToday: " + date + "\n" + about + "<|eot_id|>" }}
{%- if tools is not none %}
    {%- if not messages %}{{- raise_exception("no user message to put the tools in") }}{%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\n\nAnswer {"name": ..., "parameters": ...}\n' }}
    {%- for t in tools %}{{- t | tojson(indent=4) + "\n\n" }}{%- endfor %}
    {{- messages[0].content | trim + "<|eot_id|>" }}{%- set messages = messages[1:] %}
{%- endif %}
{%- for m in messages %}
    {%- if 'tool_calls' in m %}
        {%- if m.tool_calls | length != 1 %}{{- raise_exception("one call a turn") }}{%- endif %}
        {%- set call = m.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "' + call.name }}
        {{- '", "parameters": ' + call.arguments | tojson + '}<|eot_id|>' }}
    {%- elif m.role in ['tool', 'ipython'] %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\n\n' }}
        {{- m.content | tojson if m.content is mapping else m.content }}{{- '<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim }}
        {{- '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
{#- <|python_tag|> is for code and for calls of built-in tools -#}
"""

MISTRAL_LIST = r"""{{- bos_token }}
{%- set about = messages[0].content if messages[0].role == 'system' else '' %}
{%- set turns = messages | rejectattr('role', 'equalto', 'system') | list %}
{%- set asked = turns | selectattr('role', 'equalto', 'user') | list %}
{%- for m in turns %}
    {%- if m.role == 'user' %}
        {%- if tools is not none and m == asked[-1] %}
            {{- '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST] ' + (about + '\n\n' if about and loop.last else '') + m.content + '[/INST]' }}
    {%- elif m.tool_calls is defined %}
        {{- '[TOOL_CALLS] [' }}
        {%- for c in m.tool_calls %}
            {%- if c.id is not defined or c.id | length != 9 %}
                {{- raise_exception('ids of calls have nine characters') }}
            {%- endif %}
            {{- (c.function | tojson)[:-1] + ', "id": "' + c.id + '"}' }}
            {{- ', ' if not loop.last else ']' + eos_token }}
        {%- endfor %}
    {%- elif m.role == 'assistant' %}{{- ' ' + m.content | trim + eos_token }}
    {%- else %}
        {{- '[TOOL_RESULTS] {"content": ' + m.content | string + ', "call_id": "' }}
        {{- m.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- endif %}
{%- endfor %}
"""

MISTRAL = r"""{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {{- '[SYSTEM_PROMPT]' + messages[0].content + '[/SYSTEM_PROMPT]' }}
{%- endif %}
{%- if tools is not none %}
    {{- '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}
{%- endif %}
{%- for m in messages %}
    {%- if m.role == 'user' %}{{- '[INST]' + m.content + '[/INST]' }}
    {%- elif m.role == 'assistant' %}
        {{- m.content or '' }}
        {%- for c in m.tool_calls or [] %}
            {%- set given = c.function.arguments %}
            {{- '[TOOL_CALLS]' + c.function.name + '[ARGS]' }}
            {{- given if given is string else given | tojson | safe }}
        {%- endfor %}
        {{- eos_token }}
    {%- elif m.role == 'tool' %}{{- '[TOOL_RESULTS]' + m.content | string + '[/TOOL_RESULTS]' }}
    {%- elif m.role != 'system' or not loop.first %}{{- raise_exception('unknown role') }}
    {%- endif %}
{%- endfor %}
"""

GEMMA3 = r"""{{ bos_token }}
{%- set about = '' -%}
{%- if messages[0].role == 'system' -%}
    {%- set about = messages[0].content + '\n\n' -%}{%- set messages = messages[1:] -%}
{%- endif -%}
{%- for m in messages -%}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('user and assistant must take turns') }}
    {%- endif -%}
    {{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}
    {{- about if loop.first }}{{ m.content | trim }}{{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}
"""

FUNCTION_GEMMA = r"""{%- macro value(v) -%}
    {%- if v is string -%}{{ '<escape>' + v + '<escape>' }}
    {%- elif v is boolean -%}{{ 'true' if v else 'false' }}
    {%- elif v is mapping -%}{{ '{' }}{%- for key, item in v | dictsort -%}
        {{ key }}:{{ value(item) }}{{ ',' if not loop.last }}{%- endfor -%}{{ '}' }}
    {%- elif v is sequence -%}{{ '[' }}{%- for item in v -%}
        {{ value(item) }}{{ ',' if not loop.last }}{%- endfor -%}{{ ']' }}
    {%- else -%}{{ v }}{%- endif -%}
{%- endmacro -%}
{{ bos_token }}
{%- if tools or messages[0].role == 'system' -%}
    {{ '<start_of_turn>developer\n' }}
    {%- if messages[0].role == 'system' -%}
        {{ messages[0].content | trim }}{%- set messages = messages[1:] -%}
    {%- endif -%}
    {%- for t in tools or [] -%}
        {{ '<start_function_declaration>declaration:' + t.function.name + '{description:' }}
        {{- value(t.function.description) }},parameters:{{ value(t.function.parameters) }}
        {{- '}<end_function_declaration>' }}
    {%- endfor -%}
    {{ '<end_of_turn>\n' }}
{%- endif -%}
{%- for m in messages -%}
    {%- if m.role == 'tool' -%}
        {{ '<start_function_response>response:' + m.name + '{value:' + value(m.content) }}
        {{- '}<end_function_response>' }}
    {%- else -%}
        {{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}
        {{- m.content | trim }}
        {%- for c in m.tool_calls or [] -%}
            {{ '<start_function_call>call:' + c.function.name + value(c.function.arguments) }}
            {{- '<end_function_call>' }}
        {%- endfor -%}
        {%- if not m.tool_calls -%}{{ '<end_of_turn>\n' }}{%- endif -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and messages[-1].role != 'tool' -%}
    {{ '<start_of_turn>model\n' }}
{%- endif -%}
"""

GEMMA4 = (
    FUNCTION_GEMMA.replace("<escape>", '<|"|>')
    .replace("<start_function_call>", "<|tool_call>")
    .replace("<end_function_call>", "<tool_call|>")
    .replace("<start_function_response>", "<|tool_response>")
    .replace("<end_function_response>", "<tool_response|>")
    .replace("<start_function_declaration>", "<|tool>")
    .replace("<end_function_declaration>", "<tool|>")
    .replace("<start_of_turn>", "<|turn>")
    .replace("<end_of_turn>", "<turn|>")
    .replace("developer", "system")
    + "{#- thoughts stand between <|channel>thought\n and <channel|> -#}"
)

GPT_OSS = r"""
{%- macro shown(f) -%}
    {{- 'type ' + f.name + ' = (_: {' }}
    {%- for name, about in f.parameters.properties.items() %}
        {{- name }}{{- '?' if name not in (f.parameters.required or []) }}
        {{- ': ' ~ about.type | default('any') ~ ', ' }}
    {%- endfor %}{{- '}) => any;' }}
{%- endmacro -%}
{{- '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '\nReasoning: ' }}
{{- reasoning_effort | default('medium') }}{{- '\n# Valid channels: analysis, final.<|end|>' }}
{%- set about = '' %}
{%- if messages[0].role in ['developer', 'system'] %}
    {%- set about = messages[0].content %}{%- set messages = messages[1:] %}
{%- endif %}
{{- '<|start|>developer<|message|># Instructions\n' + about }}
{%- for t in tools or [] %}{{- '\n// ' + t.function.description + '\n' + shown(t.function) }}
{%- endfor %}{{- '<|end|>' }}
{%- set last = namespace(call=none) %}
{%- for m in messages %}
    {%- if m.role == 'tool' %}
        {%- if last.call is none %}{{- raise_exception('a result without a call') }}{%- endif %}
        {{- '<|start|>functions.' + last.call + ' to=assistant<|channel|>commentary<|message|>' }}
        {{- m.content | tojson + '<|end|>' }}
    {%- elif 'tool_calls' in m %}
        {%- set call = m.tool_calls[0].function %}{%- set last.call = call.name %}
        {{- '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary json' }}
        {{- '<|message|>' + call.arguments | tojson + '<|call|>' }}
    {%- elif m.role == 'assistant' %}
        {%- if '<|channel|>final' in m.content %}{{- raise_exception('tags') }}{%- endif %}
        {{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' }}
    {%- else %}{{- '<|start|>user<|message|>' + m.content + '<|end|>' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|start|>assistant{%- endif %}
"""

DEEPSEEK_R1 = r"""
{%- set ns = namespace(results=false, about='') -%}
{%- for m in messages if m.role == 'system' -%}{%- set ns.about = m.content -%}{%- endfor -%}
{{ bos_token }}{{ ns.about }}
{%- for m in messages -%}
    {%- if m.role == 'user' -%}{%- set ns.results = false -%}{{ '<｜User｜>' + m.content }}
    {%- elif m.role == 'assistant' and m.content is none -%}
        {{ '<｜Assistant｜><｜tool▁calls▁begin｜>' }}
        {%- for c in m.tool_calls -%}
            {{ '<｜tool▁call▁begin｜>' + c.type + '<｜tool▁sep｜>' + c.function.name }}
            {{- '\n```json\n' + c.function.arguments + '\n```<｜tool▁call▁end｜>' }}
            {{- '\n' if not loop.last }}
        {%- endfor -%}{{ '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}
    {%- elif m.role == 'assistant' -%}
        {%- set said = m.content.split('</think>')[-1] if '</think>' in m.content else m.content -%}
        {{ '<｜Assistant｜>' + said + '<｜end▁of▁sentence｜>' }}
    {%- elif m.role == 'tool' -%}
        {{ '<｜tool▁outputs▁begin｜>' if not ns.results }}{%- set ns.results = true -%}
        {{ '<｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' }}
    {%- endif -%}
{%- endfor -%}
{{ '<｜tool▁outputs▁end｜>' if ns.results }}
{%- if add_generation_prompt and not ns.results -%}{{ '<｜Assistant｜><think>\n' }}{%- endif -%}
"""

DEEPSEEK_V31 = r"""{%- set think = thinking is defined and thinking -%}
{%- set ns = namespace(asked=false) -%}{{ bos_token }}
{%- for m in messages -%}
    {%- if m.role == 'system' -%}{{ m.content }}
    {%- elif m.role == 'user' -%}{%- set ns.asked = true -%}{{ '<｜User｜>' + m.content }}
    {%- elif m.role == 'tool' -%}
        {{ '<｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' }}
    {%- else -%}
        {{ '<｜Assistant｜></think>' if ns.asked }}{%- set ns.asked = false -%}{{ m.content or '' }}
        {%- for c in m.tool_calls or [] -%}
            {{ '<｜tool▁calls▁begin｜>' if loop.first }}{{ '<｜tool▁call▁begin｜>' }}
            {{- c.function.name + '<｜tool▁sep｜>' + c.function.arguments + '<｜tool▁call▁end｜>' }}
            {{- '<｜tool▁calls▁end｜>' if loop.last }}
        {%- endfor -%}
        {{ '<｜end▁of▁sentence｜>' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and ns.asked -%}
    {{ '<｜Assistant｜>' + ('<think>' if think else '</think>') }}
{%- endif -%}
"""


def _tokens(*texts: str, kind: int = CONTROL) -> tuple[tuple[str, int], ...]:
    return tuple((text, kind) for text in texts)


_DEEPSEEK = (
    *_tokens("<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"),
    *_tokens("<｜User｜>", "<｜Assistant｜>", *(t for t, _ in _THINK), kind=USER_DEFINED),
    *_tokens(
        *("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>"),
        *("<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<｜tool▁outputs▁begin｜>"),
        *("<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"),
        kind=USER_DEFINED,
    ),
)
_MISTRAL = _tokens(
    *("</s>", "<s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
)
_MISTRAL_NEW = (
    *_MISTRAL,
    *_tokens("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"),
)

FAMILIES: Final[dict[str, TinyModel]] = {
    "hermes": TinyModel(template=QWEN3, specials=(*_CHATML, *_HERMES_CALLS, *_THINK)),
    "qwen-coder": TinyModel(template=QWEN_CODER, specials=(*_CHATML, *_HERMES_CALLS)),
    "glm": TinyModel(
        template=GLM,
        specials=(
            *_tokens("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>"),
            *_tokens("<|assistant|>", "<|observation|>"),
            *_HERMES_CALLS,
            *_THINK,
            *_tokens("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", kind=USER_DEFINED),
        ),
        eos="<|endoftext|>",
    ),
    "llama": TinyModel(
        template=LLAMA3,
        specials=_tokens(
            *("<|eot_id|>", "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>"),
            *("<|end_header_id|>", "<|eom_id|>", "<|python_tag|>"),
        ),
        eos="<|eot_id|>",
    ),
    "mistral-list": TinyModel(template=MISTRAL_LIST, specials=_MISTRAL, eos="</s>"),
    "mistral": TinyModel(template=MISTRAL, specials=_MISTRAL_NEW, eos="</s>"),
    "fenced": TinyModel(
        template=GEMMA3,
        specials=_tokens("<end_of_turn>", "<bos>", "<start_of_turn>"),
        eos="<end_of_turn>",
    ),
    "function-gemma": TinyModel(
        template=FUNCTION_GEMMA,
        specials=_tokens(
            *("<end_of_turn>", "<bos>", "<start_of_turn>", "<escape>"),
            *("<start_function_declaration>", "<end_function_declaration>"),
            *("<start_function_call>", "<end_function_call>"),
            *("<start_function_response>", "<end_function_response>"),
        ),
        eos="<end_of_turn>",
    ),
    "gemma4": TinyModel(
        template=GEMMA4,
        specials=_tokens(
            *("<turn|>", "<bos>", "<|turn>", '<|"|>', "<|tool>", "<tool|>", "<|tool_call>"),
            *("<tool_call|>", "<|tool_response>", "<tool_response|>", "<|channel>", "<channel|>"),
        ),
        eos="<turn|>",
    ),
    "harmony": TinyModel(
        template=GPT_OSS,
        specials=_tokens(
            *("<|return|>", "<|call|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>"),
            *("<|constrain|>", "<|endoftext|>"),
        ),
        eos="<|return|>",
    ),
    "deepseek-fenced": TinyModel(
        template=DEEPSEEK_R1, specials=_DEEPSEEK, eos="<｜end▁of▁sentence｜>"
    ),
    "deepseek": TinyModel(template=DEEPSEEK_V31, specials=_DEEPSEEK, eos="<｜end▁of▁sentence｜>"),
    "generic": TinyModel(
        template="{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:",
        specials=_tokens("<|end|>"),
        eos="<|end|>",
    ),
}


SPACED: Final = TinyModel(
    template=MISTRAL_LIST,
    specials=(*_MISTRAL, *_tokens("\u2581", '\u2581"', '\u2581",', '",', kind=NORMAL)),
    eos="</s>",
    spaced=True,
)


@dataclass(frozen=True)
class Language:
    """A grammar's language, asked of libllama itself, a byte at a time."""

    vocab: Vocab

    def holds(self, grammar: str, text: str) -> bool:
        """Whether `text` is a whole answer."""
        return self.reaches(grammar, text) == len(text.encode()) + 1

    def reaches(self, grammar: str, text: str) -> int:
        """How many bytes of `text` may be written; one more where the answer may then end."""
        with closing(self.vocab.grammar(grammar)) as matcher:
            for at, token in enumerate(self._tokens(text)):
                if not matcher.allows(token):
                    return at
                matcher.accept(token)
            whole = len(text.encode())
            return whole + bool(matcher.allows(min(self.vocab.end_tokens)))

    def _tokens(self, text: str) -> Iterator[int]:
        """The tokens of single bytes: tiny models have them first, in byte order."""
        yield from text.encode()
