// Runs side by side, one of them as the baseline.

import { get } from "./api.js";
import { Chart, seriesColor } from "./charts.js";
import { button, card, empty, h, replace, segmented, table } from "./dom.js";
import { bytes, isShare, metric, metricName, number, percent, seconds } from "./format.js";

export function view(root, { store }) {
  const query = decodeURIComponent(location.hash).split("?")[1];
  let chosen = query ? query.split(",") : [], baseline = chosen[0] ?? "", known = [], metricShown = "", partShown = "validation", turn = 0;
  const picker = h("div", {}), result = h("div", {});
  const chart = new Chart("Curves of the runs");
  root.append(h("div", { class: "view-head" }, h("h1", {}, "Compare")), h("div", { class: "with-side left" }, picker, result));

  async function load() {
    try {
      known = (await get("/api/runs")).runs ?? [];
    } catch (error) {
      replace(result, empty("The runs could not be loaded.", error.text, button("Try again", load)));
      return;
    }
    chosen = chosen.filter((name) => known.some((run) => run.run === name));
    if (!chosen.includes(baseline)) baseline = chosen[0] ?? "";
    drawPicker();
    compare();
  }

  function drawPicker() {
    replace(picker, h("fieldset", { class: "card side picker" }, h("legend", {}, "Runs"),
      known.length ? h("ul", { class: "plain" }, known.map((run) => h("li", { class: "pick" },
        h("label", {}, h("input", { type: "checkbox", checked: chosen.includes(run.run), on: { change: (e) => pick(run.run, e.target.checked) } }), h("span", {}, run.run, h("small", {}, [run.model, run.method].filter(Boolean).join(" · ")))),
        chosen.includes(run.run) ? h("label", { class: "baseline" }, h("input", { type: "radio", name: "baseline", checked: run.run === baseline, "aria-label": `${run.run} is the baseline`, on: { change: () => { baseline = run.run; compare(); } } }), h("span", {}, "baseline")) : null))) : h("p", { class: "muted" }, "There are no stored runs yet.")));
  }

  function pick(name, on) {
    chosen = on ? [...chosen, name] : chosen.filter((each) => each !== name);
    if (!chosen.includes(baseline)) baseline = chosen[0] ?? "";
    drawPicker();
    [...picker.querySelectorAll("input[type=checkbox]")][known.findIndex((run) => run.run === name)]?.focus();
    compare();
  }

  async function compare() {
    if (!chosen.length) return replace(result, empty("Choose runs to compare.", "The first one is the baseline of the comparison."));
    const mine = ++turn;
    let found;
    try {
      found = await get(`/api/compare?runs=${chosen.map(encodeURIComponent).join(",")}&baseline=${encodeURIComponent(baseline)}`);
    } catch (error) {
      if (mine === turn) replace(result, empty("These runs can't be compared.", error.text));
      return;
    }
    if (mine === turn) draw(found);
  }

  function draw(found) {
    const sentences = found.runs.map((run) => run.sentence).filter(Boolean);
    replace(result, sentences.map((text) => h("p", { class: "verdict" }, text)), comparison(found), curves(found), differences(found));
    drawChart(found);
  }

  function curves(found) {
    const metrics = [...new Set(Object.values(found.curves ?? {}).flatMap((series) => list(series).map((each) => each.metric)))].filter((name) => name !== "learning_rate");
    if (!metrics.length) return null;
    if (!metrics.includes(metricShown)) metricShown = metrics.includes("accuracy") ? "accuracy" : metrics[0];
    return card("Curves", {}, h("div", { class: "controls" },
      h("label", { class: "control" }, h("span", { class: "control-label" }, "Metric"), h("select", { on: { change: (e) => { metricShown = e.target.value; drawChart(found); } } }, metrics.map((name) => h("option", { value: name, selected: name === metricShown }, metricName(name))))),
      segmented("Part", [["training", "Training"], ["validation", "Validation"]], partShown, (part) => { partShown = part; drawChart(found); })), chart.node,
    h("div", { class: "keys" }, found.runs.map((run, i) => {
      const line = h("i", { "aria-hidden": "true" });
      line.style.background = seriesColor(i);
      return h("span", { class: "key" }, line, run.run);
    })));
  }

  function drawChart(found) {
    const lines = found.runs.map((run, i) => {
      const fitting = list(found.curves?.[run.run]).filter((each) => each.metric === metricShown && (partShown === "training") === (each.part === "training") && each.per !== "batch" && each.points.length);
      const best = fitting.find((each) => each.client === "") ?? fitting[0];
      return best && { label: run.run, points: best.points, color: seriesColor(i), width: run.run === found.baseline ? 3.5 : 2.25 };
    }).filter(Boolean);
    chart.draw({ lines, x: "Epoch or round", share: isShare(metricShown), format: isShare(metricShown) ? (value) => percent(value, 1) : (value) => number(value, 3) });
  }

  load();
  return {
    update(dirty) { if (dirty.has("theme")) compare(); },
    leave: () => chart.destroy(),
  };
}

const list = (series) => Array.isArray(series) ? series : Object.values(series ?? {});

/** The table of metrics, with differences to the baseline. */
export function comparison(found) {
  const names = [...new Set(found.runs.flatMap((run) => Object.keys(run.metrics ?? {})))];
  const head = [h("td", {}), ...found.runs.map((run) => h("th", { scope: "col", class: "number" }, run.label ?? run.run, run.run === found.baseline ? h("span", { class: "tag" }, "baseline") : null))];
  const line = (label, show, name) => [h("th", { scope: "row" }, label), ...found.runs.map((run) => h("td", { class: "number" }, show(run), run.run === found.baseline ? null : difference(run, name)))];
  return card("Results", {}, table("Results of the runs", head, [
    ...names.map((name) => line(metricName(name), (run) => metric(name, run.metrics?.[name]), name)),
    line("Wall time", (run) => seconds(run.seconds), "seconds"),
    line("Sent and received", (run) => bytes(run.bytes), "bytes"),
  ], { class: "comparison" }));
}

function difference(run, name) {
  const diff = run.diff?.[name];
  if (!diff) return null;
  const sign = (value) => (value > 0 ? "+" : value < 0 ? "−" : "±");
  const parts = [];
  if (isShare(name) && typeof diff.points === "number") parts.push(`${sign(diff.points)}${Math.abs(diff.points).toFixed(2)} points`);
  if (typeof diff.percent === "number") parts.push(`${sign(diff.percent)}${Math.abs(diff.percent).toFixed(1)} %`);
  return parts.length ? h("small", { class: "diff" }, parts.join(", ")) : null;
}

function differences(found) {
  if (!found.settings) return null;
  return card("Settings that differ", {}, found.settings.length
    ? table("Settings that differ", ["Setting", ...found.runs.map((run) => run.run)], found.settings.map((each) => [h("th", { scope: "row" }, each.key.replaceAll("_", " ")), ...found.runs.map((run) => { const value = each.values[run.run]; return value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value); })]))
    : h("p", { class: "muted" }, "All settings are the same."));
}
