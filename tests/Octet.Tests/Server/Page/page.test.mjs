// The page in a browser, against servers that PageTests starts: what people see, by mouse, keyboard and finger.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { after, afterEach, before, test } from "node:test";
import { chromium } from "playwright-core";

const { OCTET_URL: url, OCTET_KEYED_URL: keyedUrl, OCTET_KEY: key, CHROMIUM: executablePath, SCREENSHOT: screenshot } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const phone = { viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true };

let browser, context, noise;

before(async () => { browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] }); });
after(() => browser.close());
afterEach(async () => {
  await context.close();
  assert.deepEqual(noise, [], "the browser complained, or something was asked of another origin");
});

// Opens the page. What the browser complains of, and what is asked elsewhere, fails the test; refusals that a test wants are let through.
async function open({ address = url, refusals = [], routes = {}, ...device } = {}) {
  [context, noise] = [await browser.newContext({ locale: "en", ...device }), []];
  const page = await context.newPage();
  page.on("pageerror", error => noise.push(`${error}`));
  page.on("console", message => {
    if (message.type() === "error" && !refusals.some(text => message.text().includes(text))) {
      noise.push(message.text());
    }
  });
  page.on("request", request => {
    if (!request.url().startsWith(new URL(address).origin) && !request.url().startsWith("data:")) {
      noise.push(request.url());
    }
  });
  for (const [path, answer] of Object.entries(routes)) {
    await page.route(`**/${path}`, answer);
  }

  await page.goto(address);
  return page;
}

async function set(page, fields) {
  await page.getByText("Settings").click();
  for (const [label, value] of Object.entries(fields)) {
    await page.getByLabel(label).fill(value);
  }

  await page.getByText("Settings").click();
}

async function say(page, text) {
  await page.getByLabel("Message").fill(text);
  await page.keyboard.press("Enter");
}

// The last answer's notes, once it has ended.
async function ended(page) {
  await page.locator(".assistant").last().locator("small").waitFor();
  await page.getByRole("button", { name: "Send" }).waitFor();
  return page.locator(".assistant").last().locator("small").innerText();
}

async function until(condition, message) {
  for (let turn = 0; !await condition(); turn++) {
    assert.ok(turn < 1200, message);
    await new Promise(resolve => setTimeout(resolve, 25));
  }
}

const bodies = page => {
  const sent = [];
  page.on("request", request => request.method() === "POST" && sent.push(request.postDataJSON()));
  return sent;
};

// Has long texts generated, until what it returns is called.
function keepBusy(texts) {
  const end = new AbortController();
  const answer = fetch(new URL("v1/completions", url), {
    method: "POST", headers: { "Content-Type": "application/json" }, signal: end.signal,
    body: JSON.stringify({ prompt: "ROMEO:", n: texts, max_tokens: 2000, ignore_eos: true }),
  });
  return async () => {
    end.abort();
    await assert.rejects(answer, { name: "AbortError" });
  };
}

const number = text => Number(text.replaceAll(",", "").match(/[\d.]+/)?.[0] ?? NaN);
const figure = (page, id) => page.locator(`#${id}`).innerText();

test("an answer is seen to grow, and the next question has the conversation before it", async () => {
  const page = await open();
  const sent = bodies(page);
  const system = "Be brief and be bold. ".repeat(10).trim();
  await set(page, { "Token limit": "300", "System prompt": system, "Temperature": "0.5" });
  await say(page, "Who is there?");
  const [lengths, text] = [new Set(), page.locator(".assistant .text")];
  await until(async () => {
    lengths.add((await text.innerText()).length);
    return await page.locator(".assistant small").count();
  }, "the answer did not end");
  assert.ok(lengths.size >= 4, `the answer had the lengths ${[...lengths]}`);
  assert.match(await ended(page), /^300 tokens · first after .+ · [\d,]+ tokens\/s.* · cut at the token limit$/);

  const first = await page.locator(".assistant .text").evaluate(element => element.textContent);
  await say(page, "Speak on.");
  await page.locator(".assistant").nth(1).waitFor();
  assert.match(await ended(page), / · \d+ of \d+ prompt tokens from the cache/);
  assert.deepEqual(sent[1].messages, [
    { role: "system", content: system }, { role: "user", content: "Who is there?" },
    { role: "assistant", content: first }, { role: "user", content: "Speak on." },
  ]);
  assert.deepEqual([sent[1].temperature, sent[1].max_tokens, sent[1].stream], [0.5, 300, true]);

  await page.getByRole("button", { name: "Clear" }).click();
  assert.equal(await page.locator(".turn").count(), 0);
  await say(page, "Anew.");
  await ended(page);
  assert.deepEqual(sent[2].messages.map(message => message.role), ["system", "user"]);
});

test("the keyboard is enough", async () => {
  const page = await open();
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());

  // A browser gives the focus when it has drawn the page.
  await until(async () => await focused() === "message", "the message has no focus");
  await page.locator("#max-tokens").evaluate(field => { field.value = "1900"; });
  await page.keyboard.type("One");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("two");
  assert.equal(await page.getByLabel("Message").inputValue(), "One\ntwo");
  await page.keyboard.press("Enter");
  await until(async () => (await page.locator(".assistant .text").innerText()).length > 20, "nothing came");
  assert.equal(await page.locator("#send").innerText(), "Stop");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  assert.match(await ended(page), /stopped$/);
  assert.equal(await page.locator(".turn").count(), 2);

  const order = [];
  for (const step of ["Settings", "clear", "send"]) {
    await page.keyboard.press("Tab");
    order.push(await focused());
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(outline, "solid", `the focus is not seen at ${step}`);
  }

  assert.deepEqual(order, ["Settings", "clear", "send"]);
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.type("Be brief.");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "max-tokens");
  await page.keyboard.press("ControlOrMeta+a");
  await page.keyboard.type("4");
  await page.getByLabel("Message").focus();
  await page.keyboard.type("Three");
  await page.keyboard.press("Enter");
  await page.locator(".assistant").nth(1).waitFor();
  assert.match(await ended(page), /^4 tokens/);
  await page.locator("#clear").focus();
  await page.keyboard.press("Enter");
  assert.deepEqual([await focused(), await page.locator(".turn").count()], ["message", 0]);
});

test("the live view shows what runs", async () => {
  const page = await open();
  await page.getByRole("status").getByText("ready").waitFor();
  const points = await page.locator("#pace polyline").getAttribute("points");
  const end = keepBusy(4);
  await until(async () => {
    const figures = await Promise.all(["running", "rate", "kv-blocks"].map(id => figure(page, id)));
    return figures.every(text => number(text) > 0);
  }, "nothing was seen to run");
  assert.notEqual(await page.locator("#pace polyline").getAttribute("points"), points);
  await end();
  await until(async () => number(await figure(page, "running")) === 0, "what had ended was still seen to run");
  for (const row of ["ttft", "tpot"]) {
    const times = await page.locator(`#${row} td`).allInnerTexts();
    assert.equal(times.length, 3);
    times.forEach(time => assert.match(time, /^[\d.]+ m?s$/));
  }

  assert.equal(await figure(page, "kv-blocks"), "0 of 1,024 blocks");
  assert.match(await figure(page, "hit-tokens"), /^[\d,]+ of [\d,]+$/);
  assert.match(await figure(page, "groups"), /Group 0: 0 running, 0 waiting, KV 0 %\s+rank 0: cpu/);
  await page.locator("#live summary").click();
  assert.match(await figure(page, "digest"), /^\d+ tokens\/s · 0 running · 0 waiting$/);
});

test("states and groups are shown as the server tells them", async () => {
  let status = { model: "m", state: "loading", loaded: 0.42, generated_tokens: 0, ttft_seconds: {}, tpot_seconds: {} };
  const page = await open({
    routes: { status: route => status ? route.fulfill({ json: status }) : route.abort() }, refusals: ["ERR_FAILED"],
  });
  const state = text => page.getByRole("status").getByText(text, { exact: true }).waitFor();
  await state("loading 42 %");
  const devices = first => Array.from({ length: 4 }, (_, i) => `device ${first + i}`);
  const group = { running: 2, waiting: 1, kv_blocks: 100, used_kv_blocks: 25, lost: false };
  const groups = [{ ...group, devices: devices(0) }, { ...group, used_kv_blocks: 75, lost: true, devices: devices(4) }];
  status = {
    ...status, state: "draining", loaded: 1, prompt_tokens: 200, cached_tokens: 50, groups,
    ttft_seconds: { p50: 0.0123, p90: 1.5, p99: 75 },
  };
  await state("draining");
  const figures = await Promise.all(["running", "waiting", "kv", "hits"].map(id => figure(page, id)));
  assert.deepEqual(figures, ["4", "2", "50 %", "25 %"]);
  assert.equal(await page.getByRole("meter").getAttribute("aria-valuenow"), "50");
  assert.deepEqual(await page.locator("#ttft td").allInnerTexts(), ["12 ms", "1.50 s", "75.00 s"]);
  assert.equal(await page.getByText("rank 7: device 7").count(), 1);
  assert.equal(await page.getByText("Group 0: 2 running, 1 waiting, KV 25 %").count(), 1);
  assert.equal(await page.getByText("Group 1: lost").count(), 1);
  status = null;
  await state("unreachable");
});

for (const [name, width] of [["a phone", 390], ["a small phone", 320]]) {
  test(`${name} has room for everything`, async () => {
    const page = await open({ ...phone, viewport: { width, height: 780 } });
    await set(page, { "Token limit": "40" });
    await page.getByLabel("Message").fill(`A word: ${"long".repeat(60)}`);
    await page.getByRole("button", { name: "Send" }).tap();
    await ended(page);
    const fits = () => page.evaluate(() => document.documentElement.scrollHeight <= innerHeight
      && [...document.querySelectorAll("html, #log, aside")].every(element => element.scrollWidth <= element.clientWidth));
    assert.ok(await fits(), "it must be scrolled sideways");
    await page.locator("#live summary").tap();
    await page.getByText("Ranks").waitFor();
    assert.ok(await fits(), "the live view does not fit");
    for (const id of ["message", "send", "clear"]) {
      const box = await page.locator(`#${id}`).boundingBox();
      assert.ok(box.x >= 0 && box.x + box.width <= width && box.y + box.height <= 780, `${id} is beyond the edge`);
    }
  });
}

const dark = { colorScheme: "dark" };
for (const [name, device] of [["light", {}], ["dark", dark], ["on a phone", phone], ["on a phone, dark", { ...phone, ...dark }]]) {
  test(`${name}, everyone can read and reach it`, async () => {
    const page = await open({ ...device, refusals: ["400"] });
    await set(page, { "Token limit": "16" });
    await say(page, "Good morrow");
    await ended(page);
    await set(page, { "Token limit": "999999" });
    await say(page, "And then?");
    await page.locator(".problem").waitFor();
    await page.getByText("Settings").click();
    await page.locator("#live").evaluate(live => { live.open = true; });
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => node.html).join(" ")}`), []);
    const lightness = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor.match(/\d+/g)[0] / 255);
    assert.ok(device.colorScheme === "dark" ? lightness < 0.2 : lightness > 0.9, `the paper's lightness is ${lightness}`);
  });
}

test("nothing moves for who wants that", async () => {
  const page = await open({ reducedMotion: "reduce" });
  await say(page, "Go");
  await page.locator(".assistant[aria-busy=true]").waitFor();
  assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector(".assistant .text"), "::after").animationName), "none");
});

test("a key is asked for, kept in the tab, and sent", async () => {
  const page = await open({ address: keyedUrl, refusals: ["401"] });
  await set(page, { "Token limit": "4" });
  assert.equal(await page.locator("#key").isVisible(), false);
  await say(page, "Let me in");
  await page.getByText("No API key was sent").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "key");
  await page.keyboard.type("wrong");
  await page.keyboard.press("Enter");
  await page.getByText("The API key is not one of this server's.").waitFor();
  await page.keyboard.type(key);
  await page.keyboard.press("Enter");
  assert.match(await ended(page), /^4 tokens/);
  assert.deepEqual([await page.locator("#key").isVisible(), await page.locator(".problem").count()], [false, 0]);
  assert.deepEqual(await page.evaluate(() => [Object.values(sessionStorage), Object.keys(localStorage), document.cookie]), [[key], [], ""]);
  await page.reload();
  await say(page, "Again");
  await page.locator(".assistant .text:not(:empty)").waitFor();
});

test("text is text, and a refusal is said plainly and can be tried again", async () => {
  const page = await open({ refusals: ["400"] });
  const markup = "<img src=x onerror=alert(1)><b>bold</b>";
  await set(page, { "Token limit": "999999" });
  await say(page, markup);
  await page.getByText("context is 2048 tokens").waitFor();
  assert.equal(await page.locator(".user .text").innerText(), markup);
  assert.equal(await page.locator("#log img, #log b").count(), 0);
  await set(page, { "Token limit": "3" });
  await page.getByRole("button", { name: "Try again" }).click();
  assert.match(await ended(page), /^3 tokens/);
  assert.equal(await page.locator(".problem").count(), 0);
});

test("a stream that fails or is cut keeps its text and says so", async () => {
  const piece = `data: ${JSON.stringify({ choices: [{ delta: { content: "So far" }, finish_reason: null }] })}\n\n`;
  let body = `: ping\n\n${piece}data: {"error": {"message": "the device is lost"}}\n\n`;
  const page = await open({
    routes: { "chat/completions": route => body ? route.fulfill({ contentType: "text/event-stream", body }) : route.abort() },
    refusals: ["ERR_FAILED", "502"],
  });
  await say(page, "One");
  await page.getByText("The device is lost.").waitFor();
  assert.equal(await page.locator(".assistant .text").last().innerText(), "So far");
  body = piece;
  await say(page, "Two");
  await page.getByText("The connection was cut before the answer ended.").waitFor();
  assert.equal(await page.locator(".problem").count(), 1);
  body = null;
  await say(page, "Three");
  await page.getByText("The server cannot be reached.").waitFor();
  await page.route("**/chat/completions", route => route.fulfill({ status: 502, headers: { "Retry-After": "3" }, body: "<h1>Bad</h1>" }));
  await say(page, "Four");
  await page.getByText("The server answered 502 Bad Gateway. It can be asked again in 3 s.").waitFor();
});

test("it works behind a path prefix, with a slash at its end and without", async t => {
  const proxy = http.createServer((request, response) => {
    const path = request.url.replace(/^\/some\/model/, "");
    if (path === request.url) {
      response.writeHead(404).end();
      return;
    }

    request.pipe(http.request(new URL(path || "/", url), { method: request.method, headers: request.headers }, answer => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    }));
  });
  t.after(() => proxy.close());
  await new Promise(resolve => proxy.listen(0, "127.0.0.1", resolve));
  for (const path of ["/some/model/", "/some/model"]) {
    const page = await open({ address: `http://127.0.0.1:${proxy.address().port}${path}` });
    await page.getByRole("status").getByText("ready").waitFor();
    assert.match(await figure(page, "api"), /\/some\/model\/v1$/);
    await set(page, { "Token limit": "3" });
    await say(page, "Here");
    assert.match(await ended(page), /^3 tokens/);
    await context.close();
  }
});

test("a picture of it", { skip: screenshot ? false : "SCREENSHOT names no file" }, async () => {
  const page = await open({ viewport: { width: 1180, height: 800 } });
  await set(page, { "Token limit": "60", "Temperature": "0.7" });
  for (const text of ["What news from the court?", "And what says the king?"]) {
    await say(page, text);
    await page.locator(".user").getByText(text).waitFor();
    await ended(page);
  }

  const end = keepBusy(6);
  await until(async () => number(await figure(page, "running")) > 0 && number(await figure(page, "rate")) > 0, "nothing was seen to run");
  await new Promise(resolve => setTimeout(resolve, 8000));
  await page.screenshot({ path: screenshot });
  await end();
});
