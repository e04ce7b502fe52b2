"""From the bytes of an answer to its text: by its header, else by what the page says of itself.

Spec: WHATWG Encoding and HTML ("prescan a byte stream"), as far as a reader needs them: a byte
order mark comes first, and Latin-1 and ASCII are read as windows-1252, which is what pages that
name them are in. A charset that is not known, and a byte that is not in it, never fail.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"charset=\"?([A-Za-z0-9_-]{1,20})", re.IGNORECASE)
_META = re.compile(rb"<meta\s[^>]*?charset\s*=[\s\"']*([A-Za-z0-9_-]{1,20})", re.IGNORECASE)
_META_BYTES = 1024
_KNOWN = re.compile(
    r"utf-?8|us-ascii|iso-8859-([1-9]|1[013-6])|windows-125[0-8]|latin1|utf-16(le|be)?"
    r"|shift_jis|euc-(jp|kr)|gb2312|gbk|gb18030|big5|koi8-[ru]"
)
_WESTERN = frozenset({"us-ascii", "iso-8859-1", "latin1"})
_MARK = "\ufeff"
_MARKED = ("utf-8", "utf-16-le", "utf-16-be")


def decode(body: bytes, content_type: str) -> str:
    """The text of an answer of that Content-Type, U+FFFD for what cannot be read."""
    return body.decode(_charset(body, content_type), errors="replace").removeprefix(_MARK)


def _charset(body: bytes, content_type: str) -> str:
    for marked in _MARKED:
        if body.startswith(_MARK.encode(marked)):
            return marked
    name = _named(body, content_type)
    if not _KNOWN.fullmatch(name):
        return "utf-8"
    return "windows-1252" if name in _WESTERN else name


def _named(body: bytes, content_type: str) -> str:
    if header := _HEADER.search(content_type):
        return header[1].lower()
    if "html" not in content_type.lower() or not (meta := _META.search(body, 0, _META_BYTES)):
        return ""
    name = meta[1].decode("ascii").lower()
    return "utf-8" if name.startswith("utf-16") else name  # it could not have been read so far
