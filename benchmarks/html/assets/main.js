function refresh() { drawTable(); drawCharts(); }

/** A table's protocol, with its scenario and slice unless they are "overall", and what sets it apart from another one. */
function named(table) {
  const name = [table.protocol, table.scenario, table.slice].filter((word) => word !== "overall").join(", ");
  return table.variant ? `${name} (${table.variant})` : name;
}

/** For how many test cases the training data hold later events, if that is known. */
function leakage(table) {
  if (table.leakage == null) return "";
  const whose = table.slice === "overall" ? "the test cases" : "all test cases, of whatever slice";
  return ` For ${rounded(100 * table.leakage, 1)} % of ${whose}, the training data contain events after the target.`;
}

function drawTabs() {
  refill(document.getElementById("tables"), '[aria-current="true"]', ...data.tables.map((table) =>
    h("button", { type: "button", "aria-current": String(table === state.table), title: `protocol id ${table.id}`, onclick: () => { show(table); locate(); } }, h("b", {}, table.dataset), " ", h("span", {}, named(table)))));
}

/** Shows one table with its plots. */
function show(table) {
  Object.assign(state, { table, sort: { key: "primary", down: true }, search: "", barred: new Set(), unwanted: new Set(), limits: {}, chosen: firstChoice(table), reference: 0 });
  drawTabs();
  document.getElementById("title").textContent = `${table.dataset}, ${named(table)}`;
  document.getElementById("about").replaceChildren(`${number(table.cases)} test cases, protocol id `, h("code", {}, table.id), table.note ? `; ${table.note}` : "",
    table.cases < SMALL ? h("b", {}, `. Fewer than ${SMALL} cases: too few for conclusions.`) : "");
  document.getElementById("legend").textContent =
    `Mean ± standard deviation over seeds; sorted by ${table.primary}. Rows that share a letter are not separated: separation requires that Welch's t over seeds, the paired bootstrap over users, and both sources of chance together exclude zero, each with Holm's correction over all pairs. ` +
    "Other metrics and slices have uncorrected intervals (hover to see them). Rows with fewer than 5 seeds (3 with a language model) have no rank, nor has a row on a stand-in language model." + leakage(table);
  drawControls();
  refresh();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

function systemTheme() { return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"; }

/** Puts the table, and the run if one is given, into the URL, so that links to them can be shared. */
function locate(run) {
  const parts = [state.table.dataset, state.table.id, run].filter(Boolean);
  history.replaceState(null, "", "#" + parts.map(encodeURIComponent).join("/"));
}

/** Opens the table and the run named in the URL, and says whether it names a table: the link to skip to it does not. */
function follow() {
  const [dataset, id, run] = location.hash.slice(1).split("/");
  const table = data.tables.find((other) => encodeURIComponent(other.dataset) === dataset && other.id === id);
  if (!table) return false;
  show(table);
  const row = run && state.table.rows.find((other) => other.runs.includes(run));
  if (row) openCard(row, run);
  else document.getElementById("card").close();
  return true;
}

document.getElementById("made").textContent = `${number(Object.keys(data.runs).length)} runs, ${data.tables.length} ${data.tables.length === 1 ? "table" : "tables"}, generated ${data.made}`;
setTheme(systemTheme());
document.getElementById("theme").addEventListener("click", () => { setTheme(dark() ? "light" : "dark"); refresh(); });
document.getElementById("card").addEventListener("close", (event) => { if (!event.target.open) locate(); });
document.getElementById("card").addEventListener("click", (event) => { if (event.target.id === "card") event.target.close(); });
document.addEventListener("click", (event) => document.querySelectorAll("details.menu[open]").forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; }));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") document.querySelectorAll("details.menu[open]").forEach((menu) => { menu.open = false; menu.querySelector("summary").focus(); }); });
addEventListener("hashchange", follow);
if (!follow()) show(data.tables[0]);
