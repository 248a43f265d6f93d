"""What a log may hold: one line per message, no control characters, and a limited number of similar lines."""

import io
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sidecar.logs
from log_limit.handler import BURST_LINES, LimitedHandler
from machines_server.process.logs import JsonFormatter, TextFormatter
from tests.core.characters import ACTING
from tests.fakes import wait_until
from tests.inventory.texts import good
from tests.running import RunningServer

SPAN_S = 0.3
FORMATTERS = [TextFormatter(), JsonFormatter(), sidecar.logs.LineFormatter("%(levelname)s %(message)s")]
KINDS = ["text", "json", "sidecar"]
NASTY = "box\n2026-11-23T17:00:00Z ERROR   [1] forged \x1b[2J\x9b31m \x07\u202e \u2028 \ud800"


class Log:
    """A logger that writes into `text` by way of one handler."""

    def __init__(self, handler: logging.StreamHandler[io.StringIO]) -> None:
        self.handler, self._stream = handler, io.StringIO()
        handler.setStream(self._stream)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self.logger = logging.Logger("test")
        self.logger.addHandler(handler)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def left_out(self) -> list[int]:
        """What the summaries say."""
        return [int(number) for number in re.findall(r"and (\d+) more like it", self.text)]


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log(LimitedHandler(SPAN_S, lines_per_s=0))
    yield log
    log.handler.close()


def formatted(formatter: logging.Formatter, message: str, error: Exception | None = None) -> str:
    info = (type(error), error, error.__traceback__) if error else None
    return formatter.format(logging.LogRecord("test", logging.ERROR, "x.py", 1, "%s", (message,), info))


def test_of_a_flood_so_many_are_written_and_the_rest_is_counted_though_nothing_follows(log: Log) -> None:
    for number in range(1000):
        log.logger.warning("machine %d: offline", number)
    wait_until(lambda: BURST_LINES + sum(log.left_out) == 1000)
    written, said = log.lines[:BURST_LINES], log.lines[BURST_LINES:]
    assert written == [f"WARNING machine {number}: offline" for number in range(BURST_LINES)]
    assert said[0].endswith(f" more like it in {SPAN_S:g} s: machine {BURST_LINES}: offline")
    assert len(said) == len(log.left_out)  # one, or more if writing took longer than the span


def test_of_what_goes_on_some_lines_are_written() -> None:
    log = Log(LimitedHandler(60, lines_per_s=1e9))
    for number in range(1000):
        log.logger.warning("machine %d: offline", number)
    assert len(log.lines) == 1000
    log.handler.close()


def test_a_flood_hides_no_other_line(log: Log) -> None:
    for number in range(1000):
        log.logger.warning("machine %d: offline", number)
        if number == 500:
            log.logger.error("the disk is full")
            log.logger.warning("a machine came: %s", "box")
    assert "ERROR the disk is full" in log.lines
    assert "WARNING a machine came: box" in log.lines


def test_a_flood_of_one_level_hides_no_graver_line(log: Log) -> None:
    for level in [logging.INFO] * 1000 + [logging.ERROR]:
        log.logger.log(level, "machine file %s", "x")
    assert log.lines[-1] == "ERROR machine file x"


def test_lines_whose_text_was_put_together_before_are_of_one_kind(log: Log) -> None:
    for number in range(1000):
        log.logger.warning(f"host {number} said nothing")
    assert len(log.lines) == BURST_LINES


def test_a_traceback_counts_for_many_lines_and_the_first_is_always_written(log: Log) -> None:
    for _ in range(100):
        try:
            raise OSError("too many open files")
        except OSError:
            log.logger.exception("accept failed")
    assert log.text.count("Traceback") == BURST_LINES / 10
    log.handler.close()
    assert log.left_out == [100 - BURST_LINES / 10]


def test_what_was_left_out_is_said_when_the_process_ends(log: Log) -> None:
    for _ in range(BURST_LINES + 30):
        log.logger.warning("again")
    log.handler.close()
    assert log.left_out == [30]


def test_no_line_is_lost_to_the_count_by_many_threads(log: Log) -> None:
    def flood() -> None:
        for number in range(500):
            log.logger.warning("line %d", number)

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.handler.close()
    written = sum(line.startswith("WARNING line") for line in log.lines)
    assert written + sum(log.left_out) == 4000
    assert written == BURST_LINES


def test_kinds_without_number_have_a_ceiling_together(log: Log) -> None:
    for number in range(5000):
        log.logger.log(number + 1, "odd %s", "x")
    assert len(log.lines) < 1000
    log.handler.close()
    assert sum(log.left_out) > 4000


def test_a_line_that_cannot_be_made_is_no_error_of_the_caller(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(300):
        log.logger.warning("%d of %d", "x")
    assert "Logging error" in capsys.readouterr().err


FORKS = """
import logging, os, sys, time
from log_limit.handler import LimitedHandler
logging.getLogger().addHandler(LimitedHandler(0.2, 0))
def flood(name):
    for number in range(300):
        logging.warning(name + " %d", number)
flood("parent")
if os.fork() == 0:
    flood("child")
    while True:
        time.sleep(1)
sys.exit(os.wait()[0] == 0)
"""


def test_a_forked_process_says_what_it_left_out() -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKS], stderr=subprocess.PIPE, text=True, process_group=0
    ) as forked:
        assert forked.stderr is not None
        try:
            next(line for line in forked.stderr if "more like it" in line and ": child 250" in line)
        finally:
            forked.kill()
            subprocess.run(["kill", "--", f"-{forked.pid}"], check=False)


@pytest.mark.parametrize("formatter", FORMATTERS, ids=KINDS)
@given(st.text(st.characters()) | st.text(st.sampled_from(ACTING)) | st.just(NASTY))
def test_no_message_makes_a_second_line_or_acts(formatter: logging.Formatter, message: str) -> None:
    line = formatted(formatter, message)
    assert not set(line) & set(ACTING)
    if isinstance(formatter, JsonFormatter):
        assert not set(json.loads(line)["message"]) & set(ACTING)
    line.encode()


@pytest.mark.parametrize("formatter", FORMATTERS, ids=KINDS)
def test_a_traceback_keeps_its_lines_and_none_looks_like_a_line_of_ours(formatter: logging.Formatter) -> None:
    try:
        raise ValueError(NASTY)
    except ValueError as error:
        text = formatted(formatter, "it failed", error)
    if isinstance(formatter, JsonFormatter):
        assert "\n" not in text
        text = "\n  ".join(["", *json.loads(text)["traceback"].split("\n")])
    _, *lines = text.split("\n")
    assert len(lines) >= 3
    assert lines[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in lines)
    assert not set(text) & set(ACTING) - {"\n"}


@pytest.mark.parametrize("formatter", FORMATTERS, ids=KINDS)
def test_a_line_is_at_most_so_long(formatter: logging.Formatter) -> None:
    error = ValueError("x" * 10_000_000)
    assert len(formatted(formatter, "y" * 1_000_000, error)) < 10_000


STARTS = {
    "server": "import logging.config; from machines_server.process.logs import *; log_uncaught();"
    " logging.config.dictConfig(log_config('warning', 'text'))",
    "sidecar": "from sidecar.logs import start_log; start_log()",
}
UNCAUGHT = """
import sys, threading, warnings
nasty = sys.argv[1]
def fail():
    raise LookupError(f"thread {nasty}")
thread = threading.Thread(target=fail, name=nasty)
thread.start()
thread.join()
warnings.warn(f"warning {nasty}")
raise ValueError(f"process {nasty}")
"""


@pytest.mark.parametrize("start", STARTS)
def test_warnings_and_what_nobody_catches_are_lines_in_which_nothing_acts(start: str) -> None:
    nasty = NASTY.removesuffix("\ud800")  # which no argument can hold
    ended = subprocess.run(
        [sys.executable, "-W", "always", "-c", STARTS[start] + UNCAUGHT, nasty],
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert not set(ended.stderr) & set(ACTING) - {"\n"}
    for what in ("thread box", "warning box", "process box"):
        assert what in ended.stderr
    assert "\n2026-11-23T17:00:00Z" not in ended.stderr


def test_what_cannot_be_raised_is_a_line_of_the_log() -> None:
    code = f"{STARTS['server']}\nclass Odd:\n def __del__(self): raise ValueError('\\x1b[2J')\nOdd()"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=30, check=False
    )
    assert "ValueError: \\x1b[2J" in ended.stderr


def test_the_log_of_a_server_has_a_ceiling_and_no_character_that_acts(server: RunningServer) -> None:
    nasty = good("box").replace("models: []", 'models: ["\\e[31m", 1, 2, 3, 4, 5, 6, 7, 8, 9]')
    for number in range(40):
        server.write(f"broken{number:03}\x1b.yaml", nasty)
    wait_until(lambda: server.log.read_text().count("machine file broken") >= 250)
    server.__exit__()
    text = server.log.read_text()
    assert text.count("machine file broken") - text.count("more like it") < 300
    assert re.search(r"and \d+ more like it in 10 s: machine file broken\d\d\d\\x1b\.yaml:\d", text)
    assert not set(text) & set(ACTING) - {"\n"}


EXHAUSTED = """
import logging, resource
from sidecar.logs import start_log
start_log()
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
for _ in range(20_000):
    try:
        open("/dev/null")
    except OSError:
        logging.getLogger("server").warning("accept failed", exc_info=True)
"""


def test_a_sidecar_out_of_descriptors_writes_little() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Too many open files" in done.stderr
    assert "more like it in 10 s: accept failed" in done.stderr
    assert len(done.stderr) < 20_000
