"""Queries for the exact folds of several series, in as few requests as engines allow.

In MetricsQL, which VictoriaMetrics understands besides PromQL, a query reads each series once and not once
for each part of its folds: that takes a third of the time (https://docs.victoriametrics.com/metricsql/).

A bucket [t, t + step) is evaluated 1 ms before its end: ranges are closed on both sides before Prometheus 3,
and open on the left since then and in VictoriaMetrics. Samples are stamped on whole 10 ms, so all agree.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from machines_server.core.past.metrics import Metric
from machines_server.store.promql.names import series_name
from machines_server.store.values import SeriesKey

PART = "machines_part"
"""The label that tells which metric, and which part of its fold, a series is."""
MAX_QUERY_BYTES = 14_000
"""VictoriaMetrics accepts 16 KiB by default."""
_MAX_MATCHERS_BYTES = 2000
_FOLDS = {"n": "count", "s": "sum", "l": "min", "h": "max"}
PART_LETTERS = "".join(_FOLDS)
"""The prefixes for count, sum, minimum and maximum; the number of the metric follows."""
_REGEX_CHARACTERS = frozenset("\\.+*?()|[]{}^$")


class Query(NamedTuple):
    """An expression, and the metrics in it by their number."""

    text: str
    metrics: Sequence[Metric]


def queries(
    wanted: Sequence[SeriesKey],
    step_s: int,
    offset_s: int,
    site: str | None = None,
    *,
    is_metricsql: bool,
) -> Iterator[Query]:
    """The queries for some keys; each is evaluated `offset_s` before the end of its buckets.

    `site` is that of the machines; None means any.
    """
    parts_of = _in_metricsql if is_metricsql else _in_promql
    texts, metrics, size = list[str](), list[Metric](), 0
    for metric, matchers in _selections(wanted, site):
        selected = _selected(metric, matchers, step_s, offset_s)
        some = parts_of(selected, len(metrics))
        more = sum(len(text.encode()) + 6 for text in some)
        if texts and size + more > MAX_QUERY_BYTES:
            yield Query(_any_of(texts), metrics)
            texts, metrics, size = [], [], 0
            some = parts_of(selected, 0)
        texts += some
        metrics.append(metric)
        size += more
    if texts:
        yield Query(_any_of(texts), metrics)


def quoted_label(value: str) -> str:
    """A text as a string of PromQL."""
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text.encode("utf-8", "backslashreplace").decode()}"'


def matcher(label: str, values: Sequence[str]) -> str:
    """A matcher for the series whose label has one of these values."""
    if len(values) == 1:
        return f"{label}={quoted_label(values[0])}"
    return f"{label}=~{quoted_label('|'.join(map(_literally, values)))}"


def _literally(text: str) -> str:
    """A regular expression (RE2) for exactly this text."""
    return "".join(f"\\{one}" if one in _REGEX_CHARACTERS else one for one in text)


def _selections(wanted: Sequence[SeriesKey], site: str | None) -> Iterator[tuple[Metric, str]]:
    """The metrics, each with matchers for some of the keys that need it."""
    by_metric: dict[Metric, list[SeriesKey]] = {}
    for key in dict.fromkeys(wanted):
        by_metric.setdefault(key.metric, []).append(key)
    for metric, keys in by_metric.items():
        some, size = list[SeriesKey](), 0
        for key in keys:
            more = 2 * (len(key.machine) + len(key.gpu or ""))
            if some and size + more > _MAX_MATCHERS_BYTES:
                yield metric, _matchers(some, site)
                some, size = [], 0
            some.append(key)
            size += more
        yield metric, _matchers(some, site)


def _matchers(keys: Sequence[SeriesKey], site: str | None) -> str:
    """Matchers for these keys; those for several GPUs may also match unrequested series."""
    found = [matcher("machine", list(dict.fromkeys(key.machine for key in keys)))]
    if keys[0].metric.is_gpu:
        found.append(matcher("gpu", list(dict.fromkeys(key.gpu or "" for key in keys))))
    if site is not None:
        found.append(matcher("site", [site]))
    return ",".join(found)


def _selected(metric: Metric, matchers: str, step_s: int, offset_s: int) -> str:
    offset = f" offset -{offset_s}s" if offset_s else ""
    return f"{series_name(metric)}{{{matchers}}}[{step_s}s]{offset}"


def _in_promql(selected: str, number: int) -> list[str]:
    """The parts of the folds of the metric with that number."""
    return [
        f'label_replace({fold}_over_time({selected}),"{PART}","{letter}{number}","","")'
        for letter, fold in _FOLDS.items()
    ]


def _in_metricsql(selected: str, number: int) -> list[str]:
    folds = ",".join(f'"{fold}_over_time"' for fold in _FOLDS.values())
    parts = ",".join(f'"{fold}_over_time","{letter}{number}"' for letter, fold in _FOLDS.items())
    all_folds = f"aggr_over_time(({folds}),{selected})"
    return [f'label_move(label_map({all_folds},"rollup",{parts}),"rollup","{PART}")']


def _any_of(texts: Sequence[str]) -> str:
    """The union of expressions, in pairs of pairs: a chain would compare each series with all before it."""
    if len(texts) == 1:
        return texts[0]
    middle = len(texts) // 2
    return f"({_any_of(texts[:middle])} or {_any_of(texts[middle:])})"
