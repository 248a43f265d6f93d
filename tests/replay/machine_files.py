"""Machine files whose hosts do not answer: odd ones that are accepted, and broken ones that are not."""

_NOWHERE = "network: {hostname: 127.8.1.1, port: 9, sidecar_port: 9}\nmodels: []\n"

ODD: dict[str, str | bytes] = {
    "odd.yaml": r"""
# A comment
zoo: {last: [1, {deep: ~}, [[2], []]], first: 1.5e300}
name: odd
role: '<img src=x onerror=alert(1)>'
hardware: {gpu: [{model: x, vram_gb: 24}, {uuid: GPU-odd, index: 3}], 24: 7, true: t}
network: {hostname: 127.8.1.2, port: 9, sidecar_port: 9, site: Łódź 東京}
models: [llama3.1:70b, llama3.1:8b]
dates: [2026-11-25, '2026-11-25', 2026-11-25T08:30:00Z]
texts: ['1', '1.0', '0x10', 'true', 'null', '~', 'yes', 'NO', '', ' ', '- a', 'a: b', '#', '<<', '=', '@']
numbers: [1, 1.0, -0.5, 123456789012345678901234567890, .nan, .inf, -.inf, 0x1F, 0o17]
truths: [true, false, null, yes, no]
breaks: "one\ntwo\t\r \x85 \u2028 \0 \ufeff "
same: &same {a: [b]}
again: *same
version: 24.10
build: 61e9540
code: 0042
block: |
  #!/bin/sh
  echo 'a: b' # c
""",
    "norway.YML": b"\xef\xbb\xbfname: norway\r\nrole: r\r\nhardware: {}\r\n" + _NOWHERE.encode(),
    "twin-1.yaml": f"name: twin\nrole: r\nhardware: {{}}\n{_NOWHERE}",
}
BROKEN: dict[str, str | bytes] = {
    "twin-2.yaml": f"name: Twin\nrole: r\nhardware: {{}}\n{_NOWHERE}",
    "bad-brackets.yaml": "name: [",
    "bad-empty.yaml": "",
    "bad-list.yaml": "- box\n- other\n",
    "bad-missing.yaml": "name: missing\nrole: r\n",
    "bad-types.yaml": f"name: 5\nrole: ''\nhardware: []\n{_NOWHERE.replace('[]', '{}')}",
    "bad-host.yaml": "name: host\nrole: r\nhardware: {}\nnetwork: {hostname: 'http://x:1/'}\nmodels: []\n",
    "bad-any-address.yaml": "name: any\nrole: r\nhardware: {}\nnetwork: {hostname: 0.0.0.0}\nmodels: []\n",
    "bad-port.yaml": "name: p\nrole: r\nhardware: {}\nnetwork: {hostname: h, port: 65536}\nmodels: []\n",
    "bad-name.yaml": f"name: -x\nrole: r\nhardware: {{}}\n{_NOWHERE}",
    "bad-tab.yaml": "name: tab\nx:\n\ty: 1\n",
    "bad-twice.yaml": f"name: a\nname: b\nrole: r\nhardware: {{}}\n{_NOWHERE}",
    "bad-documents.yaml": "a: 1\n---\nb: 2\n",
    "bad-latin-1.yaml": b"name: M\xfcnchen\n",
    "bad-alias.yaml": "x: &x [*x]\n",
    "bad-tag.yaml": "k: !vault |\n  123\n",
    "_left-out.yaml": "name: [",
    ".hidden.yaml": "name: [",
    "notes.txt": "not a machine",
}
