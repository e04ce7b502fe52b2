"""From the bytes of an answer to its text: by its header, else by what the page says of itself.

Spec: WHATWG Encoding and HTML ("prescan a byte stream"), as far as a reader needs them: a byte
order mark comes first, and what is named is read as the larger charset that pages which name it
are in: Latin-1 and ASCII as windows-1252, GB 2312 as GB 18030, and so on. A charset that is not
known, and a byte that is not in it, never fail.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"charset=\"?([A-Za-z0-9_-]{1,20})", re.IGNORECASE)
_META = re.compile(rb"<meta\s[^>]*?charset\s*=[\s\"']*([A-Za-z0-9_-]{1,20})", re.IGNORECASE)
_XML = re.compile(rb"<\?xml\s[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9_-]{1,20})", re.IGNORECASE)
_META_BYTES = 1024
_KNOWN = re.compile(
    r"utf-?8|us-ascii|iso-8859-([1-9]|1[013-6])|(windows-|cp)125[0-8]|windows-874|latin1"
    r"|utf-16(le|be)?|shift_jis|x-sjis|euc-(jp|kr)|ks_c_5601-1987|iso-2022-jp|gb2312|gbk|gb18030"
    r"|big5|koi8-[ru]|tis-620"
)
_READ_AS = {
    **dict.fromkeys(("us-ascii", "iso-8859-1", "latin1"), "windows-1252"),
    **dict.fromkeys(("gb2312", "gbk"), "gb18030"),
    **dict.fromkeys(("shift_jis", "x-sjis"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987"), "cp949"),
    **dict.fromkeys(("tis-620", "iso-8859-11", "windows-874"), "cp874"),
    "iso-8859-9": "windows-1254",
    "big5": "big5hkscs",
}
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
    return _READ_AS.get(name, name)


def _named(body: bytes, content_type: str) -> str:
    if header := _HEADER.search(content_type):
        return header[1].lower()
    kind = content_type.lower()
    said = _XML.match(body, 0, _META_BYTES) if "xml" in kind else None
    if said is None and "html" in kind:
        said = _META.search(body, 0, _META_BYTES)
    name = said[1].decode("ascii").lower() if said else ""
    return "utf-8" if name.startswith("utf-16") else name  # it could not have been read so far
