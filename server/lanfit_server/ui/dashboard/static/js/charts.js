// Line charts with uPlot: many series with points of their own, on one grid.

import { h } from "./dom.js";
import { number, plural } from "./format.js";

const COLUMNS = 800;
let loading = null;

/** Load uPlot the first time that a chart is drawn. */
export function library() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/static/vendor/uplot/uPlot.iife.min.js";
    script.onload = () => resolve(window.uPlot);
    script.onerror = () => { loading = null; reject(new Error("The library of the charts could not be loaded.")); };
    document.head.append(script);
  });
  return loading;
}

/** A colour of the style sheet. */
export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const PALETTE = 8;
/** Colours that people with colour blindness tell apart too (after Okabe and Ito). */
export const seriesColor = (index) => color(`series-${index % PALETTE}`);

/** Exponential smoothing, corrected for its beginning, as TensorBoard does it. */
export function smooth(points, weight) {
  if (!weight) return points;
  let last = 0, bias = 0;
  return points.map(([x, y]) => {
    last = last * weight + (1 - weight) * y;
    bias = bias * weight + (1 - weight);
    return [x, last / bias];
  });
}

/**
 * Put series with points of their own on one grid. Few different x values are all kept; of many, each column has the
 * mean of a series' points in it: what the eye sees at this width.
 */
export function grid(lists) {
  const values = new Set();
  for (const points of lists) for (const [x] of points) values.add(x);
  let xs = [...values].sort((a, b) => a - b);
  if (xs.length <= COLUMNS * 1.5) {
    const at = new Map(xs.map((x, i) => [x, i]));
    return [xs, ...lists.map((points) => {
      const ys = new Array(xs.length).fill(undefined);
      for (const [x, y] of points) ys[at.get(x)] = y;
      return ys;
    })];
  }
  const low = xs[0], width = (xs[xs.length - 1] - low) / COLUMNS || 1;
  xs = Array.from({ length: COLUMNS + 1 }, (_, i) => low + i * width);
  return [xs, ...lists.map((points) => {
    const ys = new Array(xs.length).fill(undefined), sums = new Float64Array(xs.length), counts = new Uint32Array(xs.length);
    for (const [x, y] of points) {
      if (!Number.isFinite(y)) continue;
      const i = Math.round((x - low) / width);
      sums[i] += y;
      counts[i] += 1;
    }
    for (let i = 0; i < xs.length; i++) if (counts[i]) ys[i] = sums[i] / counts[i];
    return ys;
  })];
}

/**
 * A chart. `draw({lines: [{label, points, color, width, dash, alpha}], log, x, format, height})` shows lines; the plot
 * is built again only when its lines change.
 */
export class Chart {
  constructor(label) {
    this.plot = null;
    this.shape = "";
    this.box = h("div", { class: "plot", role: "img", "aria-label": label });
    this.node = h("div", { class: "plot-frame" }, this.box);
    this.tip = h("div", { class: "plot-tip", hidden: true });
    this.node.append(this.tip);
    this.label = label;
    this.last = null;
    this.resize = new ResizeObserver(() => this.fit());
    this.resize.observe(this.node);
  }

  fit() {
    const width = this.box.clientWidth;
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: this.plot.height });
    else if (!this.plot && width && this.last) this.draw(this.last);
  }

  async draw(spec) {
    this.last = spec;
    const uPlot = await library();
    if (this.last !== spec) return; // a newer one came meanwhile
    const width = this.box.clientWidth;
    if (!width) return;
    const lines = spec.lines.filter((line) => line.points.length);
    const data = grid(lines.map((line) => spec.log ? line.points.filter(([, y]) => y > 0) : line.points));
    const shape = JSON.stringify([lines.map(({ label, color, width, dash, alpha }) => [label, color, width, dash, alpha]), spec.log, spec.x, spec.height, color("text")]);
    this.lines = lines;
    this.spec = spec;
    if (this.plot && shape === this.shape) this.plot.setData(data);
    else {
      this.shape = shape;
      this.plot?.destroy();
      this.plot = new uPlot(this.options(uPlot, spec, lines, width), data, this.box);
    }
    this.box.setAttribute("aria-label", `${this.label}. ${describe(lines, spec.format ?? number)}`);
  }

  options(uPlot, spec, lines, width) {
    const muted = color("muted"), line = color("line");
    const axis = { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif" };
    const format = spec.format ?? ((value) => number(value, 3));
    return {
      width, height: spec.height ?? 300,
      legend: { show: false },
      cursor: { drag: { x: true, y: false }, points: { show: false }, focus: { prox: 24 } },
      focus: { alpha: 0.35 },
      padding: [10, 14, 0, 0],
      scales: {
        x: { time: false, range: (u, low, high) => low === high ? [low - 1, high + 1] : [low, high] },
        y: spec.log ? { distr: 3 } : { range: (u, low, high) => padded(low, high, spec.share) },
      },
      axes: [
        { ...axis, size: 26, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000], values: (u, ticks) => ticks.map((tick) => tick.toLocaleString("en-US")) },
        { ...axis, size: 58, values: (u, ticks) => ticks.map((tick) => tick === null ? "" : format(tick)) },
      ],
      series: [{}, ...lines.map((each) => ({
        label: each.label, stroke: each.color, width: each.width ?? 1.5, dash: each.dash, alpha: each.alpha ?? 1, spanGaps: true,
        points: { show: each.points.length < 40 && (each.width ?? 1.5) > 2, size: 6, fill: each.color },
      }))],
      hooks: { setCursor: [(u) => this.point(u)] },
    };
  }

  /** What the pointer is on. */
  point(u) {
    const { idx, left, top } = u.cursor;
    if (idx === null || idx === undefined || left < 0) return void (this.tip.hidden = true);
    const format = this.spec.format ?? ((value) => number(value));
    const found = [];
    this.lines.forEach((line, i) => {
      const y = nearest(u.data[i + 1], idx);
      if (y !== undefined) found.push({ line, y, far: Math.abs(u.valToPos(y, "y") - top) });
    });
    found.sort((a, b) => a.far - b.far);
    const shown = found.slice(0, 6).sort((a, b) => b.y - a.y);
    if (!shown.length) return void (this.tip.hidden = true);
    this.tip.textContent = "";
    this.tip.append(h("p", {}, `${this.spec.x} ${number(Math.round(u.data[0][idx] * 100) / 100)}`));
    for (const { line, y } of shown) {
      const swatch = h("i", { "aria-hidden": "true" });
      swatch.style.background = line.color;
      this.tip.append(h("p", {}, swatch, h("span", {}, line.label), h("b", {}, format(y))));
    }
    if (found.length > shown.length) this.tip.append(h("p", { class: "muted" }, `and ${found.length - shown.length} more`));
    this.tip.hidden = false;
    const over = u.over.getBoundingClientRect(), frame = this.node.getBoundingClientRect();
    const x = over.left - frame.left + left, room = this.node.clientWidth - this.tip.offsetWidth - 8;
    this.tip.style.left = `${Math.max(8, x + 16 > room ? Math.min(x - this.tip.offsetWidth - 16, room) : x + 16)}px`;
    this.tip.style.top = "12px";
  }

  destroy() {
    this.resize.disconnect();
    this.plot?.destroy();
    this.plot = null;
    this.last = null;
  }
}

function nearest(values, index) {
  for (let d = 0; d < 12; d++) {
    if (values[index - d] !== undefined && values[index - d] !== null) return values[index - d];
    if (values[index + d] !== undefined && values[index + d] !== null) return values[index + d];
  }
  return undefined;
}

function padded(low, high, share) {
  if (low === null || high === null) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low >= 0 && low - room < 0 ? 0 : low - room, share ? Math.min(1.0001, high + room) : high + room];
}

function describe(lines, format) {
  const strong = lines.filter((line) => (line.width ?? 1.5) > 2);
  const told = (strong.length ? strong : lines.slice(0, 4)).map((line) => `${line.label}: ${format(line.points[line.points.length - 1][1])}`);
  return `${plural(lines.length, "line")}. ${told.join("; ")}`;
}
