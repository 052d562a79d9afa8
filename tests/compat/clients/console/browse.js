// Clicks through every page of the console in a headless browser, while others produce and consume.
//
//     node browse.js PLAYWRIGHT BROWSER CONSOLE-URL PICTURES-FOLDER
//
// The broker has: `orders` (JSON values, a header on each), `bytes` (values that are no text), many
// topics `many-...`, a group `readers` with one member that is behind, traffic on `traffic`. Prints a
// line of JSON for each step: {"name", "failure": text or null, "ms"}.
"use strict";

const [, , playwrightFolder, browserPath, base, pictures] = process.argv;
const { chromium } = require(playwrightFolder);

const STEP_TIMEOUT_MS = 90_000;
// What a page may take until it shows what it is for; a machine that is busy for a moment gets further tries.
const PAGE_MS_MAX = 200;
const TRIES_MAX = 5;
let page;
const problems = [];
const times = {};
const texts = {};

function expect(condition, what) {
  if (!condition) throw new Error(what);
}

async function step(name, act) {
  const started = Date.now();
  let failure = null;
  try {
    await act();
  } catch (error) {
    failure = `${error.message}`.split("\n").slice(0, 4).join(" | ");
  }
  console.log(JSON.stringify({ name, failure, ms: Date.now() - started }));
}

// Goes to a page by its address and waits until it shows `text`; how long the page took is noted, at best.
async function open(hash, text) {
  await page.evaluate(() => { location.hash = "#/nowhere"; });
  await page.getByRole("heading", { name: "There is no such page" }).waitFor();
  const took = await page.evaluate(([target, wanted]) => new Promise((resolve, reject) => {
    const started = performance.now();
    const look = () => {
      if (document.getElementById("main").textContent.includes(wanted)) resolve(performance.now() - started);
      else if (performance.now() - started > 20_000) reject(new Error(`${target} never shows ${wanted}: ${document.body.innerText.slice(0, 400)}`));
      else setTimeout(look, 2);
    };
    location.hash = target;
    look();
  }), [hash, text]);
  if (!text) return;
  times[hash] = Math.min(times[hash] ?? Infinity, Math.round(took));
  texts[hash] = text;
}

const rows = () => page.locator("tbody tr");
const picture = (name) => page.screenshot({ path: `${pictures}/${name}.png`, fullPage: false });
const said = (text) => page.getByRole("status").filter({ hasText: text }).waitFor();

async function main() {
  const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-gpu"] });
  page = await browser.newPage({ viewport: { width: 1280, height: 800 }, colorScheme: "light" });
  page.setDefaultTimeout(STEP_TIMEOUT_MS);
  let isRefusalExpected = false;
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !isRefusalExpected) problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(error.message));

  await step("the port's root leads to the overview, which shows the traffic", async () => {
    await page.goto(base);
    await page.getByRole("heading", { name: "Overview" }).waitFor();
    await page.waitForFunction(() => {
      const tile = [...document.querySelectorAll("dt")].find((one) => one.textContent === "Records in a second");
      return tile && Number(tile.nextSibling.textContent.replaceAll(",", "")) > 10;
    });
    await page.waitForFunction(() => document.querySelectorAll("polyline")[0].getAttribute("points").split(" ").length > 5);
    expect(page.url().includes("/console/"), `the address is ${page.url()}`);
    await picture("overview");
  });
  await step("topics are listed, turned by pages and searched", async () => {
    await open("#/topics", "1 to 100");
    expect((await rows().count()) === 100, `${await rows().count()} rows`);
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("101 to 200").waitFor();
    await page.getByRole("button", { name: "Back" }).click();
    await page.getByText("1 to 100").waitFor();
    await page.getByLabel("Name contains").fill("orders");
    await page.keyboard.press("Enter");
    await page.getByText("1 topic, 3 partitions").waitFor();
    await picture("topics");
    await page.getByRole("link", { name: "orders", exact: true }).click();
    await page.getByRole("heading", { name: "orders" }).waitFor();
  });
  await step("a topic shows its partitions and settings", async () => {
    await open("#/topics/orders", "retention.ms");
    const cells = await rows().first().locator("td").allTextContents();
    await picture("topic");
    expect(cells.length === 5 && cells[1] === "1" && Number(cells[4]) > 0, `the first partition is ${cells}`);
  });
  await step("records are shown as JSON, with headers, newest first", async () => {
    await open("#/topics/orders/messages", "\"amount\"");
    const values = await rows().first().locator("pre").allTextContents();
    expect(values.some((value) => value.includes('{\n  "amount": 59')), `the newest is ${values}`);
    expect(await rows().first().getByText("source:").count() === 1, "it has no header");
    await picture("messages");
  });
  await step("records are found by text, by offset and by time, and read on", async () => {
    await page.getByLabel("Key or value contains").fill("customer 7\"");
    await page.getByLabel("Where").selectOption("earliest");
    await page.getByRole("button", { name: "Look" }).click();
    await page.getByText("1 record of 60 looked at").waitFor();
    await page.getByLabel("Key or value contains").fill("");
    await page.getByLabel("How many").fill("7");
    await page.getByRole("button", { name: "Look" }).click();
    await page.getByText("7 records of").waitFor();
    const first = await rows().first().textContent();
    await page.getByRole("button", { name: "More" }).click();
    await page.waitForFunction((before) => document.querySelector("tbody tr").textContent !== before, first);
    await page.getByLabel("Where").selectOption("offset");
    await page.getByLabel("Partition").fill("1");
    await page.getByLabel("Offset or time").fill("3");
    await page.getByRole("button", { name: "Look" }).click();
    await page.waitForFunction(() => document.querySelector("tbody td:nth-child(2)").textContent === "3");
    await page.getByLabel("Where").selectOption("time");
    await page.getByLabel("Offset or time").fill("nonsense");
    await page.getByRole("button", { name: "Look" }).click();
    await said("a time is written as");
    await page.getByLabel("Offset or time").fill("2020-01-01");
    await page.getByRole("button", { name: "Look" }).click();
    await page.waitForFunction(() => document.querySelector("tbody td:nth-child(2)").textContent === "0");
  });
  await step("bytes that are no text are shown as hex, and text as hex where that is asked for", async () => {
    await open("#/topics/bytes/messages", "ff 00 fe");
    await open("#/topics/orders/messages", "\"amount\"");
    await page.getByLabel("Shown as").selectOption("hex");
    await page.getByText("7b 22 61 6d").first().waitFor();
  });
  await step("a record is sent and seen", async () => {
    await open("#/topics/orders/messages", "\"amount\"");
    await page.getByLabel("Key", { exact: true }).fill("by hand");
    await page.getByLabel("Value", { exact: true }).fill("sent from the console");
    await page.getByRole("button", { name: "Send" }).click();
    await said("Sent: partition");
    await rows().first().getByText("sent from the console").waitFor();
  });
  await step("groups show members and how far they are behind", async () => {
    await open("#/groups", "readers");
    await page.getByRole("link", { name: "readers" }).click();
    await page.getByText("console-reader").first().waitFor();
    const lag = page.locator("dt", { hasText: "Lag" }).locator("xpath=following-sibling::dd");
    expect(Number((await lag.textContent()).replaceAll(",", "")) >= 60, `the lag is ${await lag.textContent()}`);
    await picture("group");
    await open("#/groups/readers", "console-reader");
  });
  await step("shards, the disk and settings are shown", async () => {
    await open("#/shards", "Driver:");
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length >= 1);
    await picture("shards");
    await open("#/settings", "log.segment.bytes");
    await page.getByLabel("Name contains").fill("auto.create.topics");
    const found = await rows().locator("td:first-child").allTextContents();
    expect(found.includes("auto.create.topics.enable") && found.length < 10, `the settings are ${found}`);
  });
  await step("slow requests show where their time went", async () => {
    await open("#/slow", "Produce v");
    const bars = page.locator("tbody svg[role=img]");
    expect((await bars.count()) === (await rows().count()), `${await bars.count()} bars in ${await rows().count()} rows`);
    const told = await bars.first().getAttribute("aria-label");
    expect(/^(read|queue|hop|append|write|sync|log_read|handle|send)\s[\d.]+\s(µs|ms|s)/.test(told), `the first bar says ${told}`);
    const widths = await bars.first().locator("rect").evaluateAll((all) => all.map((one) => Number(one.getAttribute("width"))));
    const width = widths.reduce((sum, one) => sum + one, 0);
    expect(Math.abs(width - 100) < 1, `the slowest is ${width} wide`);
    const colours = await page.locator(".legend rect").evaluateAll((all) => new Set(all.map((one) => getComputedStyle(one).fill)).size);
    expect(colours === 9, `${colours} colours`);
    await picture("slow");
  });
  await step("a topic is made, and deleted only by its name", async () => {
    await open("#/topics", "1 to 100");
    await page.getByLabel("Name", { exact: true }).fill("by-hand");
    await page.getByLabel("Partitions").fill("2");
    await page.getByRole("button", { name: "Make the topic" }).click();
    await said("by-hand is made");
    await open("#/topics/by-hand", "2 partitions");
    delete times["#/topics/by-hand"]; // it is about to go
    const typed = page.getByLabel("The topic's name, to be sure");
    await typed.fill("other");
    await page.getByRole("button", { name: "Delete the topic" }).click();
    await said("nothing was deleted");
    await typed.fill("by-hand");
    await page.getByRole("button", { name: "Delete the topic" }).click();
    await page.getByRole("heading", { name: "Topics" }).waitFor();
  });
  await step("what is refused is told in one line", async () => {
    isRefusalExpected = true;
    await page.evaluate(() => { location.hash = "#/topics/not-there"; });
    await said("UnknownTopicOrPartition");
    isRefusalExpected = false;
  });
  await step("the keyboard alone leads to the content and from page to page", async () => {
    await open("#/overview", "Records in a second");
    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press("Tab");
    expect((await page.evaluate(() => document.activeElement.className)) === "skip", "the first stop is not the way to the content");
    await page.keyboard.press("Enter");
    expect((await page.evaluate(() => document.activeElement.id)) === "main", "it does not lead to the content");
    await page.getByRole("link", { name: "Groups" }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Groups" }).waitFor();
    const current = await page.locator("nav a[aria-current=page]").allTextContents();
    expect(current.join() === "Groups", `the current page is ${current}`);
    const unnamed = await page.evaluate(() => [...document.querySelectorAll("input, select, textarea")].filter((one) => !one.labels.length).length);
    expect(unnamed === 0, `${unnamed} fields have no name`);
  });
  await step(`every page is there within ${PAGE_MS_MAX} ms`, async () => {
    for (const hash of Object.keys(times)) {
      for (let tries = 1; times[hash] > PAGE_MS_MAX && tries < TRIES_MAX; tries += 1) await open(hash, texts[hash]);
    }
    const slow = Object.entries(times).filter(([, ms]) => ms > PAGE_MS_MAX);
    expect(slow.length === 0 && Object.keys(times).length > 8, `${slow.map(([hash, ms]) => `${hash} took ${ms} ms`).join(", ")}`);
  });
  await step("it is dark where the browser is", async () => {
    await page.emulateMedia({ colorScheme: "dark" });
    await open("#/overview", "Records in a second");
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    expect(ground === "rgb(22, 24, 28)", `the ground is ${ground}`);
    await page.waitForTimeout(3000);
    await picture("overview-dark");
    for (const [name, hash] of [["topics", "#/topics"], ["messages", "#/topics/orders/messages"], ["slow", "#/slow"]]) {
      await open(hash, texts[hash]);
      await picture(`${name}-dark`);
    }
  });
  await step("a narrow window needs no scrolling sideways", async () => {
    await page.setViewportSize({ width: 400, height: 800 });
    for (const hash of ["#/overview", "#/topics", "#/slow", "#/settings"]) {
      await open(hash, "");
      await page.waitForTimeout(300);
      const [inside, outside] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      expect(inside <= outside, `${hash} is ${inside} wide`);
    }
  });
  await step("the browser has nothing to complain of", async () => {
    expect(problems.length === 0, problems.join(" | "));
  });
  console.log(JSON.stringify({ times }));
  await browser.close();
}

main().catch((error) => {
  console.log(JSON.stringify({ name: "the browser", failure: error.message.split("\n")[0], ms: 0 }));
  process.exit(1);
});
