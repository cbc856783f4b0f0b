"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SMALL = 100;
const COSTS = {
  train_seconds: { label: "training time", unit: "s", text: duration, better: "less" },
  users_per_second: { label: "evaluation", unit: "users/s", text: (v) => compact(v) + "/s", better: "more" },
  memory: { label: "memory", unit: "MiB", text: (v) => compact(v / 2 ** 20) + " MiB", scale: 2 ** 20, better: "less" },
  device_memory: { label: "GPU memory", unit: "MiB", text: (v) => compact(v / 2 ** 20) + " MiB", scale: 2 ** 20, better: "less" },
  trained: { label: "trained parameters", unit: "", text: compact, better: "less" },
  frozen: { label: "frozen parameters", unit: "", text: compact, better: "less" },
  trials: { label: "tuning trials", unit: "", text: compact, better: "less" },
  hours: { label: "tuning hours", unit: "h", text: (v) => v.toFixed(1) + " h", better: "less" },
};
const state = {
  table: data.tables[0],
  sort: { key: "primary", down: true },
  search: "",
  barred: new Set(),
  unwanted: new Set(),
  limits: {},
  floors: true,
  ranked: false,
  shown: new Set(["vs", "share", "reads", "marks", "seeds", "ranks", "group", "cost:train_seconds"]),
  chosen: new Set(),
  reference: 0,
  cost: "train_seconds",
};

/** An element with attributes, listeners (on…) and children. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/** Replaces what a box holds; the focus, if it is within, goes to the counterpart of what had it. */
function refill(box, counterpart, ...content) {
  const held = box.contains(document.activeElement);
  box.replaceChildren(...content);
  if (held) box.querySelector(counterpart)?.focus();
}

function duration(seconds) {
  if (seconds < 60) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  if (seconds < 3600) return (seconds / 60).toFixed(1) + " min";
  return (seconds / 3600).toFixed(1) + " h";
}

function compact(value) {
  return new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(value);
}

function number(value) { return new Intl.NumberFormat("en").format(value); }

/** A number without its sign, as the tables in text round it: what lies exactly between two goes to the even digit. */
function rounded(value, digits) {
  const size = Math.abs(value), text = size.toFixed(digits), tie = (size * 2 ** (digits + 1)) % 2 === 1;
  return tie && Number(text.at(-1)) % 2 ? (size - 10 ** -digits / 4).toFixed(digits) : text;
}

function figure(value) { return (value < 0 ? "-" : "") + rounded(value, 4); }
function signed(value, digits = 4) { return (value < 0 ? "−" : "+") + rounded(value, digits); }
function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim(); }
function dark() { return document.documentElement.dataset.theme === "dark"; }

/** Colours that colour-blind readers can tell apart (Okabe and Ito), lighter on a dark page. */
function palette() {
  return dark()
    ? ["#5aa9f0", "#f0a04b", "#4fc79b", "#e98bc0", "#f2d95c", "#9fd0f5", "#ef7f5a", "#b9b9c3"]
    : ["#0072b2", "#d55e00", "#009e73", "#aa4499", "#c28f00", "#3f9fd8", "#882255", "#5f6570"];
}

/** Rows that pass the filters, in the order of the table. */
function visibleRows() {
  const needle = state.search.toLowerCase();
  return state.table.rows.filter(
    (row) =>
      row.method.toLowerCase().includes(needle) &&
      (state.floors || !row.floor) &&
      (!state.ranked || row.rank != null) &&
      !row.reads.some((part) => state.barred.has(part)) &&
      !row.marks.some((mark) => state.unwanted.has(kindOf(mark))) &&
      Object.entries(state.limits).every(([name, limit]) => within(row, name, limit)),
  );
}

/** Whether a row respects a limit on its seeds, cost or speed, in the unit that is shown. */
function within(row, name, limit) {
  if (name === "seeds") return row.seeds >= limit;
  const cost = COSTS[name], value = (row.costs[name] ?? 0) / (cost.scale ?? 1);
  return cost.better === "less" ? value <= limit : value >= limit;
}

function primaryOf(row) { return row.metrics[state.table.primary]?.[0]; }
function chosenRows() { return visibleRows().filter((row) => state.chosen.has(row.method)); }

/** Rows that are first shown in plots of a few methods: the best four and the best floor. */
function firstChoice(table) {
  const floor = table.rows.find((row) => row.floor);
  return new Set([...table.rows.filter((row) => !row.floor).slice(0, 4), floor].filter(Boolean).map((row) => row.method));
}

/** Slices in numerical rather than alphabetical order. */
function sliceNames(table) {
  return Object.keys(table.slices).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}
