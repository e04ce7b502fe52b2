"""A request for tokens as OpenAI's chat completions have it.

Written for what llama-server, vLLM and Ollama have in common; what only some understand goes to
them only.

Spec: OpenAI API reference, "Create chat completion".
"""

from __future__ import annotations

from typing import Final

from node.inference.chat import call_id, call_json, function_json
from node.inference.grammar.gbnf import dumps
from node.inference.types import Generation, Message
from node.types import Json, JsonObject

STOPS_SENT: Final = 4  # OpenAI takes no more; for the rest the reader of the reply looks
REFUSABLE: Final = frozenset(("max_tokens", "temperature", "top_p", "seed", "parallel_tool_calls"))
"""Settings that a model can be asked without: OpenAI's that reason refuse most of them."""


def request_body(
    request: Generation, model: str, kind: str, refused: frozenset[str] = frozenset()
) -> JsonObject:
    """The request as JSON. `kind` is the server's: what only some understand goes to them only.

    Settings in `refused` are left out; the limit of tokens then goes by its other name.
    """
    sampling = request.sampling
    body: JsonObject = {
        "model": model,
        "messages": messages_json(request.messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
    }
    if kind in ("llama-server", "vllm"):
        body["top_k"] = sampling.top_k
    if sampling.stop:
        body["stop"] = list(sampling.stop[:STOPS_SENT])
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
    if request.answer_schema is not None:
        schema: JsonObject = {"name": "answer", "strict": True, "schema": request.answer_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    # Ollama does not know tool_choice: what may not be called must not be offered to it
    if request.tools and not (kind == "ollama" and request.tool_choice == "none"):
        body["tools"] = tools_json(request)
        body["tool_choice"] = request.tool_choice
        if not request.parallel_tool_calls:
            body["parallel_tool_calls"] = False
    if "max_tokens" in refused:
        body["max_completion_tokens"] = sampling.max_tokens
    return {name: value for name, value in body.items() if name not in refused}


def tools_json(request: Generation) -> Json:
    """The functions offered, as the API has them."""
    return [function_json(tool) for tool in request.tools]


def messages_json(messages: tuple[Message, ...]) -> list[Json]:
    """Messages as the API has them. Calls get ids by their order; a result has that of the first
    call of its function that has none yet."""
    turns: list[Json] = []
    waiting: list[tuple[str, str]] = []
    made = 0
    for message in messages:
        turn: JsonObject = {"role": message.role, "content": message.content}
        if message.role == "tool":
            at = next((at for at, (_, name) in enumerate(waiting) if name == message.name), 0)
            turn["tool_call_id"] = waiting.pop(at)[0] if waiting else call_id(0)
        if message.tool_calls:
            calls = list(enumerate(message.tool_calls, made + 1))
            waiting = [(call_id(number), call.name) for number, call in calls]
            made += len(calls)
            turn["tool_calls"] = [
                call_json(number, call.name, dumps(call.arguments)) for number, call in calls
            ]
        turns.append(turn)
    return turns
