// Numbers, times and names as people read them.

const METRICS = { f1: "F1", mae: "MAE", mse: "MSE", rmse: "RMSE", lr: "Learning rate", auc: "AUC" };

export function metricName(name) {
  const text = METRICS[name] ?? name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Whether a metric is a fraction that people read in per cent. */
export const isShare = (name) => /accuracy|precision|recall|^f1|auc/.test(name);

export function number(value, digits = 4) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(2);
  return value.toLocaleString("en-US", { maximumSignificantDigits: digits });
}

/** A large number in a few characters. */
export const short = (value) => value < 1000 ? number(value, 3) : value < 1e4 ? `${(value / 1000).toFixed(1)}k` : value < 1e6 ? `${Math.round(value / 1000)}k` : `${(value / 1e6).toFixed(1)}M`;

export function percent(value, digits = 1) {
  return value === null || value === undefined || !Number.isFinite(value) ? "–" : `${(value * 100).toFixed(digits)}\u00a0%`;
}

export const metric = (name, value) => isShare(name) ? percent(value, 2) : number(value);

export function seconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value < 1) return `${Math.max(value, 0).toFixed(2)}\u00a0s`;
  if (value < 10) return `${value.toFixed(1)}\u00a0s`;
  if (value < 60) return `${Math.round(value)}\u00a0s`;
  const minutes = Math.floor(value / 60);
  if (minutes < 60) return `${minutes}\u00a0min ${Math.floor(value % 60)}\u00a0s`;
  return `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
}

/** Time left: coarse, since it is an estimate. */
export function left(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "";
  if (value < 5) return "a few seconds left";
  if (value < 60) return `about ${Math.ceil(value / 5) * 5} s left`;
  if (value < 3600) return `about ${Math.ceil(value / 60)} min left`;
  return `about ${Math.floor(value / 3600)} h ${Math.ceil((value % 3600) / 60)} min left`;
}

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let size = value;
  for (const unit of ["bytes", "kB", "MB", "GB"]) {
    if (size < 1000) return `${unit === "bytes" ? size : size.toFixed(size < 10 ? 1 : 0)}\u00a0${unit}`;
    size /= 1000;
  }
  return `${size.toFixed(1)} TB`;
}

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB");
}

export function dateTime(at) {
  if (at === null || at === undefined || at === "") return "–";
  const date = typeof at === "number" ? new Date(at * 1000) : new Date(at);
  if (Number.isNaN(date.getTime())) return String(at);
  return date.toLocaleString("en-GB", { day: "2-digit", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
}

export const METHODS = { fit: "Fit", kfold: "k-fold", federated: "Federated", synchronous: "Synchronous" };
export const methodName = (method) => METHODS[method] ?? method;

/** Names in the order people expect: lab-2 before lab-10. */
export const byName = new Intl.Collator("en", { numeric: true }).compare;

export function shape(value) {
  if (!Array.isArray(value)) return String(value ?? "–");
  if (value.some(Array.isArray)) return value.map(shape).join(", ");
  return `(${value.map((each) => each ?? "None").join(", ")})`;
}
