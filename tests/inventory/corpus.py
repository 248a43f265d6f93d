"""Nasty YAML as it turns up in real folders, and what is made of it: a machine, or the reason why not."""

from tests.inventory.texts import GOOD, good

_BOX = good("box")
_LAUGHS = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 9))

ACCEPTED: dict[str, str | bytes] = {
    "Norway and its friends": _BOX + "countries: [no, NO, yes, on, off, y, n, ~, null, Null]\n",
    "versions, octals, base 60": _BOX + "v: [1.10, 0o17, 017, 0x1F, 1:20, 12:30:45, 1_000, 1e3, .5, +1]\n",
    "dates that are none": _BOX + "d: [2026-02-30, 2026-13-01, 2026-11-24 10:00:00 +1, 0000-00-00]\n",
    "lines end as on Windows": _BOX.replace("\n", "\r\n"),
    "lines end as on an old Mac": _BOX.replace("\n", "\r"),
    "a byte order mark": b"\xef\xbb\xbf" + _BOX.encode(),
    "UTF-16": _BOX.encode("utf-16"),
    "a document marker before and after": f"---\n{_BOX}...\n",
    "a licence of comments before it": "# All rights reserved\n" * 2000 + _BOX,
    "a key without value": _BOX + "notes:\ncontact:   # nobody\n",
    "anchors as in a compose file": _BOX + "x-base: &base {a: 1, b: [2]}\ny: {<<: *base, b: 3}\n",
    "a password with everything in it": _BOX + "p: 'a:b #c %d @e `f & *g !h |i >j {k} [l]'\n",
    "quotes in quotes": _BOX + """q: "it's \\"fine\\"" \nr: 'it''s "fine"'\n""",
    "emoji, right-to-left, wide letters": _BOX + "🦙: [лама, لاما, ラマ, ⁦x⁩]\n",
    "a script in a block": _BOX + "run: |\n  #!/bin/sh\n  set -e\n\n  echo 'a: b' # c\n\n",
    "a folded text with odd indents": _BOX + "t: >-\n   a\n   b\n\n     c\n   d\n",
    "a key that is a number": _BOX + "ports: {80: http, 443: https, 1.5: x, true: y, null: z}\n",
    "a text of 60 KiB": _BOX + "blob: " + "QUJD" * 15_000 + "\n",
    "ten thousand lines of nothing": _BOX + "\n" * 10_000,
    "JSON": '{"name": "box", "role": "r", "hardware": {}, "network": {"hostname": "h"}, "models": []}',
    "a window of workflow": _BOX + "on: {push: {branches: [main]}}\nif: ${{ github.ref == 'a' }}\n",
}
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "the file is empty"),
    "half written": (GOOD[: len(GOOD) // 2], ""),
    "cut in a quoted text": (_BOX + 'note: "half of', "the file ends inside a quoted text"),
    "a tab for indentation": (_BOX + "x:\n\ty: 1\n", "this line is indented with a tab"),
    "marks of a merge": ("<<<<<<< HEAD\n" + _BOX + "=======\n>>>>>>> b\n", ""),
    "two documents": (f"{_BOX}---\n{_BOX}", "a second document begins here"),
    "a template that nobody filled in": (_BOX + "user: {{ ansible_user }}\n", "used as a key"),
    "a percent at the beginning": (_BOX + "%include other.yaml\n", ""),
    "an at sign at the beginning": (_BOX + "handle: @ops\n", "cannot start any token"),
    "a colon in a text": (_BOX + "note: see: this\n", "this line has a second ': '"),
    "a quote that is closed too soon": (_BOX + "q: 'a'b\n", ""),
    "brackets that are never closed": (_BOX + "x: [1, 2\n", ""),
    "a hundred laughs": (_BOX + "l0: &l0 [ha]\n" + _LAUGHS, "the aliases repeat too much"),
    "an alias in itself": (_BOX + "x: &x [*x]\n", "this alias is inside the value"),
    "an object of Python": (_BOX + "x: !!python/object/apply:os.system [id]\n", "is unknown"),
    "a tag of some tool": (_BOX + "k: !vault |\n  123\n", "is unknown"),
    "a key twice": (_BOX + "role: other\n", "the key role is repeated"),
    "smart quotes": (_BOX.replace("name: box", "name: \u201cbox\u201d"), ""),
    "a space that does not break": (_BOX.replace("name: box", "name:\u00a0box"), ""),
    "a NUL": (_BOX.encode() + b"x: \x00\n", "U+0000"),
    "Latin-1": (_BOX.encode() + b"city: M\xfcnchen\n", "this is not UTF-8 text"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40, ""),
    "gzip": (b"\x1f\x8b\x08" + bytes(range(256)), ""),
    "more than 64 KiB": ("#" * (2**16 + 1), "the file has 65,537 bytes; expected at most 65,536"),
    "more than twelve thousand values": (_BOX + "x: [" + "1," * 12_000 + "]\n", "expected at most 12,000"),
    "a thousand brackets": (_BOX + "x: " + "[" * 1000, "nested too deep"),
    "a list of hosts": ("- box\n- other\n", "this is not a mapping"),
    "a URL for a host name": (_BOX.replace("hostname: ", "hostname: http://"), "remove the scheme"),
}


def _filled(before: str, again: str, after: str) -> str:
    """A file of 64 KiB with as many repetitions as fit."""
    return _BOX + before + again * ((2**16 - len(_BOX + before + after)) // len(again)) + after


SLOW: dict[str, str] = {
    "numbers": _filled("x: [", "1,", "]\n"),
    "lists in lists": _filled("x: [", "[" * 90 + "]" * 90 + ",", "]\n"),
    "mappings in mappings": _filled("x: [", "{a: " * 90 + "}" * 90 + ",", "]\n"),
    "open brackets": _filled("x: ", "[", ""),
    "open braces": _filled("x: ", "{", ""),
    "open brackets after anchors": _filled("x: ", "&a [", ""),
    "open brackets after a tab": _filled("x:\t", "[", ""),
    "keys without values": _filled("x: [", "?,", "]\n"),
    "tags that do not fit": _filled("x: [", "!!int a,", "]\n"),
    "anchors": _filled("x: [", "&a 1,", "]\n"),
    "aliases": _filled("x: [&a 1, ", "*a ,", "]\n"),
    "tabs between values": _filled("x: [", "1,\t", "]\n"),
    "tabs in a text": _filled("x: ", "a\t", "\n"),
    "tabs in lines": _filled("x:\n", "\t\n", ""),
    "list items": _filled("x:\n", "- \n", ""),
    "lists in one line": _filled("x:\n", "- " * 90 + "\n", ""),
    "lines of a text": _filled("x: |\n", "  a\n", ""),
    "lines": _filled("", "\n", ""),
    "comments": _filled("", "#\n", ""),
    "directives": "%A\n" * 20_000 + "---\n",
    "services that are none": _filled("services: [", "1,", "]\n"),
    "runtimes with misspelt keys": _filled("runtimes: [", "{prot},", "]\n"),
    "the same key": _filled("", "role: x\n", ""),
    "halves of characters": _filled("x: [", '"\\ud800",', "]\n"),
}
"""Files of at most 64 KiB that take longest to read."""
