// The confusion matrix: rows are true classes, columns predictions. A cell shows its rows.

import { get } from "./api.js";
import { button, card, empty, h, memo, replace, setText } from "./dom.js";
import { number, percent } from "./format.js";
import { pictureOf } from "./samples.js";
import { Whose } from "./whose.js";

export function view(root, { store }) {
  let picked = null;
  let run = null, looked = new Map(); // rows that were looked up, by number; null for those that the server does not have
  const chooser = new Whose(() => draw());
  const moment = h("p", { class: "muted" });
  const matrix = h("div", {}), rows = h("div", { "aria-live": "polite" });
  root.append(h("div", { class: "view-head" }, h("h1", {}, "Confusion matrix"), moment), h("div", { class: "controls" }, chooser.node), h("div", { class: "confusion-frame" }, matrix, rows));

  const drawMatrix = memo((classes, counts, dark) => {
    if (!counts) return replace(matrix, empty("No confusion matrix yet.", "It is computed on the test rows, for classification models."));
    const most = Math.max(1, ...counts.flatMap((row, i) => row.filter((_, j) => i !== j)));
    const totals = counts.map((row) => row.reduce((sum, each) => sum + each, 0));
    const columns = classes.map((_, j) => counts.reduce((sum, row) => sum + row[j], 0));
    replace(matrix, h("div", { class: "card" }, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
      h("table", { class: `confusion ${classes.length > 12 ? "dense" : ""}` },
        h("caption", {}, "Rows: the truth. Columns: the prediction. Choose a cell to see its rows."),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Truth"), classes.map((name) => h("th", { scope: "col" }, name)), h("th", { scope: "col" }, "Right"))),
        h("tbody", {}, counts.map((row, i) => h("tr", {}, h("th", { scope: "row" }, classes[i]),
          row.map((count, j) => h("td", {}, count ? cell(classes, i, j, count, i === j ? count / Math.max(1, totals[i]) : count / most) : h("span", { class: "zero" }, "·"))),
          h("td", { class: "sum" }, totals[i] ? percent(row[i] / totals[i], 0) : "–")))),
        h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "Precision"), columns.map((sum, j) => h("td", { class: "sum" }, sum ? percent(counts[j][j] / sum, 0) : "–")), h("td", {})))))));
  });

  function cell(classes, i, j, count, strength) {
    const node = button(number(count), () => { picked = [i, j]; drawRows(); }, {
      class: i === j ? "right" : "wrong", "aria-label": `${number(count)} of ${classes[i]} predicted as ${classes[j]}`,
    });
    node.style.setProperty("--strength", `${Math.round(12 + 58 * Math.min(1, strength))}%`);
    return node;
  }

  function drawRows() {
    const confusion = store.shown.confusion;
    if (!picked || !confusion) return replace(rows);
    const [i, j] = picked;
    const name = chooser.choose(confusion.models);
    const model = confusion.models[name];
    const ids = model?.rows?.[`${i},${j}`] ?? [];
    const known = new Map((store.shown.samples?.rows ?? []).map((row) => [row.id, row]));
    lookUp(ids.filter((id) => !known.has(id)));
    const count = model?.matrix?.[i]?.[j] ?? 0;
    replace(rows, card(`${confusion.classes[i]} predicted as ${confusion.classes[j]}`, {},
      h("p", { class: "muted" }, ids.length < count ? `${number(ids.length)} of ${number(count)} rows` : `${number(count)} ${count === 1 ? "row" : "rows"}`),
      h("ul", { class: "row-list" }, ids.map((id) => {
        const row = known.get(id) ?? looked.get(id);
        return h("li", {}, row ? pictureOf(row) : null, h("span", {}, `Row ${id}`));
      }))));
  }

  async function lookUp(ids) {
    const name = store.shown.run?.run ?? "";
    if (name !== run) [run, looked] = [name, new Map()];
    const missing = ids.filter((id) => !looked.has(id)), into = looked;
    if (!missing.length) return;
    missing.forEach((id) => into.set(id, null));
    try {
      const { rows: found } = await get(`/api/rows?run=${encodeURIComponent(name)}&ids=${missing.join(",")}`);
      found.forEach((row) => into.set(row.id, row));
    } catch {
      return missing.forEach((id) => into.delete(id)); // the next drawing tries again
    }
    if (into === looked) drawRows();
  }

  function draw() {
    const confusion = store.shown.confusion;
    const name = chooser.choose(confusion?.models);
    const model = name === null ? null : confusion.models[name];
    setText(moment, model ? `After ${store.shown.run?.method === "federated" ? "round" : "epoch"} ${model.at}` : "");
    drawMatrix(confusion?.classes ?? [], model?.matrix ?? null);
    drawRows();
  }

  return {
    update(dirty) {
      if (dirty.has("all") || dirty.has("confusion")) draw();
    },
  };
}
