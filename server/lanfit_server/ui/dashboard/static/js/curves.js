// Curves: each client faint, the model of all strong; training solid, validation dashed.

import { Chart, color, seriesColor, smooth } from "./charts.js";
import { empty, h, keyed, memo, replace, segmented, setAttr, setText, toggle } from "./dom.js";
import { byName, isShare, left, metric, metricName, methodName, number, percent, plural, seconds, short } from "./format.js";

const PER = [["epoch", "Epoch"], ["round", "Round"], ["batch", "Batch"]];
const FEW = 8; // clients with colours of their own; beyond, one quiet colour is easier to read
const FIRST = ["loss", "accuracy", "sparse_categorical_accuracy", "precision", "recall", "f1"];

// The lines of the model of all.
const COLORS = { training: "accent", validation: "accent-2", test: "good" };
const DASHES = { validation: [6, 4], test: [2, 3] };

// What was chosen stays while the page is open.
const chosen = { per: "", log: false, smooth: 0, training: true, validation: true, test: true, clients: true, hidden: new Set() };

export function view(root, { store }) {
  const charts = new Map();
  const cards = h("div", { class: "figures", "aria-live": "off" });
  const controls = h("div", { class: "controls" });
  const plots = h("div", { class: "plots" });
  const names = h("div", { class: "legend" });
  const nothing = h("div", {});
  root.append(h("div", { class: "view-head" }, h("h1", {}, "Curves")), cards, controls, nothing, plots, names);
  let pers = [];

  const drawControls = memo((available, tests) => {
    pers = PER.filter(([per]) => available.includes(per));
    if (!available.includes(chosen.per)) chosen.per = available.includes("round") ? "round" : available.includes("epoch") ? "epoch" : available[0] ?? "";
    const shownSmooth = h("output", {}, `${Math.round(chosen.smooth * 100)} %`);
    replace(controls, !available.length ? null : [
      pers.length > 1 ? segmented("Per", pers, chosen.per, (value) => { chosen.per = value; draw(); }) : null,
      segmented("Loss axis", [["linear", "Linear"], ["log", "Log"]], chosen.log ? "log" : "linear", (value) => { chosen.log = value === "log"; draw(); }),
      h("label", { class: "control" }, h("span", { class: "control-label" }, "Smoothing"),
        h("span", { class: "range" }, h("input", { type: "range", min: "0", max: "0.95", step: "0.05", value: chosen.smooth, on: { input: (e) => { chosen.smooth = Number(e.target.value); setText(shownSmooth, `${Math.round(chosen.smooth * 100)} %`); draw(); } } }), shownSmooth)),
      h("div", { class: "control" }, h("span", { class: "control-label" }, "Show"), h("div", { class: "toggles" },
        toggle("Training", chosen.training, (on) => { chosen.training = on; draw(); }),
        toggle("Validation", chosen.validation, (on) => { chosen.validation = on; draw(); }),
        tests ? toggle("Test", chosen.test, (on) => { chosen.test = on; draw(); }) : null,
        toggle("Clients", chosen.clients, (on) => { chosen.clients = on; draw(); }))),
    ]);
  });

  function draw() {
    const all = Object.values(store.shown.series).filter((each) => each.points.length);
    drawControls(["epoch", "round", "batch"].filter((per) => all.some((each) => each.per === per && each.metric !== "learning_rate")), all.some((each) => each.part === "test"));
    const clients = [...new Set(all.map((each) => each.client).filter(Boolean))].sort(byName);
    const rates = all.filter((each) => each.metric === "learning_rate");
    const per = (rates.find((each) => each.per === chosen.per) ?? rates[0])?.per; // of the rate: one axis
    const shown = all.filter((each) => each.per === (each.metric === "learning_rate" ? per : chosen.per));
    const metrics = [...new Set(shown.map((each) => each.metric))].sort((a, b) => order(a) - order(b) || byName(a, b));
    keyed(plots, metrics, (name) => name, (name) => {
      const chart = new Chart(`${metricName(name)} over time`);
      charts.set(name, chart);
      return h("section", { class: `card chart ${name === "learning_rate" ? "small-chart" : ""}` },
        h("h2", {}, metricName(name), h("span", { class: "per" })), chart.node);
    }, (node, name) => setText(node.querySelector(".per"), ` per ${unit(name, shown).toLowerCase()}`));
    for (const [name, chart] of charts) {
      if (!metrics.includes(name)) {
        chart.destroy();
        charts.delete(name);
      } else chart.draw(spec(name, shown.filter((each) => each.metric === name), clients));
    }
    drawLegend(clients, [...chosen.hidden], clients.length > FEW, [...new Set(all.filter((each) => !each.client).map((each) => each.part))].sort(), strongName(store), color("text"));
    drawNothing(!all.length);
  }

  function spec(name, series, clients) {
    const faint = [], strong = [];
    const parts = new Set(series.filter((each) => each.client === "").map((each) => each.part));
    for (const each of series) {
      if (!chosen[each.part] && name !== "learning_rate") continue;
      const training = each.part === "training" || name === "learning_rate";
      const line = { points: smooth(each.points, name === "learning_rate" ? 0 : chosen.smooth), dash: training ? undefined : [6, 4] };
      if (each.client === "") {
        // A single line of the model of all is in the accent colour; several differ in colour and dashes.
        const alone = parts.size === 1;
        strong.push({ ...line, dash: alone ? undefined : DASHES[each.part], label: name === "learning_rate" ? metricName(name) : `${strongName(store)}, ${each.part}`, color: color(alone ? "accent" : COLORS[each.part]), width: 3 });
      } else if (chosen.clients && !chosen.hidden.has(each.client)) {
        const index = clients.indexOf(each.client);
        const few = clients.length <= FEW;
        faint.push({ ...line, label: `${each.client}${each.fold ? `, fold ${each.fold}` : ""}${name === "learning_rate" ? "" : `, ${each.part}`}`, color: few ? seriesColor(index) : color("faint"), width: 1.25, alpha: few ? 0.75 : Math.max(0.2, 0.55 - clients.length / 150) });
      }
    }
    if (!strong.length && name !== "learning_rate") strong.push(...means(series));
    const rate = name === "learning_rate";
    return {
      lines: [...faint, ...strong], log: rate ? false : chosen.log && !isShare(name), share: isShare(name),
      x: unit(name, series), height: rate ? 180 : innerWidth < 600 ? 240 : innerHeight > 900 ? 380 : 300,
      format: isShare(name) ? share : (value) => number(value, 3),
    };
  }

  /** What a chart counts on its x axis. */
  function unit(name, series) {
    const per = name === "learning_rate" ? series.find((each) => each.metric === name)?.per ?? "epoch" : chosen.per;
    return PER.find(([each]) => each === per)?.[1] ?? "";
  }

  /** The mean of the clients, where there is no model of all. */
  function means(series) {
    const lines = [];
    for (const part of ["training", "validation"]) {
      if (!chosen[part]) continue;
      const own = series.filter((each) => each.part === part && each.client);
      if (own.length < 2) continue;
      const sums = new Map();
      for (const { points } of own) for (const [x, y] of points) {
        const sum = sums.get(x) ?? sums.set(x, [0, 0]).get(x);
        sum[0] += y;
        sum[1] += 1;
      }
      const points = [...sums].filter(([, [, count]]) => count > own.length / 2).map(([x, [sum, count]]) => [x, sum / count]).sort((a, b) => a[0] - b[0]);
      lines.push({ points: smooth(points, chosen.smooth), label: `Mean of clients, ${part}`, color: color(part === "training" ? "accent" : "accent-2"), width: 3, dash: part === "training" ? undefined : [6, 4] });
    }
    return lines;
  }

  const drawLegend = memo((clients, hidden, many, parts, strong) => {
    const swatch = (name, kind) => h("span", { class: `key ${kind}` }, h("i", { "aria-hidden": "true" }), name);
    replace(names,
      h("div", { class: "keys" }, parts.length > 1 ? parts.map((part) => swatch(`${strong}, ${part}`, `strong ${part}`)) : swatch(parts.length ? `${strong}, ${parts[0]}` : "Mean of clients", "strong"), swatch("A client, training", "faint"), swatch("A client, validation", "faint dashed")),
      clients.length ? h("div", { class: "filters", role: "group", "aria-label": "Clients shown" }, clients.map((name, index) => {
        const dot = h("i", { class: "dot", "aria-hidden": "true" });
        dot.style.background = many ? color("faint") : seriesColor(index);
        return h("button", { type: "button", class: "chip", "aria-pressed": String(!hidden.includes(name)), on: { click: (e) => {
          if (chosen.hidden.has(name)) chosen.hidden.delete(name);
          else chosen.hidden.add(name);
          setAttr(e.currentTarget, "aria-pressed", String(!chosen.hidden.has(name)));
          draw();
          names.querySelectorAll(".chip")[index]?.focus();
        } } }, dot, name);
      })) : null);
  });

  const drawNothing = memo((none) => {
    replace(nothing, none ? empty("No curves yet.", "They begin with the first trained batch.") : null);
  });

  function drawCards() {
    const { run, clients } = store.shown;
    const shown = [];
    if (run) {
      const going = run.state !== "ended";
      shown.push([going ? "Progress" : "State", going ? `${Math.round((run.progress ?? 0) * 100)} %` : run.status || "ended", going ? (run.paused ? "paused" : left(run.seconds_left)) : run.seconds ? `in ${seconds(run.seconds)}` : methodName(run.method)]);
      for (const [name, value] of Object.entries(run.metrics ?? {}).filter(([, value]) => typeof value === "number").sort((a, b) => order(a[0]) - order(b[0])).slice(0, 5)) shown.push([metricName(name), metric(name, value), going ? run.round ? `after round ${run.round}` : "" : "on the test rows"]);
      const working = Object.values(clients).filter((each) => ["training", "receiving", "evaluating", "sending"].includes(each.state));
      const rate = working.reduce((sum, each) => sum + (each.rate ?? 0), 0);
      if (going && Object.keys(clients).length) shown.push(["At work", `${working.length} of ${Object.keys(clients).length}`, rate ? `${short(rate)} samples/s` : ""]);
      if (run.learning_rate) shown.push(["Learning rate", number(run.learning_rate), run.changes?.length ? plural(run.changes.length, "change") : ""]);
    }
    keyed(cards, shown, (each) => each[0], (each) => h("div", { class: "figure" }, h("p", { class: "figure-name" }, each[0]), h("p", { class: "figure-value" }), h("p", { class: "figure-more" })), (node, each) => {
      setText(node.children[1], each[1]);
      setText(node.children[2], each[2]);
    });
  }

  return {
    update(dirty) {
      if (dirty.has("all") || dirty.has("series") || dirty.has("theme")) draw();
      if (dirty.has("all") || dirty.has("run") || dirty.has("clients")) drawCards();
    },
    leave() {
      for (const chart of charts.values()) chart.destroy();
    },
  };
}

/** What the strong lines are. */
const strongName = (store) => store.shown.run?.rounds ? "Model of all" : "Mean of clients";

/** Ticks need no digits that are all zero. */
const share = (value) => percent(value, Math.abs(value * 100 - Math.round(value * 100)) < 1e-6 ? 0 : 1);

const order = (name) => {
  if (name === "learning_rate") return 100;
  const at = FIRST.indexOf(name);
  return at < 0 ? 50 : at;
};
