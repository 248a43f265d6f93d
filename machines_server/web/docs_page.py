"""The page that shows openapi.json to people: plain HTML, which needs no script."""

import re
from collections.abc import Iterator, Mapping
from html import escape
from string import Template
from typing import Any

Schema = Mapping[str, Any]

_DOCS = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>API - machines-server</title>
<link rel="icon" href="./static/icon.svg" type="image/svg+xml">
<script src="./static/theme.js"></script>
<link rel="stylesheet" href="./static/style.css">
<link rel="stylesheet" href="./static/docs.css">
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header class="top">
<a class="brand" href="./"><img src="./static/icon.svg" alt="" width="24" height="24">
<span>machines-server</span></a>
<nav aria-label="Pages"><a href="./">Fleet</a> <a href="./docs" aria-current="page">API</a></nav>
</header>
<main id="main" tabindex="-1" class="api">
<h1>The API of machines-server $version</h1>
$about
<p>For programs: <a href="./openapi.json">openapi.json</a> (OpenAPI 3.1).</p>
<nav aria-label="Contents" class="contents">$contents</nav>
$operations
<h2 id="answers">Objects</h2>
$objects
</main>
</body>
</html>
""")


def docs_page(document: Schema) -> bytes:
    """The page for a document of OpenAPI."""
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    groups = {
        tag["name"]: [one for one in operations if tag["name"] in one[1]["tags"]] for tag in document["tags"]
    }
    schemas = document["components"]["schemas"]
    page = _DOCS.substitute(
        version=escape(document["info"]["version"]),
        about=_paragraphs(document["info"]["description"]),
        contents="\n".join(_contents(name, group) for name, group in groups.items()),
        operations="\n".join(_group(name, group, document) for name, group in groups.items()),
        objects="\n".join(_object(name, schema) for name, schema in schemas.items()),
    )
    return page.encode()


def _contents(name: str, group: list[tuple[str, Schema]]) -> str:
    links = (
        f'<li><a href="#{operation["operationId"]}"><code>{escape(title)}</code></a></li>'
        for title, operation in group
    )
    return f"<h2>{escape(name)}</h2><ul>{''.join(links)}</ul>"


def _group(name: str, group: list[tuple[str, Schema]], document: Schema) -> str:
    shown = "\n".join(_operation(title, operation, document) for title, operation in group)
    return f"<h2>{escape(name)}</h2>\n{shown}"


def _operation(title: str, operation: Schema, document: Schema) -> str:
    name = operation["operationId"]
    parts = [
        f'<section class="card" aria-labelledby="{name}"><h3 id="{name}"><code>{escape(title)}</code></h3>'
    ]
    parts.append(_paragraphs(operation["summary"]))
    if said := operation.get("description"):
        parts.append(_paragraphs(said))
    if parameters := operation.get("parameters"):
        rows = (
            (one["name"], _type(one["schema"]), one["in"], _inline(one["description"])) for one in parameters
        )
        parts.append(_table(("Parameter", "Type", "In", "Meaning"), rows))
    if body := operation.get("requestBody"):
        parts.append(f"<p>Body: {_content(body)}</p>")
    responses = operation["responses"].items()
    answers = ((status, *_answer(response, document)) for status, response in responses)
    parts.append(_table(("Status", "Content", "Meaning"), answers))
    return "\n".join([*parts, "</section>"])


def _answer(response: Schema, document: Schema) -> tuple[str, str]:
    if shared := response.get("$ref"):
        response = document["components"]["responses"][shared.rpartition("/")[2]]
    return _content(response), _inline(response["description"])


def _content(holder: Schema) -> str:
    shown = []
    for media, content in holder.get("content", {}).items():
        is_json = media == "application/json"
        shown.append(_type(content["schema"]) if is_json else f"<code>{escape(media)}</code>")
    return " or ".join(shown) or "none"


def _object(name: str, schema: Schema) -> str:
    parts = [f'<section class="card" aria-labelledby="{name}"><h3 id="{name}">{escape(name)}</h3>']
    parts.append(_paragraphs(schema.get("description", "")))
    if properties := schema.get("properties"):
        required = schema.get("required", ())
        rows = (
            (
                key,
                _type(part) + ("" if key in required else ", may be absent"),
                _inline(part.get("description", "")),
            )
            for key, part in properties.items()
        )
        parts.append(_table(("Key", "Type", "Meaning"), rows))
    else:
        parts.append(f"<p>{_type(schema)}</p>")
    return "\n".join([*parts, "</section>"])


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A table whose cells are HTML, except for the first of each row."""
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = "".join(map(_row, rows))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(cells: tuple[str, ...]) -> str:
    first, *others = cells
    more = "".join(f"<td>{cell}</td>" for cell in others)
    return f'<tr><th scope="row"><code>{escape(first)}</code></th>{more}</tr>'


def _type(schema: Schema) -> str:
    """A type in words, as HTML."""
    if ref := schema.get("$ref"):
        name = escape(ref.rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "allOf" in schema:
        return " and ".join(map(_type, schema["allOf"]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in values)
    if schema.get("type") == "array":
        items = schema.get("items")
        return f"list of {_type(items)}" if items else f"[{', '.join(map(_type, schema['prefixItems']))}]"
    return escape(_limits(schema, schema.get("type", "anything")))


def _limits(schema: Schema, type_: str) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    shown = type_ if high is None else f"{type_} from {low:g} to {high:,g}"
    default = schema.get("default")
    return shown if default is None else f"{shown}, {str(default).lower()} by default"


def _paragraphs(text: str) -> str:
    return "\n".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n") if part)


def _inline(text: str) -> str:
    """Text as HTML, with text in backquotes as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
