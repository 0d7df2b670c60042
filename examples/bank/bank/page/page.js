// Asks /live each second for the books, and shows them. The charts are told by themselves (charts.js).
"use strict";

const whole = new Intl.NumberFormat("en");

const element = (id) => document.getElementById(id);

function say(id, text) {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
}

function milliseconds(value) {
  return value === null ? "\u2013" : `${value < 10 ? value.toFixed(1) : whole.format(Math.round(value))} ms`;
}

function showNumbers(live) {
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

async function ask() {
  const reply = await fetch("/live", { signal: AbortSignal.timeout(5000), cache: "no-store" });
  if (!reply.ok) throw new Error(`the bank answered ${reply.status}`);
  return reply.json();
}

async function tick() {
  try {
    const live = await ask();
    showNumbers(live);
    showCurrencies(live.currencies);
    say("connection", "Live");
    element("connection").className = "quiet";
  } catch (error) {
    say("connection", `No answer, asking again: ${error.message}`);
    element("connection").className = "quiet alarm";
  }
  setTimeout(tick, 1000);
}

say("origin", window.location.origin);
tick();
