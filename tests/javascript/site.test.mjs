import assert from "node:assert/strict";
import { test } from "node:test";

import { machinePage, sitePath, siteUrl, withQuery } from "../../machines_server/web/static/base/site.js";

test("a query leaves out what is unknown or empty, and repeats lists", () => {
  assert.equal(withQuery("/events", {}), "/events");
  assert.equal(withQuery("/events", { type: null, to: undefined, machine: "" }), "/events");
  assert.equal(withQuery("/events", { after: 0, tag: ["a", "b"] }), "/events?after=0&tag=a&tag=b");
  assert.equal(withQuery("/models", { model: "llama3.1:70b & more" }), "/models?model=llama3.1%3A70b+%26+more");
});

test("the name of a machine is one part of a path, whatever it contains", () => {
  assert.equal(machinePage("box"), "/machines/box");
  assert.equal(machinePage("a/b?c#d é"), "/machines/a%2Fb%3Fc%23d%20%C3%A9");
});

test("a path of the site goes below the path at which the site is, and back", () => {
  for (const path of ["/", "/models", "/machines/box"]) assert.equal(sitePath(siteUrl(path)), path);
  assert.equal(sitePath("/elsewhere"), null);
});
