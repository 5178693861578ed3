// One tile per client: what it does, how far it is, and in words what it waits for.

import { get, path, post } from "./api.js";
import { button, confirm, dialog, empty, h, keyed, memo, replace, setAttr, setText, toast } from "./dom.js";
import { byName, clock, metric, metricName, number, plural } from "./format.js";

// The sign tells states apart without colours.
export const STATES = {
  training: ["▶", "Training"], evaluating: ["◆", "Evaluating"], receiving: ["↓", "Receiving"], sending: ["↑", "Sending"],
  waiting: ["‖", "Waiting"], idle: ["○", "Idle"], silent: ["?", "Silent"], lost: ["✕", "Lost"], failed: ["✕", "Failed"], done: ["✓", "Done"],
};
const ORDER = ["failed", "lost", "silent"];

export function view(root, { store }) {
  let only = "";
  const counts = h("div", { class: "filters", role: "group", "aria-label": "Filter by state" });
  const tiles = h("div", { class: "tiles" });
  const nothing = h("div", {});
  const lines = h("ol", { class: "log", tabindex: "0", "aria-label": "What happened" });
  const logCard = h("section", { class: "card" }, h("h2", {}, "What happened"), lines);
  root.append(h("div", { class: "view-head" }, h("h1", {}, "Machines"), counts), nothing, tiles, logCard);

  const drawCounts = memo((pairs, total) => {
    replace(counts, total ? [["", total], ...pairs].map(([state, count]) =>
      button(state ? `${STATES[state]?.[0] ?? ""} ${STATES[state]?.[1] ?? state} ${count}` : `All ${count}`, () => {
        only = only === state ? "" : state;
        drawTiles();
      }, { class: "chip", "aria-pressed": String(only === state), "data-state": state })) : null);
  });

  function drawTiles() {
    const all = Object.values(store.shown.clients);
    const found = new Map();
    for (const each of all) found.set(each.state, (found.get(each.state) ?? 0) + 1);
    if (only && !found.has(only)) only = "";
    drawCounts([...found].sort((a, b) => rank(a[0]) - rank(b[0])), all.length);
    for (const chip of counts.children) setAttr(chip, "aria-pressed", String(chip.dataset.state === only));
    const shown = all.filter((each) => !only || each.state === only)
      .sort((a, b) => trouble(a.state) - trouble(b.state) || byName(a.name, b.name));
    tiles.classList.toggle("compact", all.length > 16);
    tiles.classList.toggle("dense", all.length > 60);
    keyed(tiles, shown, (each) => each.name, (each) => tile(each.name, store), (node, each) => node.show(each));
    drawNothing(all.length === 0);
  }

  const drawNothing = memo((none) => {
    replace(nothing, none ? empty("No client takes part yet.", "The lobby shows how a machine joins.", h("a", { class: "button", href: "#/lobby" }, "Open the lobby")) : null);
  });

  function drawLog() {
    const shown = store.shown.log.slice(-200).reverse();
    logCard.hidden = !shown.length;
    keyed(lines, shown, (line) => `${line.at} ${line.client} ${line.text}`, logLine, () => {});
  }

  return {
    update(dirty) {
      if (dirty.has("all") || dirty.has("clients")) drawTiles();
      if (dirty.has("all") || dirty.has("log")) drawLog();
    },
  };
}

const trouble = (state) => (ORDER.includes(state) ? 0 : 1);
const rank = (state) => Object.keys(STATES).indexOf(state);

function logLine(line) {
  return h("li", { class: line.level }, h("time", {}, clock(line.at)), line.level === "info" ? null : h("span", { class: "level" }, line.level),
    line.client ? h("b", {}, line.client) : null, h("span", {}, line.text));
}

function tile(name, store) {
  const sign = h("span", { "aria-hidden": "true" }), word = h("span", {});
  const state = h("span", { class: "state" }, sign, " ", word);
  const says = h("p", { class: "says" }), where = h("p", { class: "where" }), numbers = h("p", { class: "numbers" }), machine = h("p", { class: "machine" });
  const bar = h("div", { class: "bar", role: "progressbar", "aria-label": `Progress of ${name}`, "aria-valuemin": "0", "aria-valuemax": "100" });
  const barFill = h("div", { class: "fill" });
  bar.append(barFill);
  const stop = store.teacher ? button("Stop", () => stopClient(name), { class: "small quiet", "aria-label": `Stop ${name}` }) : null;
  const node = h("article", { class: "tile", "aria-label": name },
    h("header", {}, h("h2", { title: name }, name), state), where, bar, says, numbers, machine,
    h("footer", {}, button("Log", () => showLog(name, store), { class: "small quiet", "aria-label": `Log of ${name}` }), stop));
  node.show = (each) => {
    setAttr(node, "data-state", each.state);
    const [mark, label] = STATES[each.state] ?? ["", each.state];
    setText(sign, mark);
    setText(word, label);
    setText(where, place(each));
    setText(says, each.says ?? "");
    barFill.style.transform = `scaleX(${Math.max(0, Math.min(1, each.progress ?? 0))})`;
    setAttr(bar, "aria-valuenow", Math.round((each.progress ?? 0) * 100));
    setText(numbers, figures(each));
    setText(machine, [each.backend, each.device, each.rows ? plural(each.rows, "row") : ""].filter(Boolean).join(" · "));
    if (stop) stop.hidden = Boolean(store.opened) || ["done", "lost", "failed"].includes(each.state);
  };
  return node;
}

function place(each) {
  const parts = [];
  if (each.round) parts.push(`Round ${each.round}`);
  if (each.fold) parts.push(`Fold ${each.fold}`);
  if (each.epoch) parts.push(`Epoch ${each.epoch}${each.epochs ? ` of ${each.epochs}` : ""}`);
  if (each.batch && each.batches) parts.push(`batch ${number(each.batch)} of ${number(each.batches)}`);
  return parts.map(whole).join(" · ");
}

/** A part of a line that is not broken. */
const whole = (text) => text.replaceAll(" ", "\u00a0");

function figures(each) {
  const parts = [];
  if (each.rate) parts.push(`${number(each.rate, 3)} samples/s`);
  for (const [name, value] of Object.entries(each.metrics ?? {}).slice(0, 2)) parts.push(`${metricName(name)} ${metric(name, value)}`);
  return parts.map(whole).join(" · ");
}

export async function stopClient(name) {
  if (!await confirm(`Stop ${name}?`, "It leaves the run. Its current task goes to another client, if one is connected.", "Stop the client")) return;
  try {
    await post(path("clients", name, "stop"));
    toast(`${name} is being stopped.`);
  } catch (error) {
    toast(error.text, "error");
  }
}

async function showLog(name, store) {
  const own = store.shown.log.filter((line) => line.client === name);
  const text = h("pre", { class: "lines", tabindex: "0" }, "Loading …");
  dialog(`Log of ${name}`, [
    own.length ? h("ol", { class: "log" }, own.slice(-100).map(logLine)) : h("p", { class: "muted" }, "No messages about this client."),
    h("h3", {}, "Its own log"), text], { wide: true });
  const run = store.shown.run?.run;
  try {
    setText(text, run ? (await get(path("runs", run, "log", name))) || "It is empty." : "There is no run yet.");
  } catch (error) {
    setText(text, error.text);
  }
}
