// Who did what when: one lane per client, drawn on a canvas, and the sums as a table.

import { color } from "./charts.js";
import { card, empty, h, memo, replace, setText, table } from "./dom.js";
import { byName, plural, seconds } from "./format.js";

// In the order of a client's work. The server's own work has a lane of its own.
const KINDS = [["receive", "Receive"], ["import", "Import"], ["compile", "Compile"], ["train", "Train"], ["validate", "Validate"], ["send", "Send"], ["wait", "Wait"], ["evaluate", "Evaluate"], ["aggregate", "Aggregate"]];
const NAMES = Object.fromEntries(KINDS);

export function view(root, { store }) {
  let round = "", view = null, drawn = null;
  const controls = h("div", { class: "controls" });
  const canvas = h("canvas", { role: "img", tabindex: "0" });
  const tip = h("div", { class: "plot-tip", hidden: true });
  const frame = h("div", { class: "plot-frame lanes" }, canvas, tip);
  const keys = h("div", { class: "keys" });
  const where = h("p", { class: "muted" });
  const nothing = h("div", {}), sums = h("div", {});
  const main = h("section", { class: "card" }, keys, frame, where);
  root.append(h("div", { class: "view-head" }, h("h1", {}, "Timeline")), controls, nothing, main, sums);

  const drawControls = memo((rounds) => {
    if (!rounds.includes(Number(round))) round = "";
    replace(controls, rounds.length > 1 ? h("label", { class: "control" }, h("span", { class: "control-label" }, "Round"),
      h("select", { on: { change: (e) => { round = e.target.value; view = null; draw(); } } },
        h("option", { value: "" }, "All rounds"), rounds.map((each) => h("option", { value: each, selected: String(each) === round }, `Round ${each}`)))) : null,
    h("div", { class: "control" }, h("span", { class: "control-label" }, "Zoom"), h("div", { class: "line" },
      ...[["−", "Zoom out", 2], ["+", "Zoom in", 0.5]].map(([sign, name, factor]) => h("button", { type: "button", "aria-label": name, on: { click: () => zoom(factor) } }, sign)),
      h("button", { type: "button", on: { click: () => { view = null; draw(); } } }, "All"))));
  });
  const drawNothing = memo((none) => {
    replace(nothing, none ? empty("No timeline yet.", "It shows the measured activities of each client over time.") : null);
    main.hidden = none;
  });
  const drawKeys = memo((kinds) => {
    replace(keys, kinds.map((kind) => {
      const swatch = h("i", { "aria-hidden": "true" });
      swatch.style.background = color(`span-${kind}`);
      return h("span", { class: "key block" }, swatch, NAMES[kind] ?? kind);
    }));
  });
  const drawSums = memo((clients, kinds, totals) => {
    replace(sums, clients.length ? card("Seconds of each", {}, table("Seconds that each client spent", ["Client", ...kinds.map((kind) => h("th", { scope: "col", class: "number" }, NAMES[kind] ?? kind))],
      clients.map((name, i) => [h("th", { scope: "row" }, name || "Server"), ...totals[i].map((value) => h("td", { class: "number" }, value ? seconds(value) : "–"))]))) : null);
  });

  function draw() {
    const all = store.shown.timeline;
    drawControls([...new Set(all.map((span) => span.round).filter((each) => each !== null && each !== undefined))].sort((a, b) => a - b));
    const spans = round === "" ? all : all.filter((span) => String(span.round) === round);
    drawNothing(!spans.length);
    if (!spans.length) return replace(sums);
    const clients = [...new Set(spans.map((span) => span.client))].sort((a, b) => (a === "" ? -1 : b === "" ? 1 : byName(a, b)));
    const kinds = KINDS.map(([kind]) => kind).filter((kind) => spans.some((span) => span.what === kind));
    drawKeys(kinds, color("text"));
    const totals = clients.map(() => kinds.map(() => 0));
    for (const span of spans) totals[clients.indexOf(span.client)][kinds.indexOf(span.what)] += span.to - span.from;
    drawSums(clients, kinds, totals.map((row) => row.map((each) => Math.round(each * 100) / 100)));
    let low = Infinity, high = -Infinity;
    for (const span of spans) {
      low = Math.min(low, span.from);
      high = Math.max(high, span.to);
    }
    paint(spans, clients, { low, high: Math.max(high, low + 1e-3) });
  }

  function paint(spans, clients, whole) {
    const shown = view ?? whole;
    const lane = clients.length > 40 ? 14 : clients.length > 12 ? 20 : 30;
    const names = Math.min(150, Math.max(60, ...clients.map((name) => (name || "Server").length * 7.5 + 14)));
    const width = frame.clientWidth, height = clients.length * lane + 26;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const ctx = canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    const x = (at) => names + (at - shown.low) / (shown.high - shown.low) * (width - names);
    ctx.font = `${lane < 20 ? 10 : 12}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    const step = nice((shown.high - shown.low) / Math.max(2, (width - names) / 90));
    for (let at = Math.ceil(shown.low / step) * step; at <= shown.high; at += step) {
      ctx.fillStyle = color("line");
      ctx.fillRect(x(at), 0, 1, height - 20);
      ctx.fillStyle = color("muted");
      ctx.fillText(label(at, step), Math.min(x(at) + 2, width - 36), height - 10);
    }
    const colors = Object.fromEntries(KINDS.map(([kind]) => [kind, color(`span-${kind}`)]));
    for (const span of spans) {
      const row = clients.indexOf(span.client), from = Math.max(names, x(span.from)), to = Math.min(width, x(span.to));
      if (to < names || from > width) continue;
      ctx.fillStyle = colors[span.what] ?? color("muted");
      const thin = span.what === "wait" ? lane * 0.3 : 2;
      ctx.fillRect(from, row * lane + thin, Math.max(to - from, 0.75), lane - 2 * thin);
    }
    ctx.fillStyle = color("card");
    ctx.fillRect(0, 0, names - 1, height);
    ctx.fillStyle = color("text");
    clients.forEach((name, row) => ctx.fillText(fit(ctx, name || "Server", names - 8), 0, row * lane + lane / 2));
    canvas.setAttribute("aria-label", `What ${plural(clients.length, "lane")} did from ${seconds(shown.low)} to ${seconds(shown.high)}. The table below has the sums.`);
    setText(where, `${seconds(shown.low)} to ${seconds(shown.high)} of ${seconds(whole.high)}. Drag or use the arrow keys to move, the wheel with Ctrl to zoom.`);
    drawn = { spans, clients, whole, shown, lane, names, width };
  }

  function zoom(factor, center = 0.5) {
    if (!drawn) return;
    const { whole, shown } = drawn;
    const span = Math.min(whole.high - whole.low, (shown.high - shown.low) * factor);
    move(shown.low + (shown.high - shown.low - span) * center, span);
  }

  function move(low, span) {
    const { whole } = drawn;
    const from = Math.max(whole.low, Math.min(low, whole.high - span));
    view = span >= whole.high - whole.low ? null : { low: from, high: from + span };
    draw();
  }

  canvas.addEventListener("keydown", (event) => {
    if (!drawn) return;
    const { shown } = drawn, span = shown.high - shown.low;
    const acts = { ArrowLeft: () => move(shown.low - span / 5, span), ArrowRight: () => move(shown.low + span / 5, span), "+": () => zoom(0.5), "-": () => zoom(2), Home: () => { view = null; draw(); } };
    if (acts[event.key]) {
      event.preventDefault();
      acts[event.key]();
    }
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey || !drawn) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, Math.max(0, Math.min(1, (event.offsetX - drawn.names) / (drawn.width - drawn.names))));
  }, { passive: false });
  let dragged = null;
  canvas.addEventListener("pointerdown", (event) => { if (drawn && view) dragged = { x: event.clientX, low: drawn.shown.low }; });
  addEventListener("pointerup", up);
  function up() { dragged = null; }
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("pointermove", (event) => {
    if (!drawn) return;
    const { shown, names, width, lane, spans, clients } = drawn, span = shown.high - shown.low;
    if (dragged) return move(dragged.low - (event.clientX - dragged.x) / (width - names) * span, span);
    const at = shown.low + (event.offsetX - names) / (width - names) * span, name = clients[Math.floor(event.offsetY / lane)];
    const near = span / (width - names) * 2;
    const found = event.offsetX < names || name === undefined ? null : spans.findLast((each) => each.client === name && each.from - near <= at && at <= each.to + near);
    tip.hidden = !found;
    if (!found) return;
    replace(tip, h("p", {}, h("b", {}, name || "Server"), ` · ${NAMES[found.what] ?? found.what}`), h("p", {}, seconds(found.to - found.from), found.round ? ` · round ${found.round}` : "", found.epoch ? ` · epoch ${found.epoch}` : ""));
    tip.style.left = `${Math.min(event.offsetX + 14, width - tip.offsetWidth - 4)}px`;
    tip.style.top = `${event.offsetY + 14}px`;
  });
  const resize = new ResizeObserver(() => { if (drawn && frame.clientWidth !== drawn.width) draw(); });
  resize.observe(frame);

  return {
    update(dirty) {
      if (dirty.has("all") || dirty.has("timeline") || dirty.has("theme")) draw();
    },
    leave() {
      resize.disconnect();
      removeEventListener("pointerup", up);
    },
  };
}

function nice(step) {
  const size = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].map((each) => each * size).find((each) => each >= step) ?? step;
}

const label = (at, step) => `${step < 1 ? at.toFixed(step < 0.1 ? 2 : 1) : Math.round(at)} s`;

function fit(ctx, text, room) {
  let shown = text;
  while (shown.length > 3 && ctx.measureText(shown).width > room) shown = `${shown.slice(0, -2)}…`;
  return shown;
}
