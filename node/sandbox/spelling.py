"""A secret as whoever repeats it may write it: with signs escaped as a URL or JSON has them.

Which signs are escaped, and in what letters, is up to the writer. Covered are, for URLs: Python's
`quote` and `quote_plus`, JavaScript's `encodeURIComponent` and `encodeURI`, and forms (WHATWG URL,
section 5); for JSON: Python, JavaScript, PHP, Go and .NET.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import product
from urllib.parse import quote

_KEPT_IN_URLS = ("", "/", "!'()*", "!'()*;,/?:@&=+$#")
_ALL_JSON = {'"': r"\"", "\\": r"\\"}
_SOME_JSON: tuple[dict[str, str], ...] = (
    {},
    {"/": r"\/"},  # PHP
    {sign: f"\\u{ord(sign):04x}" for sign in "<>&"},  # Go
    {sign: f"\\u{ord(sign):04X}" for sign in "\"<>&'+`"},  # .NET
)


def spellings(secret: str) -> Iterator[str]:
    """The secret itself and its other spellings, some more than once."""
    yield secret
    for kept, tilde, space in product(_KEPT_IN_URLS, ("~", "%7E"), ("%20", "+")):
        quoted = quote(secret, safe=kept).replace("~", tilde).replace("%20", space)
        yield quoted
        yield re.sub("%..", lambda sign: sign[0].lower(), quoted)
    yield json.dumps(secret)[1:-1]
    for some in _SOME_JSON:
        escapes = {**_ALL_JSON, **some}
        yield "".join(escapes.get(sign, sign) for sign in secret)
