"""URLs and the patterns of a grant: one reading of a URL, and no way around the list."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.errors import CapabilityError
from node.sandbox.capabilities.allowlist import UrlError, is_public, parse_pattern, parse_url

FUZZ = settings(max_examples=int(os.environ.get("FREEHOLD_FUZZ", "300")), deadline=None)


@pytest.mark.parametrize(
    ("given_url", "normal"),
    [
        ("http://example.org", "http://example.org/"),
        ("HTTPS://Example.ORG:443/a", "https://example.org/a"),
        ("https://example.org./a", "https://example.org/a"),
        ("https://example.org:8443/a?b=c#d", "https://example.org:8443/a?b=c"),
        ("https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4"),
        ("https://ＥＸＡＭＰＬＥ.org/", "https://example.org/"),
        ("https://example.org/a/./b/../c", "https://example.org/a/c"),
        ("https://example.org/a/%2e%2e/c", "https://example.org/c"),
        ("https://example.org/%7Euser/%41", "https://example.org/~user/A"),
        ("https://example.org/%c3%a4", "https://example.org/%C3%A4"),
        ("https://example.org/100%", "https://example.org/100%25"),
        ("https://[2001:DB8::1]:80/", "https://[2001:db8::1]:80/"),
        ("http://127.0.0.1:80/", "http://127.0.0.1/"),
        ("https://example.org/../../a", "https://example.org/a"),
    ],
)
def test_has_one_normal_form(given_url: str, normal: str) -> None:
    assert str(parse_url(given_url)) == normal
    assert str(parse_url(normal)) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.org",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://",
        "http:///a",
        "http://user@example.org/",
        "http://api.example.org@evil.example/",
        "http://user:password@example.org/",
        "http://example.org\\@evil.example/",
        "http://exa mple.org/",
        "http://example.org/\r\nHost: evil.example",
        "http://example.org/a\tb",
        "http://example.org:0/",
        "http://example.org:65536/",
        "http://example.org:80:80/",
        "http://example.org:/x@y",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1.0x1/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://exa%6dple.org/",
        "http://-example.org/",
        "http://example..org/",
        "http://" + "a" * 64 + ".org/",
        "http://example.org/" + "a" * 2048,
        "http://example.org/" + "ä" * 1100,
        "http://example.org/a b",
        "http://" + f"{'a' * 60}." * 4 + "example.org/",
        "http://example.org/a/..%2fb",
        "http://example.org/a/%2e%2e%2fb",
        "http://example.org/a/..%5cb",
        "http://example.org/a/%252e%252e/b",
        "http://example.org/a/..;/b",
        "http://example.org/a/..;x=1/b",
        "http://example.org/a/%2e%2e%3b/b",
        "http://example.org/a/.;/b",
    ],
)
def test_refuses_what_has_another_reading(text: str) -> None:
    with pytest.raises(UrlError):
        parse_url(text)


@pytest.mark.parametrize(
    ("pattern", "url", "matches"),
    [
        ("https://api.example.org/*", "https://api.example.org/", True),
        ("https://api.example.org/*", "https://API.example.org./a?b", True),
        ("https://api.example.org/*", "http://api.example.org/", False),
        ("https://api.example.org/*", "https://api.example.org:444/", False),
        ("https://api.example.org/*", "http://api.example.org:443/", False),
        ("https://api.example.org/*", "https://api.example.org.evil.example/", False),
        ("https://api.example.org/*", "https://evil-api.example.org/", False),
        ("https://api.example.org/v1/*", "https://api.example.org/v1/a", True),
        ("https://api.example.org/v1/*", "https://api.example.org/v1", False),
        ("https://api.example.org/v1/*", "https://api.example.org/v10/", False),
        ("https://api.example.org/v1/*", "https://api.example.org/v1/../admin", False),
        ("https://api.example.org/v1/*", "https://api.example.org/v1/%2e%2e/admin", False),
        ("https://api.example.org/a", "https://api.example.org/a?q=1", True),
        ("https://api.example.org/a", "https://api.example.org/ab", False),
        ("https://*.example.org/*", "https://a.b.example.org/", True),
        ("https://*.example.org/*", "https://example.org/", False),
        ("https://*.example.org/*", "https://evilexample.org/", False),
        ("http://127.0.0.1:8080/*", "http://127.0.0.1:8080/a", True),
        ("http://127.0.0.1:8080/*", "http://127.0.0.1:8081/a", False),
        ("http://[::1]:8080/*", "http://[0:0::1]:8080/a", True),
        ("https://bücher.example/*", "https://xn--bcher-kva.example/", True),
    ],
)
def test_a_pattern_allows_what_it_names(pattern: str, url: str, matches: bool) -> None:
    assert parse_pattern(pattern).matches(parse_url(url)) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "https://*/*",
        "https://*.org/*",
        "https://a.*.org/*",
        "https://example.org/*/b",
        "https://example.org*",
        "https://example.org/?a=*",
        "https://*.127.0.0.1/*",
        "ftp://example.org/*",
        "https://user@example.org/*",
    ],
)
def test_refuses_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(CapabilityError, match="not a pattern"):
        parse_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "private"),
    [
        ("http://127.0.0.1/*", True),
        ("http://localhost:1/*", True),
        ("http://nas/*", True),
        ("http://nas.local/*", True),
        ("http://[::1]/*", True),
        ("https://example.org/*", False),
        ("https://*.nas.local/*", False),
        ("https://localhost.example.org/*", False),
        ("https://notlocal/*", True),
        ("https://evil-local.example/*", False),
        ("https://example.notlocal/*", False),
    ],
)
def test_only_a_literal_local_name_reaches_the_local_network(pattern: str, private: bool) -> None:
    assert parse_pattern(pattern).may_be_private is private


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "192.0.0.192",
        "192.88.99.1",
        "168.63.129.16",
        "3fff::1",
        "::ffff:192.0.0.192",
        "198.18.0.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::10.1.2.3",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1.1.1.1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "fec0::1",
        "4000::1",
    ],
)
def test_knows_what_is_not_the_open_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::93.184.216.34"],
)
def test_knows_the_open_internet(address: str) -> None:
    assert is_public(address)


@FUZZ
@given(st.text(max_size=80) | st.text(max_size=40).map("https://api.example.org/".__add__))
def test_any_text_is_a_url_in_normal_form_or_refused(text: str) -> None:
    try:
        url = parse_url(text)
    except UrlError:
        return
    assert parse_url(str(url)) == url
    assert ".." not in url.path.split("/")
    assert str(url).isascii()


PIECES = [
    "..",
    ".",
    "/",
    "%2e",
    "%2f",
    "%25",
    "@",
    "evil.example",
    "\\",
    "?",
    "#",
    ":",
    "a",
    "%",
    ";",
]


@FUZZ
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_nothing_appended_leaves_the_prefix(tail: str) -> None:
    pattern = parse_pattern("https://api.example.org/v1/*")
    try:
        url = parse_url("https://api.example.org/v1/" + tail)
    except UrlError:
        return
    if pattern.matches(url):
        assert url.host == "api.example.org"
        assert url.path.startswith("/v1/")
        assert ".." not in [name.partition(";")[0] for name in url.path.split("/")]
