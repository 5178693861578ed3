// Distributed against one machine: whether distributing paid, and why.

import { get } from "./api.js";
import { comparison } from "./compare.js";
import { button, empty, h, replace, card } from "./dom.js";
import { seconds, isShare, metric, metricName } from "./format.js";

export function view(root, { store }) {
  let runs = [], chosen = null, turn = 0, seen = null;
  const controls = h("div", { class: "controls" }), place = h("div", {});
  root.append(h("div", { class: "view-head" }, h("h1", {}, "Distributed against one machine")), controls, place);

  async function load() {
    try {
      runs = (await get("/api/runs")).runs ?? [];
    } catch (error) {
      return replace(place, empty("The runs could not be loaded.", error.text, button("Try again", load)));
    }
    const pairs = runs.filter((run) => run.one_machine && runs.some((each) => each.run === run.one_machine));
    if (!pairs.length) {
      replace(controls);
      return replace(place, empty("No run was trained on one machine too.", "When you set up a run, choose “Train on one machine too”: the same model is trained on the same rows with the same budget, and both are shown here.", store.teacher ? h("a", { class: "button", href: "#/setup" }, "Set up a run") : null));
    }
    if (!pairs.some((run) => run.run === chosen)) chosen = pairs[0].run;
    replace(controls, h("label", { class: "control" }, h("span", { class: "control-label" }, "Run"), h("select", { on: { change: (e) => { chosen = e.target.value; show(); } } }, pairs.map((run) => h("option", { value: run.run, selected: run.run === chosen }, `${run.run} (${run.model})`)))));
    show();
  }

  async function show() {
    const mine = ++turn;
    const one = runs.find((run) => run.run === chosen).one_machine;
    let found;
    try {
      found = await get(`/api/compare?runs=${encodeURIComponent(chosen)},${encodeURIComponent(one)}&baseline=${encodeURIComponent(one)}`);
    } catch (error) {
      if (mine === turn) replace(place, empty("These runs can't be compared.", error.text));
      return;
    }
    if (mine !== turn) return;
    const many = found.runs.find((run) => run.run === chosen), single = found.runs.find((run) => run.run === one);
    single.label = "One machine";
    many.label = "Distributed";
    const speed = single.seconds && many.seconds ? single.seconds / many.seconds : null;
    const name = ["accuracy", "f1", "loss"].find((each) => many.metrics?.[each] !== undefined) ?? Object.keys(many.metrics ?? {})[0];
    replace(place,
      many.sentence ? h("p", { class: "verdict" }, many.sentence) : null,
      h("div", { class: "figures" },
        figure("Speed-up", speed ? `× ${speed.toFixed(2)}` : "–", "one machine's time by that of all"),
        name ? figure(metricName(name), `${metric(name, many.metrics[name])}`, `one machine: ${metric(name, single.metrics?.[name])}`) : null,
        figure("Wall time", seconds(many.seconds), `one machine: ${seconds(single.seconds)}`)),
      card("Time", {}, bars([["Distributed", many.seconds], ["One machine", single.seconds]], seconds)),
      comparison({ ...found, runs: [many, single] }));
    void isShare;
  }

  load();
  return {
    update() {
      const version = store.live.runs_changed;
      if (seen !== null && seen !== version) load();
      seen = version;
    },
  };
}

const figure = (name, value, more) => h("div", { class: "figure" }, h("p", { class: "figure-name" }, name), h("p", { class: "figure-value" }, value), h("p", { class: "figure-more" }, more));

function bars(rows, show) {
  const most = Math.max(...rows.map(([, value]) => value ?? 0)) || 1;
  return h("ul", { class: "plain bars" }, rows.map(([name, value]) => {
    const fill = h("div", { class: "fill" });
    fill.style.transform = `scaleX(${(value ?? 0) / most})`;
    return h("li", {}, h("span", {}, name), h("div", { class: "bar" }, fill), h("b", {}, show(value)));
  }));
}
