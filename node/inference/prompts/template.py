"""A model's own chat template, run without trusting it.

The Jinja source comes out of a GGUF that anyone may have made, so it runs in Jinja's immutable
sandbox with an allow-list of filters and string methods, bounds on what grows, and a deadline; and
it runs in the runner process, never in the daemon. The environment follows what Hugging Face's
`apply_chat_template` gives (trim_blocks, lstrip_blocks, loop controls, `raise_exception`,
`strftime_now`, a `tojson` that does not escape HTML), since that is what templates are written for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError

from node.alarm import time_limit
from node.errors import TemplateError
from node.inference.prompts.template_env import MAX_OUTPUT_CHARS, environment_of

MAX_SOURCE_CHARS = 256 * 1024
DEADLINE_S = 2.0
_MAX_SAID = 500


class ChatTemplate:
    """A compiled template.

    Raises:
        TemplateError: the source is too long, or is not a template.
    """

    def __init__(
        self,
        source: str,
        *,
        bos: str = "",
        eos: str = "",
        wall: Callable[[], float] = time.time,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateError(f"the chat template is over {MAX_SOURCE_CHARS} characters")
        self.source = source
        self._deadline_s = deadline_s
        self._globals = {"bos_token": bos, "eos_token": eos}
        self._environment = environment_of(wall)
        try:
            with time_limit(deadline_s):
                self._template = self._environment.from_string(source)
        except TimeoutError:
            raise self._over_time() from None
        except Exception as error:  # constants are folded here, by Python's own operators
            raise TemplateError(
                f"the chat template does not compile: {_said(error)}",
                hint="Its GGUF may be damaged, or made for another program.",
            ) from error

    def render(self, variables: Mapping[str, object]) -> str:
        """The prompt's text. At most `MAX_OUTPUT_CHARS`; stops at the deadline (main thread).

        Raises:
            TemplateError: the template refuses the messages, or goes over a limit.
        """
        try:
            with time_limit(self._deadline_s):
                return self._collect(variables)
        except TemplateError:
            raise
        except TimeoutError:
            raise self._over_time() from None
        except (JinjaError, SecurityError) as error:
            raise TemplateError(
                f"the chat template refuses this conversation: {_said(error)}",
                hint="Some models take no system message, or want user and assistant in turns.",
            ) from error
        except Exception as error:  # a template can raise whatever Python's operators raise
            raise TemplateError(
                f"the chat template failed: {type(error).__name__}: {_said(error)}"
            ) from error

    def _over_time(self) -> TemplateError:
        return TemplateError(f"the chat template ran for over {self._deadline_s:g} seconds")

    def _collect(self, variables: Mapping[str, object]) -> str:
        parts, size = [], 0
        for part in self._template.generate(**self._globals, **variables):
            size += len(part)
            if size > MAX_OUTPUT_CHARS:
                raise TemplateError(f"the chat template made over {MAX_OUTPUT_CHARS} characters")
            parts.append(part)
        return "".join(parts)


def _said(error: BaseException) -> str:
    """What an error says, for a message: short, and on one line."""
    return " ".join(str(error).split())[:_MAX_SAID]
