// The model, the job with all defaults filled in, versions and devices.

import { card, empty, facts, h, memo, replace, table } from "./dom.js";
import { byName, methodName, number, plural, shape } from "./format.js";

export function view(root, { store }) {
  const place = h("div", { class: "columns" });
  const title = h("h1", {}, "Model");
  root.append(h("div", { class: "view-head" }, title), place);

  const draw = memo((run, devices) => {
    if (!run) return replace(place, empty("No run yet.", "The model and all settings of a run are shown here."));
    const { model } = run;
    const total = model?.parameters ?? 0;
    replace(place,
      model ? card(model.name || "Layers", { class: "span" },
        h("p", { class: "lead" }, h("strong", {}, number(total)), ` ${total === 1 ? "parameter" : "parameters"} in ${plural(model.layers?.length ?? 0, "layer")}`),
        table("Layers of the model", ["Layer", "Type", "Output shape", h("th", { scope: "col", class: "number" }, "Parameters"), h("th", { scope: "col" }, "Share")], (model.layers ?? []).map((layer) => [
          h("th", { scope: "row" }, layer.name), layer.type, h("code", {}, shape(layer.output_shape)), h("td", { class: "number" }, number(layer.parameters)), share(layer.parameters, total)]))) : null,
      card("Settings", {}, h("p", { class: "muted" }, `All settings of this ${methodName(run.method)} run, including the defaults.`),
        facts(Object.entries(run.job ?? {}).map(([key, value]) => [key, value === null || value === "" ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value)]), { class: "facts mono" })),
      h("div", {},
        card("Versions", {}, facts(Object.entries(run.versions ?? {}).map(([key, value]) => [key, typeof value === "object" ? JSON.stringify(value) : String(value)]))),
        devices.length ? card("Devices", {}, table("Devices", ["Client", "Backend", "Device"], devices.map(([name, backend, device]) => [h("th", { scope: "row" }, name), backend ?? "–", device ?? "–"]))) : null,
        run.warnings?.length ? card("Warnings", {}, h("ul", {}, run.warnings.map((each) => h("li", {}, each)))) : null));
  });

  return {
    update(dirty) {
      if (dirty.has("all") || dirty.has("run") || dirty.has("clients")) {
        const { run, clients } = store.shown;
        const kept = run && { model: run.model, job: run.job, versions: run.versions, warnings: run.warnings, method: run.method };
        draw(kept, Object.values(clients).map(({ name, backend, device }) => [name, backend, device]).sort((a, b) => byName(a[0], b[0])));
      }
    },
  };
}

function share(parameters, total) {
  const fill = h("div", { class: "fill" });
  const part = total ? parameters / total : 0;
  fill.style.transform = `scaleX(${part})`;
  return h("div", { class: "bar share", "aria-hidden": "true" }, fill);
}
