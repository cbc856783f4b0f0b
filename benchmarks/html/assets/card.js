/** The card of a row's runs: what a reader needs to trust or reproduce a result. */
function openCard(row, id) {
  const run = id && row.runs.includes(id) ? id : row.runs[0];
  const dialog = document.getElementById("card");
  refill(dialog, '[aria-pressed="true"]', h("div", {}, cardTop(row, run), cardBody(row, data.runs[run], run)));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  locate(run);
  const plot = dialog.querySelector(".plot");
  if (plot) drawCard(plot, data.runs[run]);
}

function cardTop(row, current) {
  const close = h("button", { type: "button", class: "close", autofocus: true, onclick: () => document.getElementById("card").close() }, "Close");
  const seeds = row.runs.map((id) => h("button", { type: "button", "aria-pressed": String(id === current), onclick: () => openCard(row, id) }, `seed ${data.runs[id].seed}`));
  return h("div", {}, h("div", { class: "top" }, h("div", {}, h("h2", { id: "card-title" }, row.method), h("p", {}, h("small", {}, `${state.table.dataset}, run `, h("code", {}, current)))), close),
    h("div", { class: "seeds" }, seeds), h("p", { style: "margin-top:.6rem" }, cardMarks(row, data.runs[current])));
}

function cardMarks(row, run) {
  const shown = run.training.undertrained ? [markOf("undertrained: its budget ended while validation was still improving")] : [];
  return [...shown, ...row.marks.filter((mark) => !mark.startsWith("undertrained")).map(markOf)];
}

function list(entries) {
  const kept = entries.filter(([, value]) => value != null && value !== "" && value !== "undefined");
  return h("dl", {}, kept.map(([name, value]) => h("div", { class: String(value).length > 34 ? "long" : "" }, h("dt", {}, name), h("dd", {}, String(value)))));
}

function cardBody(row, run, id) {
  const environment = data.environments[run.environment], code = environment.code ?? {}, hardware = environment.hardware ?? {};
  const training = run.training;
  const sections = [];
  for (const [protocol, figures] of Object.entries(run.figures)) {
    sections.push(h("h3", {}, `Metrics, ${protocol}`), list(Object.entries(figures).map(([name, value]) => [name, figure(value)])));
  }
  if (Object.keys(run.curve).length) sections.push(h("h3", {}, "Learning curve"), h("div", { class: "plot" }));
  sections.push(
    h("h3", {}, "Training"),
    list([
      ["epochs", training.epochs],
      ["steps", training.steps],
      ["stopped by", training.stopped],
      // Stored as Lightning counts, from 0; the number of epochs, and curves here, count from 1.
      ["best epoch", training.epochs ? training.best_epoch + 1 : ""],
      [training.monitor ?? "monitor", training.best == null ? "" : figure(training.best)],
      ["undertrained", training.undertrained ? "yes" : "no"],
    ]),
    h("h3", {}, "Cost"),
    list([
      ...Object.entries(run.seconds).map(([name, value]) => [name.replaceAll("_", " "), duration(value)]),
      ...Object.entries(run.parameters).map(([name, value]) => [`${name} parameters`, number(value)]),
      ...Object.entries(run.memory).filter(([, value]) => value)
        .map(([name, value]) => [`peak memory, ${name}`, compact(value / 2 ** 20) + " MiB"]),
      ...Object.entries(run.tuning).map(([name, value]) => [`tuning ${name}`, value]),
    ]),
    h("h3", {}, "Protocol"), list(Object.entries(state.table.fields).concat([["protocol id", state.table.id]])),
    h("h3", {}, "Origin"),
    list([
      ["run folder", run.path],
      ["commit", code.sha ? code.sha.slice(0, 12) + (code.dirty ? " with uncommitted changes" : "") : "installed package"],
      ["language model", run.language_model],
      ...Object.entries(run.predecessors).map(([name, value]) => [`built on ${name}`, value]),
      ["processor", hardware.processor],
      ["cores", hardware.cores],
      ["accelerators", (hardware.gpus ?? []).join(", ") || "none"],
    ]),
    h("h3", {}, "Versions"), list(Object.entries(environment.versions ?? {})),
  );
  if (run.config) sections.push(h("h3", {}, "Configuration"), h("details", {}, h("summary", {}, `config.yaml of ${id}`), h("pre", { tabindex: 0 }, run.config)));
  return h("div", {}, sections);
}

function drawCard(box, run) {
  const traces = curveTraces(run, "run", palette()[0], {}).map((trace) => {
    const loss = trace.series === "train/loss";
    const line = { ...trace.line, color: loss ? colour("faint") : palette()[0] };
    return { ...trace, name: trace.series, yaxis: loss ? "y2" : "y", line };
  });
  const title = { text: "train/loss", font: { size: 12, color: colour("muted") } };
  draw(box, traces, {
    height: 240, showlegend: true, legend: { orientation: "h", y: 1.2 },
    xaxis: { title: "epoch" }, yaxis: { title: run.training.monitor },
    yaxis2: { overlaying: "y", side: "right", showgrid: false, automargin: true, title },
  });
}
