// The charts: told of every change by the bank (Server-Sent Events), and drawn by uPlot.
"use strict";

const EXPONENTS = { EUR: 2, GBP: 2, JPY: 0, KWD: 3, USD: 2 };
const SPAN_SECONDS = 600;

const rows = new Map(); // of what was counted, by window and currency
const charts = new Map(); // by currency, and the pace by ""
let windowSeconds = 5;
let since = 0; // the first window that is shown

function money(minorUnits, currency, notation = "standard") {
  const digits = EXPONENTS[currency] ?? 0;
  return new Intl.NumberFormat("en", {
    style: "currency",
    currency,
    notation,
    minimumFractionDigits: notation === "compact" ? 0 : digits,
    maximumFractionDigits: notation === "compact" ? 1 : digits,
  }).format(minorUnits / 10 ** digits);
}

// Keep a stream open whatever happens. A browser comes again by itself after a stream has ended, with the id of the last
// event; but not after an answer that is no stream, such as a 503 of a server that is just being replaced.
function watch(path, take, tell) {
  let last = "";
  const open = () => {
    const source = new EventSource(last ? `${path}?last_event_id=${encodeURIComponent(last)}` : path);
    for (const kind of ["snapshot", "change"]) {
      source.addEventListener(kind, (event) => {
        last = event.lastEventId;
        take(kind, JSON.parse(event.data));
      });
    }
    source.addEventListener("open", () => tell("live"));
    source.addEventListener("stale", () => tell("stale"));
    source.addEventListener("fresh", () => tell("live"));
    source.addEventListener("error", () => {
      tell("lost");
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 1000 + 2000 * Math.random());
    });
  };
  open();
}

function take(kind, told) {
  if (kind === "snapshot") rows.clear();
  for (const measure of Object.values(told)) {
    windowSeconds = measure.window;
    since = Date.parse(measure.since) / 1000;
    for (const row of measure.rows) {
      const starts = Date.parse(row.starts) / 1000;
      const currency = row.by.currency;
      // A sum is a decimal in a text; a chart has no need of more digits than a number has.
      rows.set(`${starts} ${currency}`, { starts, currency, events: row.events, sum: Number(row.sum ?? 0) });
    }
  }
  draw();
}

// Every window from the first that is shown to now, those in which nothing happened too. Without a currency: all.
function series(of, currency = null) {
  const now = Date.now() / 1000;
  const newest = Math.max(Math.floor(now / windowSeconds) * windowSeconds, ...[...rows.values()].map((row) => row.starts));
  const oldest = newest - SPAN_SECONDS;
  const count = SPAN_SECONDS / windowSeconds + 1;
  const times = Array.from({ length: count }, (_, place) => oldest + place * windowSeconds);
  const values = new Array(count).fill(0);
  for (const row of rows.values()) {
    const place = (row.starts - oldest) / windowSeconds;
    if (place >= 0 && (currency === null || row.currency === currency)) values[place] += of(row);
  }
  return [times, values];
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function chart(target, label) {
  const axis = { stroke: () => colour("--quiet"), font: "12px system-ui, sans-serif" };
  const lines = { stroke: () => colour("--line"), width: 1 };
  const plot = new uPlot(
    {
      width: target.clientWidth,
      height: target.clientHeight,
      cursor: { show: false },
      legend: { show: false },
      scales: { y: { range: (_, __, highest) => [0, Math.max(highest, 1) * 1.1] } },
      axes: [
        { ...axis, grid: { show: false }, ticks: { show: false }, size: 24, space: 70, values: "{HH}:{mm}" },
        { ...axis, grid: lines, ticks: { show: false }, size: 62, space: 34, values: (_, ticks) => ticks.map(label) },
      ],
      series: [
        {},
        { stroke: () => colour("--accent"), fill: () => colour("--fill"), width: 2, points: { show: false } },
      ],
    },
    [[], []],
    target,
  );
  new ResizeObserver(() => plot.setSize({ width: target.clientWidth, height: target.clientHeight })).observe(target);
  return plot;
}

function amountChart(currency) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const name = document.createElement("span");
  name.textContent = currency;
  const total = document.createElement("span");
  total.id = `total-${currency}`;
  caption.append(name, total);
  const place = document.createElement("div");
  place.className = "chart";
  place.setAttribute("role", "img");
  figure.append(caption, place);
  // In the order of the alphabet, whichever came first.
  const after = [...charts.keys()].filter((one) => one > currency).sort()[0];
  const figures = document.getElementById("amounts");
  figures.insertBefore(figure, after ? document.getElementById(`total-${after}`).closest("figure") : null);
  const plot = chart(place, (tick) => money(tick, currency, "compact"));
  charts.set(currency, plot);
  return plot;
}

function draw() {
  for (const [key, row] of rows) if (row.starts < since) rows.delete(key);
  const [times, counts] = series((row) => row.events);
  const last = counts.length - 1;
  // The newest window is not over: what it has so far came in the part of it that is.
  const passed = Math.min(windowSeconds, Math.max(1, Date.now() / 1000 - times[last]));
  const rates = counts.map((count, place) => count / (place === last ? passed : windowSeconds));
  charts.get("").setData([times, rates]);
  const text = (id, value) => (document.getElementById(id).textContent = value);
  const whole = new Intl.NumberFormat("en");
  const rate = whole.format(Math.round(rates[last]));
  const peak = whole.format(Math.round(Math.max(...rates.slice(0, last), 0)));
  text("rate", rate);
  text("peak", peak);
  document
    .getElementById("pace")
    .setAttribute("aria-label", `Transfers per second over the last ten minutes: now ${rate}, peak ${peak}`);

  for (const currency of new Set([...rows.values()].map((row) => row.currency).concat([...charts.keys()]))) {
    if (!currency) continue;
    const plot = charts.get(currency) ?? amountChart(currency);
    const [moments, sums] = series((row) => row.sum, currency);
    plot.setData([moments, sums]);
    const total = money(sums.reduce((sum, one) => sum + one, 0), currency);
    text(`total-${currency}`, total);
    plot.root.parentElement.setAttribute("aria-label", `${currency} moved in the last ten minutes: ${total}`);
  }
}

const WORDS = { live: "Told as it happens", stale: "The bank cannot reach its database", lost: "Lost, coming again" };

charts.set("", chart(document.getElementById("pace"), (tick) => new Intl.NumberFormat("en", { notation: "compact" }).format(tick)));
draw();
// Time passes also where nothing happens.
setInterval(draw, 1000);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const plot of charts.values()) plot.redraw(false);
});
watch("/live/transfers", take, (state) => {
  const feed = document.getElementById("feed");
  feed.textContent = WORDS[state];
  feed.className = state === "live" ? "quiet" : "quiet alarm";
});
