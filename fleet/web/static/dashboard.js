// Asks the operator API and shows what it says. All of that is text: nothing of it is ever parsed as HTML.
"use strict";

const EVERY_MS = 2000;
const MAX_INSTANCES = 200; // more cards than this help nobody; `fleet status` lists them all
const MAX_EVENTS = 100;
const $ = (id) => document.getElementById(id);

let lastEvent = 0;
let lastGood = null;

function el(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((c) => c !== null && c !== undefined)); // strings become text nodes
  return node;
}

function age(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.floor(seconds);
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d`;
}

const usd = (value) => (value === null || value === undefined ? "price unknown" : `$${value.toFixed(2)}`);
const count = (value) => (value === null || value === undefined ? "?" : String(value));
const many = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const clock = (iso) => new Date(iso).toLocaleTimeString([], { hour12: false });

function bar(share, className = "bar") {
  const inner = el("i");
  inner.style.width = `${Math.min(100, Math.max(0, share * 100))}%`; // by script: the page's policy allows no style attribute
  return el("span", className, inner);
}

function amount(label, value, used, most, mostText) {
  const capped = most !== null && most !== undefined;
  const of = capped ? el("span", "dim", `of ${mostText}`) : el("span", "dim", "no limit");
  const share = most ? used / most : 1;
  const track = capped ? bar(share, share >= 0.9 ? "bar full" : "bar") : null;
  return el("div", "card", el("span", "dim", label), el("b", "", value), of, track);
}

function showMoney(b) {
  $("money").replaceChildren(
    amount("Instances", String(b.instances), b.instances, b.max_instances, String(b.max_instances)),
    amount("An hour, now", usd(b.usd_per_hour), b.usd_per_hour, b.max_usd_per_hour, usd(b.max_usd_per_hour)),
    el("div", "card", el("span", "dim", "Today (UTC)"), el("b", "", usd(b.usd_today))),
    el("div", "card", el("span", "dim", "This month"), el("b", "", usd(b.usd_month))),
  );
}

function showQueues(queues) {
  if (!queues.length) return $("queues").replaceChildren(el("p", "empty", "No queues in the fleet file."));
  const heads = [["Queue"], ["Waiting", 1], ["Oldest", 1], ["Running", 1], ["GPUs a task", 1], ["Resources"]];
  const rows = queues.map((q) => {
    const cells = [q.name, count(q.queued), age(q.oldest_wait_s), count(q.running), count(q.gpus_per_task), q.resources.join(", ")];
    return el("tr", "", ...cells.map((text, n) => {
      const cell = el("td", heads[n][1] ? "number" : "", el("span", "", text));
      cell.dataset.head = heads[n][0];
      return cell;
    }));
  });
  const head = el("tr", "", ...heads.map(([text, number]) => el("th", number ? "number" : "", text)));
  return $("queues").replaceChildren(el("table", "", el("thead", "", head), el("tbody", "", ...rows)));
}

function gpu(g) {
  const name = el("span", g.task ? "" : "dim", `GPU ${g.index}: ${g.task || "free"}`);
  name.title = `${g.model}, ${g.uuid}`;
  const known = g.util !== null && g.util !== undefined;
  return el("div", "gpu", name, bar(known ? g.util / 100 : 0), el("span", "percent", known ? `${Math.round(g.util)}%` : ""));
}

function instance(i) {
  const price = i.usd_per_hour === null ? "price unknown" : `${usd(i.usd_per_hour)}/h, ${usd(i.usd)} so far`;
  const facts = [i.resource, i.type, i.market, i.zone, i.gpus.length ? i.gpus[0].model : null].filter(Boolean).join(" · ");
  const idle = i.idle_s === null ? null : `idle ${age(i.idle_s)}`;
  const held = new Set(i.gpus.flatMap((g) => (g.task ? g.task.split(", ") : [])));
  const others = i.tasks.filter((task) => !held.has(task));
  return el(
    "article", "card",
    el("h3", "", el("span", "", i.id), el("span", `state ${i.state}`, i.state)),
    el("p", "facts", facts),
    el("p", "facts", [`${age(i.age_s)} old`, idle, price].filter(Boolean).join(" · ")),
    el("p", "why", i.reason),
    ...i.gpus.map(gpu),
    ...others.map((task) => el("div", "gpu", el("span", "", `CPU: ${task}`))),
  );
}

function showInstances(instances) {
  const shown = instances.slice(0, MAX_INSTANCES).map(instance);
  const more = instances.length - shown.length;
  if (more > 0) shown.push(el("p", "empty", `and ${more} more: fleet status lists them all`));
  if (!shown.length) shown.push(el("p", "empty", "No instances: nothing runs, nothing costs."));
  $("instances").replaceChildren(...shown);
}

function showStatus(s) {
  document.title = `fleet ${s.cluster}`;
  $("cluster").textContent = s.cluster;
  const said = s.server.ok === null ? "not asked yet" : s.server.ok ? "answers" : "does not answer";
  $("server").textContent = `${s.server.kind} server ${s.server.url}: ${said}`;
  $("server").className = s.server.ok === false ? "bad" : "";
  const gpus = s.instances.flatMap((i) => i.gpus);
  $("contact").className = "";
  const inUse = gpus.filter((g) => g.task).length;
  $("contact").textContent = `${gpus.length ? `${inUse} of ${many(gpus.length, "GPU")} in use` : "no GPUs"} · ${clock(s.at)}`;
  $("alerts").replaceChildren(...s.alerts.map((text) => el("p", "", text)));
  showMoney(s.budget);
  showQueues(s.queues);
  showInstances(s.instances);
  $("data").hidden = false;
  $("data").className = "";
}

function event(e) {
  const when = el("time", "", clock(e.at));
  when.dateTime = when.title = e.at;
  const why = e.reason && !e.text.includes(e.reason.text) ? ` (${e.reason.text})` : "";
  const whom = [e.task, e.instance].filter(Boolean).join(" on ");
  return el("li", "", when, el("span", "kind", e.kind), el("span", "text", whom ? el("b", "", `${whom} `) : null, e.text + why));
}

function showEvents(events) {
  const list = $("events");
  if (!events.length && !list.children.length) list.append(el("li", "empty", "Nothing has happened yet."));
  if (!events.length) return;
  lastEvent = events[events.length - 1].seq;
  list.querySelector(".empty")?.remove();
  list.prepend(...events.map(event).reverse()); // the newest on top
  while (list.children.length > MAX_EVENTS) list.lastChild.remove();
}

async function ask(path) {
  const token = sessionStorage.getItem("fleet-token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(10000) });
  const data = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(data.error), { status: answer.status });
  return data;
}

function showTrouble(error) {
  const since = lastGood ? `What is below is from ${clock(lastGood)}.` : "";
  const text = error.status ? error.message : `The dispatcher does not answer (${error.message}). ${since}`;
  $("login").hidden = error.status !== 401;
  $("contact").textContent = error.status === 401 ? "locked" : "no contact";
  $("contact").className = "bad";
  $("alerts").replaceChildren(...(error.status === 401 ? [] : [el("p", "bad", text)]));
  $("data").className = "stale";
  if (error.status === 401) $("data").hidden = true;
}

async function refresh() {
  try {
    const status = await ask("/api/v1/status");
    const { events } = await ask(`/api/v1/events?after=${lastEvent}&limit=${MAX_EVENTS}`);
    $("login").hidden = true;
    showStatus(status);
    showEvents(events);
    lastGood = status.at;
  } catch (error) {
    showTrouble(error);
  }
}

async function run() {
  if (!document.hidden) await refresh();
  setTimeout(run, EVERY_MS);
}

$("login").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  sessionStorage.setItem("fleet-token", $("token").value.trim());
  $("token").value = "";
  refresh();
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());
run();
