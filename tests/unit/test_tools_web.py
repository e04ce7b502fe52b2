"""web over the real http capability, with a network of one page."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.errors import ToolLimitError
from node.sandbox import Grant

EXAMPLES = int(os.environ.get("FREEHOLD_FUZZ", "50"))
URL = "http://page.example/a/b.html?x=1"


@dataclass
class OnePage:
    """A network where every name leads to one server, which always answers the same."""

    status: str = "200 OK"
    kind: str = "text/html; charset=utf-8"
    body: str | bytes = ""

    def resolve(self, host: str, port: int, timeout_s: float) -> list[str]:
        return ["93.184.216.34"]

    def connect(self, address: str, port: int, timeout_s: float) -> socket.socket:
        ours, theirs = socket.socketpair()
        threading.Thread(target=self.serve, args=(theirs,), daemon=True).start()
        return ours

    def serve(self, peer: socket.socket) -> None:
        body = self.body if isinstance(self.body, bytes) else self.body.encode("utf-8", "replace")
        kind = f"Content-Type: {self.kind}\r\n" if self.kind else ""
        head = f"HTTP/1.1 {self.status}\r\n{kind}Content-Length: {len(body)}\r\n\r\n"
        with peer, suppress(OSError):  # a client may hang up before it has said anything
            peer.recv(65_536)
            peer.sendall(head.encode() + body)

    def tls(self) -> ssl.SSLContext:
        raise AssertionError("no TLS in this test")


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory, make_shipped) -> Iterator[object]:
    """What web_fetch makes of a page, and what that takes."""
    network = OnePage()
    cache = tmp_path_factory.getbasetemp() / "shipped-cache"
    grant = Grant(http=("http://page.example/*",))
    with make_shipped(cache, network) as shipped:

        def fetch(body, *, kind="text/html; charset=utf-8", status="200 OK", url=URL, most=None):
            network.body, network.kind, network.status = body, kind, status
            return shipped.result("web_fetch", {"url": url}, replace(grant, egress_bytes=most))

        yield fetch


@pytest.fixture(scope="module")
def page(fetched) -> object:
    return lambda body, **more: fetched(body, **more).value


TABLE = "| A | B\nx | 1 |\n| | 9\n\nz"
LIST = "- a\n\n- b\n\nc\n\n-\n- d\n\ne"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One&nbsp;two <b>three</b><br>four</p>five", "One two three\nfour\n\nfive"),
        ("&copy; &#169; &#xA9; &bogus; &#0; &#xD800; & b", "© © © &bogus; \ufffd \ufffd & b"),
        (
            "<title>T</title><style>p{}</style><script>if(a<b)'</p>'</script><h1>H</h1>x",
            "T\n\nH\n\nx",
        ),
        ("&#147;it&#146;s&#x94; &#x80;5 &#xg; &#+65;", "“it’s” €5 &#xg; &#+65;"),
        ("it&#39s &#x2019 &#99999999999; &copy 2024 &lt&amp", "it's ’ \ufffd © 2024 <&"),
        ("?a=1&copy=2&ampx &rsquo &lt3 &num 1", "?a=1&copy=2&ampx &rsquo &lt3 &num 1"),
        ("1&comma;000&period;5&percnt; &ccaron;&REG;&frac13;", "1,000.5% č®⅓"),
        ("a<svg class='x'/>b<math/>c<svg><p>no</svg>d", "abcd"),
        ("<ul><li>a</li><li>b</ul>", "- a\n- b"),
        ("<table><tr><th>A<th>B</tr><tr><td>1</td><td>2</td></table>", "A | B\n1 | 2"),
        ("<table><tr><td><th>A<th>B<tr><th>x<td>1<td><tr><td><td><td>9</table>z", TABLE),
        (
            "<table><tr><td><p>1</p></td><td><p>2</p><p>3</p></td></tr><tr><td><div>4</div><td>5",
            "1 | 2\n\n3\n4 | 5",
        ),
        ("<table><tr><th colspan=2>a<th>b<tr><td>1<td>2<td>3</table>", "a | | b\n1 | 2 | 3"),
        (
            "<table><tr><td rowspan=2>a<td>1<td rowspan='3'>b<tr><td>2<tr><td>c<td>3</table>"
            "<table><tr><td>x<td>y<tr><td colspan=x>z</table>",
            "a | 1 | b\n| 2\nc | 3\n\nx | y\nz",
        ),
        ("<ul><li><p>a</p></li><li><p>b</p>c</ul><ul><li><li>d</ul>e", LIST),
        ("3 &times; 10<sup>8</sup> m/s, $25<sup><a href='#1'>1</a></sup>", "3 × 10^8 m/s, $25^1"),
        ("<center>2024</center><center>15</center><fieldset>1</fieldset>2", "2024\n15\n\n1\n\n2"),
        ("a<pre>  x\n   y</pre>b", "a\n\n  x\n   y\n\nb"),
        ("<!-- <p>no</p> -->yes<!doctype html>", "yes"),
        ("<!-->a<!--->b<!-- <!-- no --->c", "abc"),
        ("<template>1<Template>2</template>3</template><svg><svg/><svg>4</svg>5</svg>6", "6"),
        ("1 < 2 > 1 <3", "1 < 2 > 1 <3"),
        ('<img alt="a &amp; b" src=x>', "a & b"),
        ("<svg><text>no</text></svg>yes", "yes"),
        ("<a href='../c.html'>up</a>", "up (http://page.example/c.html)"),
        (
            "<base target=_blank><base href='/x/y'><base href='/z/'><a href='c'>c</a>",
            "c (http://page.example/x/c)",
        ),
        ("<a href=' a b\n.pdf '>file</a>", "file (http://page.example/a/a%20b.pdf)"),
        ("<a href=d>down</a>", "down (http://page.example/a/d)"),
        ("<a href='/r?q=1#f'>root</a>", "root (http://page.example/r?q=1#f)"),
        ("<a href='?y=2'>query</a>", "query (http://page.example/a/b.html?y=2)"),
        ("<a href='//cdn.example/y'>host</a>", "host (http://cdn.example/y)"),
        ("<a href='https://z.example/'>z</a>", "z (https://z.example/)"),
        ("<a href='https://z.example/'>https://z.example/</a>", "https://z.example/"),
        ("<a href='#top'>top</a> <a href='javascript:x()'>js</a>", "top js"),
    ],
)
def test_html_is_read(page, html, text):
    assert page(html) == {"status": 200, "text": text}


def test_other_text_stays_as_it_is(page):
    assert page('{"a": "<b>"}', kind="application/json") == {"status": 200, "text": '{"a": "<b>"}'}
    assert page("<html><p>x", kind="") == {"status": 200, "text": "x"}
    assert page("plain <b>", kind="")["text"] == "plain <b>"


PROLOG = '<?xml version="1.0" encoding="windows-1251"?>'


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("text/html", b'<!doctype html><meta charset="iso-8859-2"><p>\xbeluva', "žluva"),
        ("text/html", b"<META http-equiv=x content='text/html; charset=Shift_JIS'>\x83e", "テ"),
        ("text/html", b"<meta charset=utf-16><p>\xc3\xa9", "é"),
        ("text/html", b"<meta charset=no-such-one><p>\xc3\xa9", "é"),
        ("text/html", b"<meta charset=utf-8><p>\xe9", "\ufffd"),
        ("text/html", b"<p>" + b"x" * 2000 + b"<meta charset=latin1>\xe9", "x" * 2000 + "\ufffd"),
        ("text/html; charset=utf-8", b"<meta charset=latin1><p>\xc3\xa9", "é"),
        ("text/html; charset=ISO-8859-1", b"<p>\x93so\x94 \x80 \x81", "“so” € \ufffd"),
        ("text/plain; charset=latin1", b"\xef\xbb\xbf\xc3\xa9", "é"),
        ("text/plain", b"\xff\xfe\xe9\0", "é"),
        ("text/html; charset=utf-8", b"\xfe\xff\0<\0p\0>\0\xe9", "é"),
        ("text/html; charset=gb2312", "镕喆".encode("gbk"), "镕喆"),
        ("text/html; charset=Shift_JIS", b"\x87@\x81`", "①～"),
        ("text/html; charset=euc-kr", b"\x8cc", "똠"),
        ("text/html; charset=ks_c_5601-1987", b"\xc7\xd1", "한"),
        ("text/html; charset=windows-874", b"\xe4\xb7\xc2", "ไทย"),
        ("text/html", b"<meta charset=iso-2022-jp><p>\x1b$B%F\x1b(B", "テ"),
        ("text/html; charset=iso-8859-9", b"\xfe\x93", "ş“"),
        ("text/xml", b'<?xml version="1.0" encoding="windows-1251"?>\xcf', PROLOG + "П"),
        ("application/xhtml+xml", b"<?xml encoding='latin1'?><meta charset=gbk><p>\xe9", "é"),
        ("application/json", b'\xef\xbb\xbf{"charset=": "\xc3\xa9"}', '{"charset=": "é"}'),
    ],
)
def test_the_charset_is_what_the_page_says(page, kind, body, text):
    assert page(body, kind=kind) == {"status": 200, "text": text}


@pytest.mark.parametrize("kind", ["application/pdf", "image/png", ""])
def test_what_is_no_text_is_said_to_be_none(page, kind):
    words = page(b"%PDF-1.7\n\xff\0\x01" * 500, kind=kind)["error"]
    assert words.startswith("that is no page of text but " + (kind or "a file of no named type"))
    assert page(b"<p>a\0b")["text"] == "a\0b"


def test_a_refusal_of_the_server_is_an_answer(page):
    assert page("<p>gone", status="404 Not Found") == {"status": 404, "text": "gone"}


def test_a_refusal_of_the_host_is_an_error(page):
    assert "allow-list" in page("", url="http://other.example/")["error"]


def test_long_text_is_cut_at_a_character(page):
    answer = page("é" * 60_000 + "<p>end", kind="text/plain")
    assert answer["truncated"] is True
    assert answer["text"] == "é" * 50_000


HOSTILE = {
    "unclosed attributes": '<a href="' * 80_000,
    "angle brackets": "<" * 500_000,
    "unclosed scripts": "<script>" * 80_000,
    "closing tags": "</script" * 80_000,
    "unclosed comments": "<!--" * 100_000,
    "ampersands": "&" * 500_000,
    "nesting": "<div>" * 100_000,
    "line breaks in pre": "<pre>\n" * 80_000,
    "links": "<a href=x>y" * 60_000,
    "attributes": "<a " + "x=' " * 120_000,
    "wide cells": "<table>" + "<td colspan=99 rowspan=99>" * 30_000,
    "tall cells": "<table>" + "<tr><td rowspan=65535><td colspan=64>" * 20_000,
    "unclosed templates": "<template" * 60_000 + "<template>" * 40_000,
    "long names": "&" + "a" * 400_000 + "&a" * 100_000,
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_pages_take_linear_time(fetched, body):
    done = fetched(body)
    assert done.value["status"] == 200
    assert done.fuel < 2_000 * len(body)  # an ordinary page takes 300 for each


MARKUP = "< </ > a p pre href= ' \" & amp; #x script style !-- --> é li td = / 😀 &# svg"
MARKUP += " <table> <tr> <td <li> <sup> <template> colspan=3 rowspan=9 >"
PIECES = [*MARKUP.split(" "), " ", "\n", "\x00"]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join) | st.text(max_size=200))
def test_any_page_is_answered(page, body):
    assert set(page(body)) == {"status", "text"}


def test_a_call_that_may_not_send_more_says_what_it_had_sent(page) -> None:
    with pytest.raises(ToolLimitError, match="egress_bytes = 10 ") as nothing:
        page("<p>x", most=10)
    assert nothing.value.egress_bytes == 0
    again = "text/html\r\nLocation: /a/b.html"
    with pytest.raises(ToolLimitError, match="egress_bytes = 250 ") as one:
        page("", kind=again, status="302 Found", most=250)
    assert 50 < one.value.egress_bytes < 250
