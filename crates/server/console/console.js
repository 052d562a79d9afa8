// The console: one page for each address behind the #. All that comes from the broker is put in as
// text, never as markup.
"use strict";

const main = document.getElementById("main");
const statusLine = document.getElementById("status");
const SAMPLE_MS = 1000;
const SAMPLES_MAX = 120;
const SAMPLES_SHOWN_MIN = 30;
const ROWS = 100;

let stopPage = () => {};
let pageNumber = 0;
let canChange = false;

// --- building blocks

function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function say(text, isBad = false) {
  statusLine.textContent = text;
  statusLine.classList.toggle("bad", isBad);
}

const link = (to, text) => el("a", { href: `#/${to}` }, text);
const path = (...parts) => parts.map(encodeURIComponent).join("/");
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const counted = (count, one) => `${whole.format(count)} ${one}${count === 1 ? "" : "s"}`;
const number = (value) => (value === null || value === undefined ? "–" : whole.format(value));

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${value.toFixed(value < 10 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}

const milliseconds = (seconds) => (Number.isFinite(seconds) ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 2 : 1)} ms` : "–");

// `columns`: [heading, cell of a row, class]
function table(caption, columns, rows) {
  const head = columns.map(([heading, , kind]) => el("th", { scope: "col", class: kind }, heading));
  const body = rows.map((row) => el("tr", {}, columns.map(([, cell, kind]) => el("td", { class: kind }, cell(row)))));
  return el("div", { class: "table" }, el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
}

function tiles(pairs) {
  return el("dl", { class: "tiles" }, pairs.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
}

function field(label, input, isInline = false) {
  return el("label", { class: isInline ? "inline" : null }, isInline ? [input, label] : [label, input]);
}

// --- asking

async function ask(what, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return answered(await fetch(`api/${what}?${query}`));
}

async function change(what, body) {
  return answered(await fetch(`api/${what}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }));
}

async function answered(response) {
  const answer = await response.json().catch(() => ({ error: `the answer is no JSON (${response.status})` }));
  if (!response.ok) throw new Error(answer.error || `status ${response.status}`);
  return answer;
}

// Runs what a page, a form or a button asks for, and says how it went, unless another page is shown by then.
async function attempt(act, done = () => "") {
  const page = pageNumber;
  const tell = (text, isBad) => { if (page === pageNumber) say(text, isBad); };
  try {
    const result = await act();
    tell(done(result));
    return result;
  } catch (error) {
    tell(error.message, true);
    return null;
  }
}

// Again and again while the page is shown and looked at.
function repeat(ms, act) {
  let isOver = false;
  let timer = 0;
  const round = async () => {
    if (!document.hidden) await attempt(act);
    if (!isOver) timer = setTimeout(round, ms);
  };
  round();
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}

// --- metrics

// The sum over all labels.
function sum(metrics, name, label = "") {
  let total = 0;
  for (const [key, value] of Object.entries(metrics)) {
    if ((key === name || key.startsWith(`${name}{`)) && key.includes(label)) total += value;
  }
  return total;
}

class Samples {
  constructor() {
    this.all = [];
  }

  async take() {
    const answer = await ask("overview");
    canChange = answer.can_change;
    document.getElementById("where").textContent = `${answer.version} at ${answer.address}`;
    this.all.push({ at: performance.now(), metrics: answer.metrics });
    if (this.all.length > SAMPLES_MAX) this.all.shift();
    return answer.metrics;
  }

  // For each pair of neighbours.
  series(figure) {
    return this.all.slice(1).map((sample, index) => {
      const before = this.all[index];
      return figure((name, label) => sum(sample.metrics, name, label) - sum(before.metrics, name, label), (sample.at - before.at) / 1000);
    });
  }
}

const samples = new Samples();

const FIGURES = {
  recordsIn: (grown, seconds) => grown("kafka_server_brokertopicmetrics_messagesin_total") / seconds,
  bytesIn: (grown, seconds) => grown("kafka_server_brokertopicmetrics_bytesin_total") / seconds,
  bytesOut: (grown, seconds) => grown("kafka_server_brokertopicmetrics_bytesout_total") / seconds,
  requests: (grown, seconds) => grown("kafka_network_requestmetrics_requests_total") / seconds,
  produce: (grown) => grown("odradek_request_seconds_sum", 'request="Produce"') / grown("odradek_request_seconds_count", 'request="Produce"'),
  sync: (grown) => grown("odradek_file_sync_seconds_sum") / grown("odradek_file_sync_seconds_count"),
};

// Lines over the last half a minute, and up to two where so much is known; `lines`: [name, values].
function plot(title, lines, shown) {
  const all = lines.flatMap(([, values]) => values).filter(Number.isFinite);
  const found = Math.max(...all, 0);
  const most = found || 1;
  const span = Math.max(SAMPLES_SHOWN_MIN, ...lines.map(([, values]) => values.length));
  const over = `${title}, last ${Math.round((span * SAMPLE_MS) / 1000)} s${found ? `, most ${shown(found)}` : ""}`;
  const drawn = svg("svg", { viewBox: "0 0 120 60", preserveAspectRatio: "none", role: "img" });
  drawn.append(svg("line", { class: "axis", x1: 0, x2: 120, y1: 59.5, y2: 59.5 }));
  const told = [];
  lines.forEach(([name, values], index) => {
    const kind = index === 0 ? "first" : "second";
    const first = span - values.length;
    const points = values.map((value, at) => `${((first + at + 1) / span) * 120},${58 - ((Number.isFinite(value) ? value : 0) / most) * 54}`);
    drawn.append(svg("polyline", { class: kind, points: points.join(" ") }));
    told.push(el("span", { class: kind }, `${name} ${shown(values.at(-1) ?? 0)} `));
  });
  drawn.setAttribute("aria-label", `${over}: ${told.map((one) => one.textContent.trim()).join(", ")}`);
  return el("figure", {}, el("figcaption", {}, `${over}: `, told), drawn);
}

// --- pages

function overview(page) {
  const shown = el("div");
  page.append(el("h1", {}, "Overview"), shown);
  return repeat(SAMPLE_MS, async () => {
    const metrics = await samples.take();
    const last = (figure) => samples.series(figure).at(-1) ?? 0;
    shown.replaceChildren(
      tiles([
        ["Records in a second", number(last(FIGURES.recordsIn))],
        ["Bytes in a second", bytes(last(FIGURES.bytesIn))],
        ["Bytes out a second", bytes(last(FIGURES.bytesOut))],
        ["Requests a second", number(last(FIGURES.requests))],
        ["Topics", number(sum(metrics, "kafka_controller_kafkacontroller_globaltopiccount"))],
        ["Partitions", number(sum(metrics, "kafka_controller_kafkacontroller_globalpartitioncount"))],
        ["Offline partitions", number(sum(metrics, "kafka_controller_kafkacontroller_offlinepartitionscount"))],
        ["Connections", number(sum(metrics, "kafka_server_socket_server_metrics_connection_count"))],
        ["Memory", bytes(sum(metrics, "process_resident_memory_bytes"))],
        ["Open files", number(sum(metrics, "process_open_fds"))],
      ]),
      el("div", { class: "plots" },
        plot("Throughput a second", [["in", samples.series(FIGURES.bytesIn)], ["out", samples.series(FIGURES.bytesOut)]], bytes),
        plot("Mean time", [["produce", samples.series(FIGURES.produce)], ["fdatasync", samples.series(FIGURES.sync)]], milliseconds)),
    );
  });
}

function shards(page) {
  const shown = el("div");
  page.append(el("h1", {}, "Shards and disk"), shown);
  return repeat(SAMPLE_MS, async () => {
    const metrics = await samples.take();
    const [before, now] = samples.all.slice(-2);
    const seconds = now ? (now.at - before.at) / 1000 : 0;
    const names = Object.keys(metrics).map((key) => /^odradek_shard_cpu_seconds_total\{shard="(\d+)"\}$/.exec(key)).filter(Boolean).map((found) => found[1]);
    const of = (shard, name) => sum(metrics, name, `shard="${shard}"`);
    const grown = (shard, name) => (now ? of(shard, name) - sum(before.metrics, name, `shard="${shard}"`) : 0);
    const rate = (shard, name) => (seconds ? grown(shard, name) / seconds : 0);
    const driver = Object.keys(metrics).map((key) => /^odradek_driver_info\{driver="(\w+)"\}/.exec(key)).find(Boolean);
    shown.replaceChildren(
      tiles([
        ["Disk free", bytes(sum(metrics, "odradek_disk_free_bytes"))],
        ["Disk in all", bytes(sum(metrics, "odradek_disk_bytes"))],
        ["Partitions given up", number(sum(metrics, "kafka_server_replicamanager_offlinereplicacount"))],
      ]),
      el("p", {}, `Driver: ${driver ? driver[1] : "unknown"}. One shard is one thread on one core.`),
      table("Shards, a second", [
        ["Shard", (shard) => shard],
        ["Busy", (shard) => `${(rate(shard, "odradek_shard_cpu_seconds_total") * 100).toFixed(0)} %`, "number"],
        ["Received", (shard) => bytes(rate(shard, "odradek_bytes_received_total")), "number"],
        ["Sent", (shard) => bytes(rate(shard, "odradek_bytes_sent_total")), "number"],
        ["fdatasync", (shard) => number(rate(shard, "odradek_file_syncs_total")), "number"],
        ["Mean fdatasync", (shard) => milliseconds(grown(shard, "odradek_file_sync_seconds_sum") / grown(shard, "odradek_file_sync_seconds_count")), "number"],
        ["Held for consumers", (shard) => bytes(of(shard, "odradek_tail_bytes")), "number"],
      ], names));
  });
}

// A list that is searched and turned by pages.
function list(page, what, caption, columns, more = null) {
  const search = el("input", { type: "search", name: "search" });
  const internal = el("input", { type: "checkbox" });
  const shown = el("div");
  let from = 0;
  const show = () => attempt(async () => {
    const answer = await ask(what, { search: search.value, from, count: ROWS, internal: internal.checked });
    const rows = answer[what];
    const turn = (text, by, can) => el("button", { type: "button", disabled: !can, click: () => { from += by; show(); } }, text);
    shown.replaceChildren(
      table(`${caption(answer)}; ${rows.length ? from + 1 : 0} to ${from + rows.length}`, columns, rows),
      el("form", {}, turn("Back", -ROWS, from > 0), turn("Next", ROWS, from + rows.length < answer.count)));
  });
  const searching = el("form", { submit: (event) => { event.preventDefault(); from = 0; show(); } },
    field("Name contains", search), what === "topics" ? field("Kafka's own, too", internal, true) : null, el("button", {}, "Search"));
  page.append(searching, shown);
  if (more) page.append(more(show));
  show();
}

function topics(page) {
  page.append(el("h1", {}, "Topics"));
  list(page, "topics", (answer) => `${counted(answer.count, "topic")}, ${counted(answer.partitions, "partition")}`, [
    ["Topic", (topic) => link(path("topics", topic.name), topic.name), "text"],
    ["Partitions", (topic) => number(topic.partitions), "number"],
    ["Records", (topic) => link(path("topics", topic.name, "messages"), "look")],
  ], (show) => {
    const name = el("input", { name: "name", required: true });
    const count = el("input", { name: "partitions", type: "number", min: 1, placeholder: "the broker's" });
    const form = el("form", {
      submit: async (event) => {
        event.preventDefault();
        const body = { name: name.value, partitions: count.value ? Number(count.value) : null };
        if (await attempt(() => change("create", body), (made) => `${made.created} is made`)) {
          const said = statusLine.textContent;
          await show();
          say(said);
        }
      },
    }, field("Name", name), field("Partitions", count), el("button", {}, "Make the topic"));
    return changing([el("h2", {}, "New topic"), form]);
  });
}

// What is there only where the console may change things.
function changing(children) {
  const place = el("section", { hidden: true }, children);
  const known = samples.all.length ? Promise.resolve() : samples.take();
  known.then(() => { place.hidden = !canChange; }).catch((error) => say(error.message, true));
  return place;
}

const SETTINGS = [
  ["Setting", (one) => one.name, "text"],
  ["Value", (one) => (one.sensitive ? "(not shown)" : one.value ?? ""), "text"],
  ["From", (one) => one.source],
  ["What it is", (one) => el("span", { class: "quiet" }, (one.documentation || "").replace(/<[^>]*>/g, "").slice(0, 220)), "text"],
];

function topic(page, name) {
  page.append(el("h1", {}, name), el("p", {}, link(path("topics", name, "messages"), "Records of this topic")));
  const shown = el("div");
  page.append(shown);
  attempt(async () => {
    const answer = await ask("topic", { name, count: ROWS });
    shown.replaceChildren(
      table(`${counted(answer.count, "partition")}${answer.count > answer.partitions.length ? `, the first ${answer.partitions.length}` : ""}`, [
        ["Partition", (one) => one.partition, "number"],
        ["Leader", (one) => (one.leader < 0 ? "none" : one.leader), "number"],
        ["First offset", (one) => number(one.start), "number"],
        ["End offset", (one) => number(one.end), "number"],
        ["Records", (one) => number(one.end === null ? null : one.end - one.start), "number"],
      ], answer.partitions),
      el("h2", {}, "Settings"), table(counted(answer.settings.length, "setting"), SETTINGS, answer.settings));
  });
  const typed = el("input", { name: "name", placeholder: name, required: true });
  const form = el("form", {
    submit: async (event) => {
      event.preventDefault();
      if (typed.value !== name) { say("The name is another one: nothing was deleted", true); return; }
      if (await attempt(() => change("delete", { name }), (done) => `${done.deleted} is deleted`)) location.hash = "#/topics";
    },
  }, field("The topic's name, to be sure", typed), el("button", { class: "bad" }, "Delete the topic and all that is in it"));
  page.append(changing([el("h2", {}, "Delete"), form]));
}

function decode(part) {
  const raw = atob(part.base64);
  return Uint8Array.from(raw, (character) => character.charCodeAt(0));
}

// Bytes as people want them: JSON, text, or hex where they are neither.
function readable(part, as) {
  if (part === null) return el("span", { class: "quiet" }, "null");
  const content = decode(part);
  const rest = part.bytes > content.length ? `\n… ${number(part.bytes - content.length)} bytes more` : "";
  const hex = () => [...content].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    return el("pre", {}, hex() + rest);
  }
  if (as === "hex") return el("pre", {}, hex() + rest);
  if (as !== "text") {
    try {
      const parsed = JSON.parse(text);
      // Numbers beyond what a script holds stay as they were sent.
      if (typeof parsed === "object" && parsed !== null && !/\d{16,}/.test(text)) text = JSON.stringify(parsed, null, 2);
    } catch {
      // Text it is.
    }
  }
  return el("pre", {}, text + rest);
}

function messages(page, name) {
  const partition = el("input", { name: "partition", type: "number", min: 0, placeholder: "all" });
  const where = el("select", { name: "where" }, [["latest", "the newest"], ["earliest", "the oldest"], ["offset", "from an offset"], ["time", "from a time"]].map(([value, text]) => el("option", { value }, text)));
  const at = el("input", { name: "at", size: 24, placeholder: "12345, or 2026-11-27 12:00" });
  const search = el("input", { type: "search", name: "search" });
  const count = el("input", { name: "count", type: "number", min: 1, max: 500, value: 50 });
  const as = el("select", { name: "as" }, ["JSON", "text", "hex"].map((kind) => el("option", { value: kind }, kind)));
  const committed = el("input", { name: "committed", type: "checkbox" });
  const shown = el("div");
  let last = null;

  const from = () => {
    if (where.value === "offset") return at.value.trim();
    if (where.value !== "time") return where.value;
    const time = Date.parse(at.value);
    if (Number.isNaN(time)) throw new Error("a time is written as 2026-11-27 12:00");
    return `@${time}`;
  };
  const draw = () => {
    if (!last) return;
    shown.replaceChildren(
      table(`${counted(last.records.length, "record")} of ${number(last.scanned)} looked at`, [
        ["Partition", (one) => one.partition, "number"],
        ["Offset", (one) => number(one.offset), "number"],
        ["Time", (one) => (one.timestamp < 0 ? "–" : new Date(one.timestamp).toISOString().replace("T", " ").replace("Z", ""))],
        ["Key", (one) => readable(one.key, as.value), "text"],
        ["Value", (one) => readable(one.value, as.value), "text"],
        ["Headers", (one) => one.headers.map((header) => el("div", {}, el("span", { class: "quiet" }, `${header.name}: `), readable(header.value, as.value))), "text"],
      ], last.records));
    if (!last.is_end && where.value !== "latest") shown.append(el("button", { type: "button", click: () => show(last.next) }, "More"));
  };
  const show = (positions) => attempt(async () => {
    say("Reading …");
    last = await ask("messages", {
      topic: name, partition: positions ? "" : partition.value, from: positions || from(), count: count.value,
      search: search.value, committed: committed.checked,
    });
    draw();
  });
  as.addEventListener("change", draw);
  page.append(
    el("h1", {}, "Records of ", link(path("topics", name), name)),
    el("form", { submit: (event) => { event.preventDefault(); show(null); } },
      field("Partition", partition), field("Where", where), field("Offset or time", at), field("Key or value contains", search),
      field("How many", count), field("Shown as", as), field("Committed only", committed, true), el("button", {}, "Look")),
    shown);
  const key = el("input", { name: "key" });
  const value = el("textarea", { name: "value", required: true });
  const send = el("form", {
    submit: async (event) => {
      event.preventDefault();
      const body = { topic: name, partition: partition.value ? Number(partition.value) : null, key: key.value || null, value: value.value };
      const sent = await attempt(() => change("produce", body), (done) => `Sent: partition ${done.partition}, offset ${done.offset}`);
      if (!sent) return;
      const said = statusLine.textContent;
      await show(null);
      say(said);
    },
  }, field("Key", key), field("Value", value), el("button", {}, "Send"));
  page.append(changing([el("h2", {}, "Send a record"), send]));
  show(null);
}

function groups(page) {
  page.append(el("h1", {}, "Groups"));
  list(page, "groups", (answer) => counted(answer.count, "group"), [
    ["Group", (group) => link(path("groups", group.name), group.name), "text"],
    ["State", (group) => group.state],
    ["Protocol", (group) => group.type],
  ]);
}

function group(page, name) {
  const shown = el("div");
  page.append(el("h1", {}, name), shown);
  return repeat(3 * SAMPLE_MS, async () => {
    const answer = await ask("group", { name });
    const assigned = (member) => member.assigned.map((one) => `${one.topic}: ${one.partitions.join(", ")}`).join("; ");
    shown.replaceChildren(
      tiles([["State", answer.state], ["Members", number(answer.members.length)], ["Lag", number(answer.lag)]]),
      el("h2", {}, "Members"),
      table(counted(answer.members.length, "member"), [
        ["Member", (one) => one.member, "text"], ["Instance", (one) => one.instance ?? ""], ["Client", (one) => one.client, "text"],
        ["Host", (one) => one.host], ["Reads", assigned, "text"],
      ], answer.members),
      el("h2", {}, "Offsets"),
      table(counted(answer.partitions.length, "partition"), [
        ["Topic", (one) => link(path("topics", one.topic), one.topic), "text"], ["Partition", (one) => one.partition, "number"],
        ["Committed", (one) => number(one.committed), "number"], ["End", (one) => number(one.end), "number"], ["Lag", (one) => number(one.lag), "number"],
      ], answer.partitions));
  });
}

function settings(page) {
  const search = el("input", { type: "search" });
  const shown = el("div");
  let all = [];
  const draw = () => {
    const rows = all.filter((one) => one.name.includes(search.value.trim()));
    shown.replaceChildren(table(`${rows.length} of ${all.length} settings`, SETTINGS, rows));
  };
  search.addEventListener("input", draw);
  page.append(el("h1", {}, "Settings of this broker"), el("form", { submit: (event) => event.preventDefault() }, field("Name contains", search)), shown);
  attempt(async () => {
    all = (await ask("settings")).settings;
    draw();
  });
}

// What requests are busy with, in order; what they were asked to wait for is not shown as a part.
const STAGES = {
  read: "read from the client", queue: "behind others", hop: "between shards", append: "into the log's memory", write: "into the file",
  sync: "onto the disk", log_read: "out of the log", handle: "all else", send: "to the client",
};

// With spaces that do not break.
function short(micros) {
  if (micros < 1000) return `${micros}\u00a0µs`;
  return micros < 1e6 ? `${(micros / 1000).toPrecision(3)}\u00a0ms` : `${(micros / 1e6).toFixed(2)}\u00a0s`;
}

function stagesOf(request) {
  const known = Object.keys(STAGES).map((stage) => [stage, request.stages_us[stage]]).filter(([, micros]) => micros > 0);
  return known.sort(([, one], [, other]) => other - one).map(([stage, micros]) => `${stage}\u00a0${short(micros)}`);
}

// As long as the request took beside the slowest of all.
function bar(request, most) {
  const drawn = svg("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": stagesOf(request).join(", ") });
  let at = 0;
  for (const stage of Object.keys(STAGES)) {
    const width = (request.stages_us[stage] / most) * 100;
    drawn.append(svg("rect", { class: `stage-${stage}`, x: at, width, y: 0, height: 10 }));
    at += width;
  }
  return drawn;
}

function about(request) {
  if (request.group !== null) return ["group ", link(path("groups", request.group), request.group)];
  if (request.topic === null) return "";
  const more = request.partitions > 1 ? ` and ${number(request.partitions - 1)} more` : "";
  return [link(path("topics", request.topic), request.topic), ` ${request.partition}${more}`];
}

function slow(page) {
  const legend = Object.entries(STAGES).map(([stage, what]) => {
    const sign = svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
    sign.append(svg("rect", { class: `stage-${stage}`, width: 10, height: 10 }));
    return el("li", {}, sign, `${stage}: ${what}`);
  });
  const shown = el("div");
  page.append(
    el("h1", {}, "Slow requests"),
    el("p", {}, "The slowest of the last minutes, by their time without what the client asked to wait for (pending)."),
    el("ul", { class: "legend" }, legend), shown);
  return repeat(5 * SAMPLE_MS, async () => {
    const answer = await ask("slow");
    const most = Math.max(1, ...answer.requests.map((one) => one.slow_us));
    shown.replaceChildren(table(counted(answer.requests.length, "request"), [
      ["Took", (one) => short(one.slow_us), "number"],
      ["Of that", (one) => bar(one, most)],
      ["Longest", (one) => stagesOf(one).slice(0, 2).join(", ")],
      ["Request", (one) => `${one.api} v${one.version}`],
      ["About", about, "text"],
      ["Client", (one) => one.client_id, "text"],
      ["Address", (one) => one.peer],
      ["Received", (one) => bytes(one.request_bytes), "number"],
      ["Sent", (one) => bytes(one.response_bytes), "number"],
      ["Pending", (one) => short(one.stages_us.pending), "number"],
      ["Ago", (one) => `${number(Math.max(0, (answer.now_ms - one.began_ms) / 1000))} s`, "number"],
    ], answer.requests));
  });
}

// --- from address to page

const PAGES = { overview, topics, groups, shards, slow, settings };

function go() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const [kind, name, part] = parts;
  stopPage();
  stopPage = () => {};
  pageNumber += 1;
  main.replaceChildren();
  say("");
  for (const one of document.querySelectorAll("nav a")) {
    if (one.getAttribute("href") === `#/${kind || "overview"}`) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  let stop;
  if (kind === "topics" && name) stop = part === "messages" ? messages(main, name) : topic(main, name);
  else if (kind === "groups" && name) stop = group(main, name);
  else if (Object.hasOwn(PAGES, kind || "overview")) stop = PAGES[kind || "overview"](main);
  else main.append(el("h1", {}, "There is no such page"), el("p", {}, link("overview", "To the overview")));
  if (typeof stop === "function") stopPage = stop;
  const heading = main.querySelector("h1");
  document.title = `${heading.textContent} – Odradek`;
  main.focus({ preventScroll: true });
}

window.addEventListener("hashchange", go);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
if (!samples.all.length && !/^#\/(overview|shards)?$/.test(location.hash || "#/")) attempt(() => samples.take());
go();
