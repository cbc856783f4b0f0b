/** Columns of the current table: heading, value to sort by, content of a cell. */
function columns() {
  const table = state.table, small = table.cases < SMALL;
  const found = [
    { key: "rank", label: "#", up: true, value: (row) => row.rank ?? Infinity, cell: (row) => row.rank ?? "" },
    { key: "method", label: "method", up: true, css: "method", value: (row) => row.method, cell: methodCell },
  ];
  const metric = (name) => ({
    key: name === table.primary ? "primary" : "metric:" + name, label: name, css: `${name === table.primary ? "primary" : ""}${small ? " few" : ""}`,
    value: (row) => row.metrics[name]?.[0] ?? -1, cell: (row) => metricCell(row, name), best: !small,
  });
  found.push(
    metric(table.primary),
    { key: "marks", label: "marks", up: true, css: "left", optional: "about", value: (row) => row.marks.length, cell: (row) => row.marks.map(markOf) },
  );
  if (table.pairs.length) {
    found.push(
      { key: "group", label: "tie", up: true, hint: "rows that share a letter are not separated", css: "left", value: (row) => row.group || "~", cell: (row) => h("span", { class: "letters" }, row.group) },
      { key: "ranks", label: "rank interval", up: true, hint: "the ranks that the row may have", css: "left", value: (row) => row.ranks?.[0] ?? Infinity, cell: ranksCell },
      { key: "vs", label: "vs best", hint: "difference from the best row, with its 95 % interval", optional: "verdicts", value: (row) => row.lead?.[0] ?? (primaryOf(row) == null ? -Infinity : 0), cell: leadCell },
    );
  }
  found.push({ key: "share", label: "above floor", hint: "share closed of the gap between the best floor that reads no more and 1", optional: "verdicts", value: (row) => row.share ?? -Infinity, cell: shareCell });
  found.push(...table.metrics.filter((name) => name !== table.primary).map(metric));
  for (const name of sliceNames(table)) {
    const few = table.slices[name] < SMALL;
    found.push({
      key: "slice:" + name, label: name.replaceAll("_", " "), hint: `${table.primary} on ${number(table.slices[name])} cases`,
      css: few ? "few" : "", optional: "slices", note: number(table.slices[name]),
      value: (row) => row.slices[name]?.[0] ?? -1, cell: (row) => spread(row.slices[name]), best: !few,
    });
  }
  found.push(
    { key: "seeds", label: "seeds", optional: "verdicts", value: (row) => row.seeds, cell: (row) => row.seeds },
  );
  for (const [name, cost] of Object.entries(COSTS)) {
    if (table.rows.some((row) => row.costs[name])) {
      found.push({
        key: "cost:" + name, label: cost.label, up: cost.better === "less", optional: "costs",
        value: (row) => row.costs[name] || (cost.better === "less" ? Infinity : -1),
        cell: (row) => row.costs[name] ? cost.text(row.costs[name]) : "",
      });
    }
  }
  found.push(
    { key: "reads", label: "reads", up: true, css: "left", optional: "about", value: (row) => row.reads.length, cell: readsCell },
  );
  return found;
}

function readsCell(row) {
  if (!row.reads.length) return h("small", {}, "nothing");
  return row.reads.map((part) => h("span", { class: "chip" }, part.replaceAll("_", " ")));
}

function methodCell(row) {
  const choose = (event) => {
    event.target.checked ? state.chosen.add(row.method) : state.chosen.delete(row.method);
    drawChosen();
  };
  const checked = state.chosen.has(row.method);
  const box = h("input", { type: "checkbox", class: "swatch", "aria-label": `Plot ${row.method}`, checked, onchange: choose });
  const name = h("button", { type: "button", title: row.method, onclick: () => openCard(row) }, row.method);
  return h("div", {}, box, name, row.floor && h("span", { class: "chip" }, "floor"));
}

function ranksCell(row) {
  if (!row.ranks) return "";
  const [first, last] = row.ranks, k = Math.max(2, state.table.rows.filter((other) => other.ranks).length);
  const x = (rank) => 3 + (66 * (rank - 1)) / (k - 1);
  const text = first === last ? `${first}` : `${first}–${last}`;
  const span = h("span", { title: `rank ${text}` });
  span.innerHTML = [
    `<svg width="118" height="16" role="img" aria-label="rank ${text}">`,
    `<line x1="3" x2="69" y1="8" y2="8" stroke="${colour("line")}" stroke-width="2"/>`,
    `<line x1="${x(first)}" x2="${x(last)}" y1="8" y2="8" stroke="${colour("accent")}" stroke-width="5" stroke-linecap="round"/>`,
    `<circle cx="${x(row.rank)}" cy="8" r="2" fill="${colour("surface")}"/>`,
    `<text x="76" y="12" font-size="11" fill="${colour("muted")}">${text}</text></svg>`,
  ].join("");
  return span;
}

function spread(cell) {
  if (!cell) return "";
  const [mean, std, n, reach] = cell;
  const hint = reach == null ? "one run" : `${n} seeds, 95 % interval over seeds ${figure(mean - reach)} to ${figure(mean + reach)}, uncorrected`;
  return h("span", { title: hint }, figure(mean), std != null && h("small", {}, " ±" + figure(std).slice(1)));
}

function metricCell(row, name) {
  const content = spread(row.metrics[name]);
  if (name !== state.table.primary || !content) return content;
  const top = Math.max(...state.table.rows.map((other) => primaryOf(other) ?? 0)) || 1;
  return [h("i", { style: `width:${(92 * primaryOf(row)) / top}%` }), content];
}

function leadCell(row) {
  if (!row.lead) return "";
  const [value, low, high] = row.lead;
  return h("span", {}, signed(value), h("small", {}, ` [${signed(low)}, ${signed(high)}]`));
}

function shareCell(row) {
  return row.share == null ? "" : h("span", { class: row.share < 0 ? "minus" : "plus" }, signed(100 * row.share, 1) + " %");
}

function markOf(mark) {
  const kind = mark.startsWith("below floor") ? " bad" : mark.startsWith("replayed") ? " good" : "";
  return h("span", { class: "mark" + kind }, mark);
}

/** The kind of a mark, without the numbers and names that differ between rows. */
function kindOf(mark) { return mark.replace(/ \(.*| [\d.]+%.*/, "").replace(/^below floor .*/, "below floor"); }

function drawTable() {
  const all = columns().filter((column) => !column.optional || state.shown.has(column.key));
  const sorted = all.find((column) => column.key === state.sort.key) ?? all[0];
  const rows = visibleRows();
  const sign = state.sort.down ? -1 : 1;
  rows.sort((a, b) => { const [x, y] = [sorted.value(a), sorted.value(b)]; return sign * (x < y ? -1 : x > y ? 1 : 0); });
  const tops = Object.fromEntries(all.filter((column) => column.best).map((column) => [column.key, Math.max(...rows.map(column.value))]));
  const head = all.map((column) => h("th", { scope: "col", class: column.css, "aria-sort": column === sorted ? (state.sort.down ? "descending" : "ascending") : "none" },
    h("button", { type: "button", title: column.hint, "data-key": column.key, onclick: () => sortBy(column) }, column.label)));
  const body = rows.map((row) => h("tr", { class: row.floor ? "floor" : "", "data-method": row.method },
    all.map((column) => h("td", { class: `${column.css ?? ""}${column.best && column.value(row) === tops[column.key] ? " best" : ""}` }, column.cell(row)))));
  const focused = document.activeElement?.dataset?.key;
  const content = rows.length ? h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)) : h("p", { class: "empty" }, "No row passes the filters.");
  document.getElementById("table").replaceChildren(content);
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  document.getElementById("count").textContent = `${rows.length} of ${state.table.rows.length} rows`;
}

function sortBy(column) {
  const again = state.sort.key === column.key;
  state.sort = { key: column.key, down: again ? !state.sort.down : !column.up };
  drawTable();
}

function drawControls() {
  const reads = [...new Set(state.table.rows.flatMap((row) => row.reads))].sort();
  const box = (label, checked, change, note) => h("label", {}, h("input", { type: "checkbox", checked, onchange: (event) => { change(event.target.checked); refresh(); } }), label, note && h("small", {}, note));
  const groups = grouped(columns());
  const marks = [...new Set(state.table.rows.flatMap((row) => row.marks.map(kindOf)))].sort();
  const limit = (name, label, unit) => h("label", {}, label, unit && h("small", {}, unit),
    h("input", { type: "number", min: 0, step: "any", "aria-label": label, value: state.limits[name] ?? "", oninput: (event) => { event.target.value === "" ? delete state.limits[name] : (state.limits[name] = Number(event.target.value)); refresh(); } }));
  const costs = Object.entries(COSTS).filter(([name]) => state.table.rows.some((row) => row.costs[name]));
  document.getElementById("controls").replaceChildren(
    h("input", { type: "search", placeholder: "Filter methods", "aria-label": "Filter methods", value: state.search, oninput: (event) => { state.search = event.target.value; refresh(); } }),
    h("details", { class: "menu" }, h("summary", {}, "May read"), h("div", {}, h("h3", {}, "Information set"),
      reads.map((part) => box(part.replaceAll("_", " "), !state.barred.has(part), (on) => (on ? state.barred.delete(part) : state.barred.add(part)))))),
    h("details", { class: "menu" }, h("summary", {}, "Rows"), h("div", {},
      box("floors", state.floors, (on) => { state.floors = on; }), box("only rows with a rank", state.ranked, (on) => { state.ranked = on; }),
      marks.length ? [h("h3", {}, "Marks"), marks.map((mark) => box(mark, !state.unwanted.has(mark), (on) => (on ? state.unwanted.delete(mark) : state.unwanted.add(mark))))] : null)),
    h("details", { class: "menu" }, h("summary", {}, "Limits"), h("div", {}, limit("seeds", "seeds, at least"),
      costs.map(([name, cost]) => limit(name, `${cost.label}, ${cost.better === "less" ? "at most" : "at least"}`, cost.unit)))),
    h("details", { class: "menu" }, h("summary", {}, "Columns"), h("div", {}, Object.entries(groups).map(([name, members]) => [h("h3", {}, name),
      members.map((column) => box(column.label, state.shown.has(column.key), (on) => { on ? state.shown.add(column.key) : state.shown.delete(column.key); }, column.note))]))),
    h("span", { class: "count", id: "count", role: "status" }),
  );
}

function grouped(all) {
  const groups = {};
  for (const column of all) if (column.optional) (groups[column.optional] ??= []).push(column);
  return groups;
}
