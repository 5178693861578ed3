// What the page knows. One snapshot, then deltas. Views hear of changes once per frame, by section.

const KEPT_POINTS = 2000;
const KEPT_SPANS = 20000;
const KEPT_LINES = 1000;

const EMPTY = () => ({ seq: 0, server: {}, lobby: {}, queue: [], run: null, clients: {}, series: {}, samples: null, confusion: null, timeline: [], log: [], runs_changed: 0 });

export class Store {
  constructor() {
    this.live = EMPTY();
    this.opened = null; // a run of the past that is shown in place of the live one
    this.loaded = false;
    this.connection = "connecting";
    this.dirty = new Set();
    this.listeners = new Set();
    this.scheduled = false;
  }

  /** What the views of a run show: the live run, or the one that was opened. */
  get shown() { return this.opened ?? this.live; }
  get server() { return this.live.server; }
  get teacher() { return this.live.server.role === "teacher"; }

  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  touch(...sections) {
    for (const section of sections) this.dirty.add(section);
    if (this.scheduled) return;
    this.scheduled = true;
    // A tab in the background has no frames; the timer keeps its title right.
    const run = () => {
      if (!this.scheduled) return;
      this.scheduled = false;
      const dirty = this.dirty;
      this.dirty = new Set();
      for (const listener of this.listeners) listener(dirty);
    };
    if (document.hidden) setTimeout(run, 1000);
    else requestAnimationFrame(run);
  }

  setConnection(state) {
    if (this.connection === state) return;
    this.connection = state;
    this.touch("connection");
  }

  snapshot(value) {
    this.live = { ...EMPTY(), ...value };
    this.loaded = true;
    this.touch("all");
  }

  /** Show a run of the past: `view` has the sections of a snapshot. */
  open(view) {
    this.opened = view ? { ...EMPTY(), ...view } : null;
    this.touch("all");
  }

  delta(delta) {
    if (delta.snapshot) return this.snapshot(delta.snapshot);
    if (delta.seq !== undefined && delta.seq <= this.live.seq) return;
    const live = this.live;
    if (delta.seq !== undefined) live.seq = delta.seq;
    const touched = [];
    for (const [section, value] of Object.entries(delta.set ?? {})) {
      live[section] = value;
      touched.push(section);
    }
    for (const [section, values] of Object.entries(delta.merge ?? {})) {
      live[section] = { ...live[section], ...values };
      touched.push(section);
    }
    for (const [name, tile] of Object.entries(delta.clients ?? {})) {
      if (tile === null) delete live.clients[name];
      else live.clients[name] = { ...live.clients[name], ...tile };
      touched.push("clients");
    }
    for (const [key, { new: meta, points }] of Object.entries(delta.append ?? {})) {
      if (meta) live.series[key] = { ...meta, points: [] };
      const series = live.series[key] ?? (live.series[key] = { client: "", metric: key, part: "training", per: "epoch", points: [] });
      for (const point of points ?? []) series.points.push(point);
      if (series.points.length > KEPT_POINTS) series.points = thin(series.points, KEPT_POINTS / 2);
      touched.push("series");
    }
    if (delta.samples) {
      live.samples = mergeModels(live.samples, delta.samples);
      touched.push("samples");
    }
    if (delta.confusion) {
      live.confusion = mergeModels(live.confusion, delta.confusion);
      touched.push("confusion");
    }
    if (delta.timeline?.length) {
      live.timeline = live.timeline.concat(delta.timeline).slice(-KEPT_SPANS);
      touched.push("timeline");
    }
    if (delta.log?.length) {
      live.log = live.log.concat(delta.log).slice(-KEPT_LINES);
      touched.push("log");
    }
    if (touched.length) this.touch(...touched);
  }
}

/** A delta has models that changed, and other models stay; or, when the rows are others, all. */
function mergeModels(old, news) {
  const all = Object.keys(news).some((key) => key !== "models");
  return old && !all ? { ...old, models: { ...old.models, ...news.models } } : news;
}

/** Keep the lowest and highest point of each bucket: peaks stay visible. */
export function thin(points, wanted) {
  const size = Math.ceil(points.length / (wanted / 2));
  const kept = [];
  for (let from = 0; from < points.length; from += size) {
    const bucket = points.slice(from, from + size);
    let low = 0, high = 0;
    bucket.forEach(([, y], i) => {
      if (y < bucket[low][1]) low = i;
      if (y > bucket[high][1]) high = i;
    });
    kept.push(...[...new Set([low, high])].sort((a, b) => a - b).map((i) => bucket[i]));
  }
  const last = points[points.length - 1];
  if (kept[kept.length - 1] !== last) kept.push(last);
  return kept;
}
