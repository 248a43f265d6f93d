import assert from "node:assert/strict";
import { test } from "node:test";

import {
  ageText,
  bytes,
  dateTimeText,
  duration,
  gib,
  number,
  percent,
  withLocalTimes,
} from "../../machines_server/web/static/base/format.js";

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;
/** Text with ordinary spaces, where a number and its unit have one that does not break. */
const plain = (text) => text.replaceAll("\u00a0", " ");

test("what is unknown is a dash and never 0", () => {
  for (const unknown of [null, undefined])
    for (const format of [number, percent, bytes, duration]) assert.equal(format(unknown), "–", format.name);
  assert.equal(plain(gib(null)), "– GiB");
  assert.equal(number(0), "0");
  assert.equal(plain(percent(0)), "0 %");
  assert.equal(plain(bytes(0)), "0 GiB");
  assert.equal(plain(duration(0)), "0 s");
});

test("numbers are rounded to at most the decimals that are asked for", () => {
  assert.equal(number(12.5), "13");
  assert.equal(number(12.34, 1), "12.3");
  assert.equal(number(12.35, 1), "12.4");
  assert.equal(number(12, 3), "12");
  assert.equal(number(-0.04, 1), "-0");
  assert.equal(number(1_234_567), "1,234,567");
});

test("sizes are in GiB, of 2^30 bytes", () => {
  assert.equal(plain(gib(23.96)), "24 GiB");
  assert.equal(plain(gib(23.94)), "23.9 GiB");
  assert.equal(plain(gib(23.5, 0)), "24 GiB");
  assert.equal(plain(bytes(2 ** 30)), "1 GiB");
  assert.equal(plain(bytes(1.5 * 2 ** 30)), "1.5 GiB");
  assert.equal(plain(bytes(1)), "0 GiB");
});

test("a number and its unit stay on one line", () => {
  for (const text of [percent(1), gib(1), bytes(1), duration(1), duration(MINUTE)]) assert.doesNotMatch(text, / /);
});

test("durations have their two largest units at most", () => {
  const expected = [
    [59, "59 s"],
    [59.4, "59 s"],
    [59.5, "1 min"],
    [MINUTE, "1 min"],
    [HOUR - 1, "59 min"],
    [HOUR, "1 h"],
    [HOUR + MINUTE - 1, "1 h"],
    [HOUR + MINUTE, "1 h 1 min"],
    [DAY - 1, "23 h 59 min"],
    [DAY, "1 d"],
    [DAY + HOUR - 1, "1 d"],
    [DAY + HOUR, "1 d 1 h"],
    [7 * DAY - 1, "6 d 23 h"],
    [7 * DAY + HOUR, "7 d"],
    [400 * DAY, "400 d"],
  ];
  for (const [seconds, text] of expected) assert.equal(plain(duration(seconds)), text, String(seconds));
});

test("a duration is never negative: the reader's clock may be behind", () => {
  assert.equal(plain(duration(-1)), "0 s");
  assert.equal(plain(ageText("2026-07-01T00:00:10Z", Date.parse("2026-07-01T00:00:00Z"))), "0 s ago");
});

test("an age is counted from the server's time", () => {
  assert.equal(plain(ageText("2026-07-01T00:00:00.250Z", Date.parse("2026-07-01T00:02:59Z"))), "2 min ago");
});

test("times in a sentence are shown in the reader's time zone, and all else stays", () => {
  const sentence = "no poll since 2026-07-01T22:30:05.123Z; before: 2026-01-01T00:00:00Z, on 2026-07-01";
  assert.equal(
    withLocalTimes(sentence),
    "no poll since 2 Jul 2026, 00:30:05; before: 1 Jan 2026, 01:00:00, on 2026-07-01",
  );
  assert.equal(withLocalTimes("connection refused"), "connection refused");
});

test("a day has the same clock times on both sides of a change to summer time", () => {
  assert.equal(dateTimeText(Date.parse("2026-03-29T00:59:59Z")), "29 Mar 2026, 01:59:59");
  assert.equal(dateTimeText(Date.parse("2026-03-29T01:00:00Z")), "29 Mar 2026, 03:00:00");
});
