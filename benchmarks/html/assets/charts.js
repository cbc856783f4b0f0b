const CONFIG = { displayModeBar: false, responsive: true };
/** An axis of methods; unless told, Plotly takes names such as 2024 for numbers. */
const METHODS = { type: "category", tickfont: { size: 11 } };

/** Layout that all plots share, in the colours of the page. */
function layout(changes) {
  const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true, title: { standoff: 14, font: { size: 12, color: colour("muted") } } };
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 52, r: 16, t: 10, b: 44 }, height: 340,
    font: { family: "system-ui, sans-serif", size: 12, color: colour("ink") }, hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("ink") } },
    legend: { orientation: "h", y: -0.18, font: { size: 11 } }, showlegend: false, hovermode: "closest",
  };
  const { xaxis = {}, yaxis = {}, ...rest } = changes;
  const merge = (own) => ({ ...axis, ...own, title: { ...axis.title, text: own.title } });
  return { ...base, ...rest, xaxis: merge(xaxis), yaxis: merge(yaxis) };
}

/** The frame of a plot: its title, a line of explanation, and an optional selector. */
function frame(id, title, about, choice) {
  const box = document.getElementById(id);
  refill(box, "select", h("figcaption", {}, h("b", {}, title), h("span", {}, about), choice), h("div", { class: "plot", role: "img", "aria-label": `${title}: ${about}` }));
  return box.lastChild;
}

function choice(label, options, current, change) {
  return h("select", { "aria-label": label, onchange: (event) => change(event.target.value) },
    options.map(([value, text]) => h("option", { value, selected: String(value) === String(current) }, text)));
}

function draw(box, traces, changes, rowsByPoint) {
  if (!traces.some((trace) => trace.x?.length)) { box.replaceChildren(h("p", { class: "empty" }, "Nothing to draw for these rows.")); return; }
  Plotly.newPlot(box, traces, layout(changes), CONFIG);
  if (rowsByPoint) box.on("plotly_click", (event) => { const row = rowsByPoint(event.points[0]); if (row) openCard(row); });
}

/** Ticks of a log axis: 1, 2 and 5 in each decade, or only powers of ten if those are too many. */
function logTicks(values) {
  const [low, high] = [Math.min(...values) / 2, Math.max(...values) * 2];
  const ticks = [];
  for (let decade = Math.floor(Math.log10(low)); decade <= Math.log10(high); decade += 1) {
    for (const digit of [1, 2, 5]) { const value = digit * 10 ** decade; if (value >= low && value <= high) ticks.push(value); }
  }
  const kept = ticks.length > 9 ? ticks.filter((value) => Number.isInteger(Math.round(Math.log10(value) * 1e6) / 1e6)) : ticks;
  return { tickvals: kept, ticktext: kept.map(compact) };
}

/** Rows that no other row beats in both quality and cost. */
function pareto(points, better) {
  const sign = better === "less" ? 1 : -1;
  const sorted = [...points].sort((a, b) => sign * (a.x - b.x) || b.y - a.y);
  let best = -Infinity;
  return sorted.filter((point) => point.y > best && ((best = point.y), true));
}

function drawCost() {
  const known = Object.entries(COSTS).filter(([name]) => state.table.rows.some((row) => row.costs[name]));
  if (!known.some(([name]) => name === state.cost) && known.length) state.cost = known[0][0];
  const cost = COSTS[state.cost];
  const about = "No cheaper row beats the rows on the line. Diamonds are floors; bars are 95 % intervals over users.";
  const labels = known.map(([name, entry]) => [name, entry.label]);
  const change = (value) => { state.cost = value; drawCost(); };
  const box = frame("cost", "Quality against cost", about, choice("Cost", labels, state.cost, change));
  const points = visibleRows().filter((row) => row.costs[state.cost] && primaryOf(row) != null)
    .map((row) => ({ row, x: row.costs[state.cost] / (cost.scale ?? 1), y: primaryOf(row) }));
  const middle = Math.sqrt(Math.min(...points.map((p) => p.x)) * Math.max(...points.map((p) => p.x)));
  // Names stand towards the middle of the plot, whose edge would cut them.
  const turned = (point) => point.x > middle;
  const front = pareto(points, cost.better), on = new Set(front.map((point) => point.row.method));
  const tinted = (colourOnLine) => points.map((p) => on.has(p.row.method) ? colourOnLine : colour("faint"));
  const fill = tinted(palette()[0]);
  const trace = {
    x: points.map((p) => p.x), y: points.map((p) => p.y), mode: "markers+text", type: "scatter",
    customdata: points.map((p) => p.row.method), cliponaxis: false,
    text: points.map((p) => (turned(p) ? p.row.method + "  " : "  " + p.row.method)),
    textposition: points.map((p) => (turned(p) ? "middle left" : "middle right")), textfont: { size: 11, color: tinted(colour("ink")) },
    error_y: { type: "data", array: points.map((p) => p.row.spread), thickness: 1, width: 0, color: colour("faint") },
    marker: {
      size: 11, symbol: points.map((p) => p.row.floor ? "diamond-open" : "circle"), color: fill,
      line: { width: 1.5, color: fill },
    },
    hovertemplate: "<b>%{text}</b><br>" + state.table.primary + " %{y:.4f}<br>" + cost.label + " %{x:.4s}<extra></extra>",
  };
  const shape = cost.better === "less" ? "hv" : "vh";
  const line = {
    x: front.map((p) => p.x), y: front.map((p) => p.y), mode: "lines", hoverinfo: "skip",
    line: { shape, dash: "dot", width: 1.5, color: palette()[0] },
  };
  const title = `${cost.label}${cost.unit ? ` (${cost.unit})` : ""}, log scale`;
  const layout = {
    height: 420, shapes: floorLine(), xaxis: { type: "log", ...logTicks(points.map((p) => p.x)), title },
    yaxis: { title: state.table.primary, rangemode: "tozero" },
  };
  draw(box, [line, trace], layout, (point) => rowNamed(point.customdata));
}

/** A line at the best floor: what a method must beat to be worth its cost. */
function floorLine() {
  const floor = state.table.rows.find((row) => row.floor && primaryOf(row) != null);
  if (!floor) return [];
  const label = { text: `best floor: ${floor.method}`, textposition: "end", yanchor: "bottom", font: { size: 11, color: colour("muted") } };
  return [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: primaryOf(floor), y1: primaryOf(floor), line: { color: colour("muted"), width: 1, dash: "dash" }, label }];
}

function rowNamed(method) { return state.table.rows.find((row) => row.method === method); }
function byQuality(rows) { return [...rows].filter((row) => primaryOf(row) != null).sort((a, b) => primaryOf(a) - primaryOf(b)); }
function tall(rows) { return Math.max(220, 70 + 22 * rows.length); }

function drawSeeds() {
  const rows = byQuality(visibleRows());
  const box = frame("seeds", "Seeds", `Each dot is the ${state.table.primary} of one run; bars are 95 % intervals over users around the mean.`);
  const dots = { x: rows.flatMap((row) => row.points), y: rows.flatMap((row) => row.points.map(() => row.method)), mode: "markers", marker: { size: 7, opacity: 0.75, color: palette()[0] }, hovertemplate: "<b>%{y}</b> %{x:.4f}<extra></extra>" };
  const means = { x: rows.map(primaryOf), y: rows.map((row) => row.method), mode: "markers", marker: { symbol: "line-ns-open", size: 13, color: colour("ink"), line: { width: 2 } }, error_x: { type: "data", array: rows.map((row) => row.spread), thickness: 1.2, width: 0, color: colour("faint") }, hovertemplate: "<b>%{y}</b> mean %{x:.4f}<extra></extra>" };
  draw(box, [means, dots], { height: tall(rows), xaxis: { title: state.table.primary }, yaxis: METHODS }, (point) => rowNamed(point.y));
}

function drawDifferences() {
  const all = state.table.rows, pairs = state.table.pairs;
  if (!pairs.length) { frame("differences", "Differences", "This table has no verdicts."); return; }
  const box = frame("differences", "Differences", "From the chosen reference row, with 95 % intervals (over seeds or users, whichever is wider). Filled: separated. Open: not separated, or too few seeds.",
    choice("Reference", all.slice(0, pairs.length).map((row, index) => [index, row.method]), state.reference, (value) => { state.reference = Number(value); drawDifferences(); }));
  const visible = new Set(visibleRows().map((row) => row.method));
  const entries = all.slice(0, pairs.length).map((row, index) => ({ row, pair: pairs[index][state.reference] })).filter(({ row, pair }) => pair && visible.has(row.method)).reverse();
  const shade = entries.map(({ pair }) => (pair[3] ? (pair[0] > 0 ? colour("good") : colour("bad")) : colour("muted")));
  const trace = {
    x: entries.map(({ pair }) => pair[0]), y: entries.map(({ row }) => row.method), mode: "markers", type: "scatter",
    error_x: { type: "data", symmetric: false, array: entries.map(({ pair }) => pair[2] - pair[0]), arrayminus: entries.map(({ pair }) => pair[0] - pair[1]), thickness: 1.3, width: 0, color: colour("faint") },
    marker: { size: 9, symbol: entries.map(({ pair }) => (pair[3] ? "circle" : "circle-open")), color: shade, line: { width: 1.5, color: shade } },
    customdata: entries.map(({ pair }) => [pair[1], pair[2], pair[3] ? "separated" : "not separated"]),
    hovertemplate: "<b>%{y}</b> %{x:+.4f}<br>%{customdata[0]:+.4f} to %{customdata[1]:+.4f}<br>%{customdata[2]}<extra></extra>",
  };
  draw(box, [trace], { height: tall(entries), xaxis: { title: `${state.table.primary} minus that of ${all[state.reference].method}`, zeroline: true, zerolinecolor: colour("muted") }, yaxis: METHODS }, (point) => rowNamed(point.y));
}

function drawSlices() {
  const rows = chosenRows(), names = sliceNames(state.table).filter((name) => state.table.slices[name] > 0);
  const box = frame("slices", "Slices", `${state.table.primary} of the rows ticked in the table. Pale bars have fewer than ${SMALL} cases, too few for conclusions.`);
  const label = (name) => `${name.replaceAll("_", " ")} (${compact(state.table.slices[name])})`;
  const traces = rows.map((row, index) => {
    const kept = names.filter((name) => row.slices[name]);
    return { type: "bar", name: row.method, x: kept.map(label), y: kept.map((name) => row.slices[name][0]), error_y: { type: "data", array: kept.map((name) => row.slices[name][1] ?? 0), thickness: 1, width: 0, color: colour("muted") },
      marker: { color: palette()[index % 8], opacity: kept.map((name) => (state.table.slices[name] < SMALL ? 0.35 : 1)) }, hovertemplate: "<b>%{fullData.name}</b><br>%{x}: %{y:.4f}<extra></extra>" };
  });
  draw(box, traces, { height: 420, barmode: "group", bargap: 0.25, showlegend: true, legend: { orientation: "h", y: 1.12 }, xaxis: { tickangle: -40, tickfont: { size: 10 } }, yaxis: { title: state.table.primary } });
}

function curveTraces(run, name, shade, extra) {
  return Object.entries(run.curve).map(([series, points]) => ({
    x: points.map((point) => point[0] + 1), y: points.map((point) => point[1]), name, type: "scatter", mode: points.length > 1 ? "lines" : "markers", line: { width: 1.4, color: shade, dash: series === "train/loss" ? "dot" : "solid" }, series,
    hovertemplate: `<b>${name}</b><br>epoch %{x}: %{y:.4f}<extra></extra>`, ...extra,
  }));
}

function drawCurves() {
  const box = frame("curves", "Learning curves", "The monitored validation metric by epoch for the rows ticked in the table, one line per seed.");
  const traces = chosenRows().flatMap((row, index) => row.runs.flatMap((id, seed) =>
    curveTraces(data.runs[id], row.method, palette()[index % 8], { legendgroup: row.method, showlegend: seed === 0 }).filter((trace) => trace.series !== "train/loss")));
  draw(box, traces, { height: 420, showlegend: true, legend: { orientation: "h", y: 1.12 }, xaxis: { title: "epoch" }, yaxis: { title: "validation" } }, (point) => rowNamed(point.data.name));
}

function drawChosen() { drawSlices(); drawCurves(); }
function drawCharts() { drawCost(); drawSeeds(); drawDifferences(); drawChosen(); }
