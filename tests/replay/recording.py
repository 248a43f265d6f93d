"""Sends the requests of a subject, and records the answers or compares them with recorded ones."""

import json
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.replay.asking import Answer, Ask
from tests.replay.masks import Masks

FOLDER = Path(__file__).parent / "answers"
HOW_TO_RECORD = "if they are meant, run python -m tests.replay.record"
PATIENCE_S = 20.0
"""For so long a subject's questions are asked again, all together, until the answers are as they were: on a
busy machine a poll may be missed."""
_WIDTH = 110
_LONG = 400
_USUAL = {
    "content-length": "<bytes>",
    "content-type": "application/json",
    "x-content-type-options": "nosniff",
}
"""Headers of most answers; in a file stand those that are different, and null for one that is not there."""

_DECLARED = ".body.machines["
"""Where keys stand in the order in which a file has them."""

Recording = dict[str, dict[str, Any]]
Subject = Generator[Ask, Answer, None]
"""Yields what it asks, one after the other, and is sent each answer; between them it may do something."""


def record(url: str, subject: Subject, masks: Masks) -> Recording:
    """Ask all and keep the answers, by what was asked."""
    recording: Recording = {}
    for title, question, answer in _asked(url, subject, masks):
        recording[title] = masks.answer(answer, question.path)
    return recording


def compare(url: str, subject: Subject, masks: Masks, recording: Recording) -> list[str]:
    """Ask all again, and say what is different now; nothing if all is as it was."""
    patience_s, found, asked = PATIENCE_S, [], set()
    for title, question, answer in _asked(url, subject, masks):
        asked.add(title)
        if title not in recording:
            found.append(f"{title}: not recorded")
            continue
        before = time.monotonic()
        new = differences(recording[title], masks.answer(answer, question.path))
        while new and question.may_repeat and time.monotonic() - before < patience_s:
            time.sleep(0.1)
            new = differences(recording[title], masks.answer(question.send(url), question.path))
        patience_s -= time.monotonic() - before
        found += [f"{title}: {one}" for one in new]
    return found + [f"{title}: not asked" for title in recording.keys() - asked]


def _asked(url: str, subject: Subject, masks: Masks) -> Iterator[tuple[str, Ask, Answer]]:
    """What is asked, under a title of its own, and the answer."""
    titles = Counter[str]()
    try:
        question = next(subject)
        while True:
            title = masks.text(question.title)
            titles[title] += 1
            answer = question.send(url)
            if question.lease and answer.status == 201:
                masks.name(answer.json["lease"], f"lease {question.lease}")
            yield title if titles[title] == 1 else f"{title} ({titles[title]})", question, answer
            question = subject.send(answer)
    except StopIteration:
        return


def differences(was: Any, now: Any, where: str = "") -> list[str]:
    """What is different, each with its path."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        found = [f"{where}.{key} is missing, was {was[key]!r}" for key in was if key not in now]
        found += [f"{where}.{key} is new: {now[key]!r}" for key in now if key not in was]
        for key in was:
            if key in now:
                found += differences(was[key], now[key], f"{where}.{key}")
        if where.startswith(_DECLARED) and list(was) != list(now):
            found.append(f"{where} has its keys in another order: {list(now)}, was {list(was)}")
        return found
    if isinstance(was, list) and isinstance(now, list):
        if len(was) != len(now):
            return [f"{where} has {len(now)} entries, had {len(was)}: {now!r}, was {was!r}"]
        pairs = enumerate(zip(was, now, strict=True))
        return [one for at, (left, right) in pairs for one in differences(left, right, f"{where}[{at}]")]
    return [] if was == now and type(was) is type(now) else [f"{where} is {now!r}, was {was!r}"]


def load(name: str) -> Recording:
    """A recording by its name."""
    stored = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    recording: Recording = {}
    for title, (status, headers, body) in stored.items():
        all_headers = {key: value for key, value in (_USUAL | headers).items() if value is not None}
        if isinstance(body, dict) and body.keys() == {"same as"}:
            body = recording[body["same as"]]["body"]
        recording[title] = {"status": status, "headers": dict(sorted(all_headers.items())), "body": body}
    return recording


def save(name: str, recording: Recording) -> None:
    """Write a recording so that a difference can be read; a long body stands there once."""
    FOLDER.mkdir(exist_ok=True)
    stored, seen = {}, dict[str, str]()
    for title, one in recording.items():
        headers: dict[str, Any] = dict.fromkeys(_USUAL.keys() - one["headers"].keys())
        headers |= {key: value for key, value in one["headers"].items() if _USUAL.get(key) != value}
        body, text = one["body"], json.dumps(one["body"])
        if len(text) > _LONG:
            first = seen.setdefault(text, title)
            body = body if first == title else {"same as": first}
        stored[title] = [one["status"], dict(sorted(headers.items())), body]
    (FOLDER / f"{name}.json").write_text(_shown(stored) + "\n", "utf-8")


def _shown(value: Any, indent: str = "") -> str:
    """JSON in lines that are as long as they may be."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or (len(indent) + len(flat) <= _WIDTH and indent):
        return flat
    deeper = indent + " "
    if isinstance(value, dict):
        named = {json.dumps(key, ensure_ascii=False): _shown(one, deeper) for key, one in value.items()}
        parts, opening, closing = [f"{key}: {one}" for key, one in named.items()], "{", "}"
    else:
        parts, opening, closing = [_shown(one, deeper) for one in value], "[", "]"
    if indent:
        parts = _filled(parts, _WIDTH)
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{closing}"


def _filled(parts: list[str], width: int) -> list[str]:
    """As many of them in a line as there is room for."""
    lines: list[str] = []
    for part in parts:
        if lines and "\n" not in lines[-1] + part and len(lines[-1]) + len(part) < width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines
