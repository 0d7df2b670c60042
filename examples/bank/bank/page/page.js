// Asks /live each second and shows what changed. No framework: a few numbers, one table, one chart.
"use strict";

const WINDOW_SECONDS = 120;
const EXPONENTS = { EUR: 2, GBP: 2, JPY: 0, KWD: 3, USD: 2 };

const whole = new Intl.NumberFormat("en");
const samples = []; // of {at, rate}, oldest first, at most WINDOW_SECONDS of them
let previous = null;

const element = (id) => document.getElementById(id);

function say(id, text) {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
}

function money(minorUnits, currency) {
  const digits = EXPONENTS[currency] ?? 0;
  return new Intl.NumberFormat("en", { style: "currency", currency, minimumFractionDigits: digits }).format(
    minorUnits / 10 ** digits,
  );
}

function milliseconds(value) {
  return value === null ? "\u2013" : `${value < 10 ? value.toFixed(1) : whole.format(Math.round(value))} ms`;
}

function follow(live) {
  // Several workers may answer in turn: only a later answer that counted further is a step forward.
  if (previous !== null && live.at <= previous.at) return;
  if (previous !== null) {
    const rate = Math.max(0, (live.transfers - previous.transfers) / (live.at - previous.at));
    samples.push({ at: live.at, rate });
    while (samples.length > WINDOW_SECONDS || samples[0].at < live.at - WINDOW_SECONDS) samples.shift();
  }
  previous = live;
}

function showNumbers(live) {
  const rate = samples.length ? samples[samples.length - 1].rate : 0;
  const peak = samples.reduce((highest, sample) => Math.max(highest, sample.rate), 0);
  say("rate", whole.format(Math.round(rate)));
  say("peak", whole.format(Math.round(peak)));
  say("transfers", whole.format(live.transfers));
  say("p50", milliseconds(live.latency.p50));
  say("p99", milliseconds(live.latency.p99));
  say("verdict", live.balanced ? "Balanced" : "Out of balance");
  const accounts = live.currencies.reduce((sum, books) => sum + books.accounts, 0);
  const off = live.currencies.filter((books) => books.total !== 0);
  say(
    "proof",
    off.length
      ? off.map((books) => money(books.total, books.currency)).join(", ") + " off"
      : `${whole.format(accounts)} accounts add up to 0 in each currency`,
  );
  element("books").className = live.balanced ? "books sound" : "books broken";
  element("chart").setAttribute(
    "aria-label",
    `Transfers per second over the last two minutes: now ${Math.round(rate)}, peak ${Math.round(peak)}`,
  );
}

function showCurrencies(currencies) {
  const rows = currencies.map((books) => {
    const row = document.createElement("tr");
    const name = document.createElement("th");
    name.scope = "row";
    name.textContent = books.currency;
    row.append(name);
    const figures = [
      whole.format(books.accounts),
      money(books.volume, books.currency),
      money(books.total, books.currency),
    ];
    for (const figure of figures) {
      const cell = document.createElement("td");
      cell.className = "number";
      cell.textContent = figure;
      row.append(cell);
    }
    return row;
  });
  element("currencies").replaceChildren(...rows);
}

// The smallest of 1, 2, 5, 10, 20, 50 ... that is not below the value: a scale that does not jump with each sample.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((limit) => limit >= value);
}

function draw() {
  const canvas = element("chart");
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const margin = { left: 52, right: 6, top: 10, bottom: 22 };
  const top = roundUp(samples.reduce((highest, sample) => Math.max(highest, sample.rate), 10));
  const newest = samples.length ? samples[samples.length - 1].at : 0;
  const x = (at) => width - margin.right - ((newest - at) / WINDOW_SECONDS) * (width - margin.left - margin.right);
  const y = (rate) => height - margin.bottom - (rate / top) * (height - margin.top - margin.bottom);

  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  pen.lineWidth = 1;
  pen.strokeStyle = colour("--line");
  pen.fillStyle = colour("--quiet");
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (const share of [0, 0.5, 1]) {
    pen.beginPath();
    pen.moveTo(margin.left, y(top * share));
    pen.lineTo(width - margin.right, y(top * share));
    pen.stroke();
    pen.fillText(whole.format(top * share), margin.left - 8, y(top * share));
  }
  pen.textBaseline = "bottom";
  pen.textAlign = "left";
  pen.fillText("2 min ago", margin.left, height);
  pen.textAlign = "right";
  pen.fillText("now", width - margin.right, height);
  if (samples.length < 2) return;

  pen.beginPath();
  for (const sample of samples) pen.lineTo(x(sample.at), y(sample.rate));
  pen.strokeStyle = colour("--accent");
  pen.lineWidth = 2;
  pen.lineJoin = "round";
  pen.stroke();
  pen.lineTo(x(newest), y(0));
  pen.lineTo(x(samples[0].at), y(0));
  pen.closePath();
  pen.fillStyle = colour("--fill");
  pen.fill();
}

async function ask() {
  const reply = await fetch("/live", { signal: AbortSignal.timeout(5000), cache: "no-store" });
  if (!reply.ok) throw new Error(`the bank answered ${reply.status}`);
  return reply.json();
}

async function tick() {
  try {
    const live = await ask();
    follow(live);
    showNumbers(live);
    showCurrencies(live.currencies);
    say("connection", "Live");
    element("connection").className = "quiet";
  } catch (error) {
    say("connection", `No answer, asking again: ${error.message}`);
    element("connection").className = "quiet alarm";
  }
  draw();
  setTimeout(tick, 1000);
}

say("origin", window.location.origin);
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
tick();
