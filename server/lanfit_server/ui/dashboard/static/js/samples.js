// The same test rows throughout: what a model says of them, right or wrong, and how that changed.

import { Chart, color, seriesColor } from "./charts.js";
import { dialog, empty, h, keyed, memo, replace, setAttr, setText } from "./dom.js";
import { number, percent } from "./format.js";
import { Whose, whose } from "./whose.js";

export function view(root, { store }) {
  let at = null; // the chosen moment; null: the latest
  const chooser = new Whose(() => draw());
  const when = h("output", {});
  const slider = h("input", { type: "range", min: "0", step: "1", "aria-label": "Moment", on: { input: () => {
    at = Number(slider.value) >= Number(slider.max) ? null : Number(slider.value);
    draw();
  } } });
  const moment = h("label", { class: "control" }, h("span", { class: "control-label" }, "Moment"), h("span", { class: "range" }, slider, when));
  const score = h("p", { class: "score", "aria-live": "polite" });
  const cells = h("div", { class: "samples" });
  const nothing = h("div", {});
  root.append(h("div", { class: "view-head" }, h("h1", {}, "Samples"), score), h("div", { class: "controls" }, chooser.node, moment), nothing, cells);

  const drawNothing = memo((none) => {
    replace(nothing, none ? empty("No predictions yet.", "They appear after the first epoch or round, for the same test rows throughout the run.") : null);
  });

  function draw() {
    const samples = store.shown.samples;
    const name = chooser.choose(samples?.models);
    const model = name === null ? null : samples.models[name];
    const length = model?.at?.length ?? 0;
    drawNothing(!samples?.rows?.length);
    moment.hidden = length < 2;
    slider.max = String(Math.max(0, length - 1));
    if (at !== null && at >= length) at = null;
    const index = at ?? length - 1;
    slider.value = String(index);
    setText(when, length ? `${unit(store)} ${number(model.at[index])}${index === length - 1 ? ", the latest" : ""}` : "");
    setAttr(slider, "aria-valuetext", when.textContent);
    const classes = classesOf(store);
    let right = 0, judged = 0;
    keyed(cells, samples?.rows ?? [], (row) => row.id, () => cell((row) => details(row.id)), (node, row) => {
      const told = predict(row, model?.probabilities?.[row.id]?.[index], classes);
      if (told.right !== null) judged += 1;
      if (told.right) right += 1;
      node.show(row, told);
    });
    setText(score, judged ? `${right} of ${judged} right` : "");
  }

  function details(id) {
    const samples = store.shown.samples;
    const row = samples.rows.find((each) => each.id === id);
    const chosen = chooser.choose(samples.models);
    showRow(store, row, chosen, at);
  }

  return {
    update(dirty) {
      if (dirty.has("all") || dirty.has("samples") || dirty.has("run")) draw();
    },
  };
}

/** The names of the classes; null if the model gives values. */
const classesOf = (store) => store.shown.samples?.classes ?? store.shown.run?.classes ?? null;

const unit = (store) => store.shown.run?.method === "federated" ? "Round" : "Epoch";

/** What the model says of a row: with classes the most probable one, otherwise values. */
export function predict(row, probabilities, classes) {
  if (!probabilities) return { text: "–", more: "", right: null };
  if (!classes) return { text: probabilities.slice(0, 3).map((each) => number(each, 3)).join(", "), more: "", right: null };
  let best = 0, probability;
  if (probabilities.length === 1 && classes.length === 2) {
    best = probabilities[0] >= 0.5 ? 1 : 0;
    probability = best ? probabilities[0] : 1 - probabilities[0];
  } else {
    probabilities.forEach((each, i) => { if (each > probabilities[best]) best = i; });
    probability = probabilities[best];
  }
  const text = classes[best] ?? String(best);
  return { text, more: percent(probability, 0), right: String(text) === String(row.truth), best };
}

export function pictureOf(row) {
  if (row.picture) return h("img", { class: "pixels", src: row.picture, alt: "", width: "64", height: "64" });
  const values = (row.values ?? []).slice(0, 4).map((each) => number(each, 3));
  return h("div", { class: "values" }, values.map((each) => h("span", {}, each)), (row.values?.length ?? 0) > 4 ? h("span", {}, "…") : null);
}

function cell(open) {
  const picture = h("div", { class: "picture" }), sign = h("span", { class: "sign", "aria-hidden": "true" });
  const says = h("span", { class: "prediction" }), more = h("span", { class: "probability" }), truth = h("span", { class: "truth" });
  const node = h("button", { type: "button", class: "sample", on: { click: () => open(node.row) } }, picture, sign, h("span", { class: "answer" }, says, more), truth);
  node.show = (row, told) => {
    if (node.row?.picture !== row.picture || node.row?.id !== row.id || !picture.firstChild) replace(picture, pictureOf(row));
    node.row = row;
    setAttr(node, "data-right", told.right === null ? null : String(told.right));
    setText(sign, told.right === null ? "" : told.right ? "✓" : "✗");
    setText(says, told.text);
    setText(more, told.more);
    setText(truth, told.right === false || told.right === null ? `is ${row.truth}` : "");
    setAttr(node, "aria-label", `Row ${row.id}: is ${row.truth}, predicted ${told.text} ${told.more}${told.right === null ? "" : told.right ? ", right" : ", wrong"}`);
  };
  return node;
}

function showRow(store, row, name, at) {
  const model = name === null ? null : store.shown.samples.models[name];
  const history = model?.probabilities?.[row.id] ?? [];
  const index = at ?? history.length - 1;
  const latest = history[index] ?? [];
  const classes = classesOf(store);
  const labels = latest.length === 1 && classes?.length === 2 ? [classes[1]] : latest.map((_, i) => classes?.[i] ?? `Output ${i + 1}`);
  const told = predict(row, latest, classes);
  const chart = new Chart(classes ? "Probability of each class over time" : "Outputs over time");
  const bars = h("ol", { class: "probabilities" }, latest.map((value, i) => [value, i]).sort((a, b) => b[0] - a[0]).map(([value, i]) => {
    const fill = h("div", { class: "fill" });
    fill.style.transform = `scaleX(${classes ? Math.max(0, Math.min(1, value)) : 0})`;
    return h("li", { class: String(labels[i]) === String(row.truth) ? "true" : "" }, h("span", { class: "class-name" }, labels[i], String(labels[i]) === String(row.truth) ? h("span", { class: "tag" }, "truth") : null),
      classes ? h("div", { class: "bar" }, fill) : null, h("span", { class: "class-value" }, classes ? percent(value) : number(value)));
  }));
  const keys = h("div", { class: "keys" });
  const node = dialog(`Row ${row.id}`, h("div", { class: "row-details" },
    h("div", { class: "row-picture" }, pictureOf(row),
      h("p", {}, "Truth: ", h("b", {}, row.truth)),
      h("p", { class: told.right === null ? "" : told.right ? "right" : "wrong" }, "Prediction: ", h("b", {}, told.text), told.more ? ` (${told.more})` : "", told.right === null ? "" : told.right ? " ✓" : " ✗"),
      h("p", { class: "muted" }, whose(name ?? ""))),
    h("div", {}, h("h3", {}, classes ? "Probability of each class" : "Outputs"), bars),
    h("div", { class: "row-history" }, h("h3", {}, "How it changed"), chart.node, keys, h("p", { class: "muted" }, "The true class is the strong line. Classes with a low probability throughout are left out."))), { wide: true });
  const top = labels.map((label, i) => ({ label: String(label), i, most: Math.max(0, ...history.map((each) => each?.[i] ?? 0)) }))
    .sort((a, b) => (b.label === String(row.truth)) - (a.label === String(row.truth)) || b.most - a.most).slice(0, 6);
  replace(keys, top.map(({ label }, n) => {
    const swatch = h("i", { "aria-hidden": "true" });
    swatch.style.background = label === String(row.truth) ? color("good") : seriesColor(n);
    return h("span", { class: "key" }, swatch, label);
  }));
  chart.draw({
    lines: top.map(({ label, i }, n) => ({
      label, color: label === String(row.truth) ? color("good") : seriesColor(n), width: label === String(row.truth) ? 3 : 1.5,
      points: history.map((each, t) => [model.at[t], each?.[i]]).filter(([, y]) => y !== undefined),
    })), x: unit(store), height: 200, share: Boolean(classes), format: classes ? (value) => percent(value, 0) : undefined,
  });
  node.addEventListener("close", () => chart.destroy());
}
