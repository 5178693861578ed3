// All runs that are kept: filter, open, download, resume, delete.

import { get, path, post } from "./api.js";
import { button, dialog, empty, h, replace, setText, toast } from "./dom.js";
import { bytes, dateTime, metric, metricName, methodName, number, plural, seconds } from "./format.js";

const STATUS = { done: "✓ done", partial: "◐ partial", failed: "✕ failed", interrupted: "‖ interrupted" };

export function view(root, { store, go }) {
  let runs = [], keep = null, text = "", status = "", seen = null;
  const chosen = new Set();
  const list = h("div", {}), note = h("p", { class: "muted" }), states = h("select", { "aria-label": "Status", on: { change: (e) => { status = e.target.value; draw(); } } });
  const compare = button("Compare", () => go(`compare?${[...chosen].map(encodeURIComponent).join(",")}`), { disabled: true });
  root.append(h("div", { class: "view-head" }, h("h1", {}, "Runs"), note),
    h("div", { class: "controls" },
      h("label", { class: "control" }, h("span", { class: "control-label" }, "Filter"), h("input", { type: "search", placeholder: "name, model, method", on: { input: (e) => { text = e.target.value.toLowerCase(); draw(); } } })),
      h("div", { class: "control" }, h("span", { class: "control-label", "aria-hidden": "true" }, "Status"), states), h("div", { class: "control" }, h("span", { class: "control-label", "aria-hidden": "true" }, "Chosen"), compare)), list);

  async function load() {
    try {
      const found = await get("/api/runs");
      runs = found.runs ?? [];
      keep = found.keep_runs ?? null;
    } catch (error) {
      replace(list, empty("The runs could not be loaded.", error.text, button("Try again", load)));
      return;
    }
    const known = [...new Set(runs.map((run) => run.status))];
    replace(states, h("option", { value: "" }, "All"), known.map((each) => h("option", { value: each, selected: each === status }, each)));
    const size = runs.reduce((sum, run) => sum + (run.size_bytes ?? 0), 0);
    setText(note, `${plural(runs.length, "run")}, ${bytes(size)}. ${keep ? `The newest ${number(keep)} are kept (keep_runs).` : "All are kept (keep_runs is not set)."}`);
    for (const each of chosen) if (!runs.some((run) => run.run === each)) chosen.delete(each);
    draw();
  }

  function draw() {
    const shown = runs.filter((run) => (!status || run.status === status) && (!text || [run.run, run.model, run.method, run.status].some((each) => String(each ?? "").toLowerCase().includes(text))));
    compare.disabled = chosen.size < 1;
    setText(compare, chosen.size ? `Compare ${chosen.size}` : "Compare");
    if (!shown.length) return replace(list, empty(runs.length ? "No run fits the filter." : "There are no stored runs yet.", runs.length ? "" : "Runs appear here once they have started."));
    replace(list, h("ul", { class: "runs" }, shown.map(row)));
  }

  function row(run) {
    const best = Object.entries(run.metrics ?? {}).filter(([, value]) => typeof value === "number");
    const accuracy = best.find(([name]) => name === "accuracy") ?? best.find(([name]) => name !== "loss") ?? best[0];
    return h("li", { class: "card run", "data-status": run.status },
      h("label", { class: "choose" }, h("input", { type: "checkbox", checked: chosen.has(run.run), "aria-label": `Choose ${run.run}`, on: { change: (e) => {
        if (e.target.checked) chosen.add(run.run);
        else chosen.delete(run.run);
        compare.disabled = chosen.size < 1;
        setText(compare, chosen.size ? `Compare ${chosen.size}` : "Compare");
      } } })),
      h("div", { class: "run-name" }, h("h2", {}, run.run), h("p", { class: "muted" }, [run.model, methodName(run.method), run.clients ? plural(run.clients, "client") : "", dateTime(run.started)].filter(Boolean).join(" · "))),
      h("p", { class: "run-status" }, STATUS[run.status] ?? run.status),
      h("p", { class: "run-metric" }, accuracy ? [h("b", {}, metric(...accuracy)), h("small", {}, metricName(accuracy[0]))] : "–"),
      h("p", { class: "run-metric" }, h("b", {}, seconds(run.seconds)), h("small", {}, bytes(run.size_bytes))),
      h("div", { class: "actions" },
        button("Open", () => open(run.run), { class: "small", "aria-label": `Open ${run.run}` }),
        button("Download", () => downloads(run.run), { class: "small", "aria-label": `Download files of ${run.run}` }),
        store.teacher && run.resumable ? button("Resume", () => resume(run.run), { class: "small", "aria-label": `Resume ${run.run}` }) : null,
        store.teacher ? button("Delete", () => remove(run), { class: "small danger-quiet", "aria-label": `Delete ${run.run}` }) : null));
  }

  async function open(name) {
    try {
      store.open(await get(path("runs", name)));
      go("curves");
    } catch (error) {
      toast(error.text, "error");
    }
  }

  async function downloads(name) {
    const place = h("div", {}, "Loading …");
    dialog(`Files of ${name}`, place, { wide: true });
    try {
      const found = await get(path("runs", name, "files"));
      const files = found.files ?? found;
      const link = (file, label, size) => h("li", { class: "line" }, h("a", { href: file, download: "" }, label), h("span", { class: "muted" }, size));
      const report = files.find((file) => (file.path ?? file.name) === "report.html");
      replace(place, h("ul", { class: "plain files" },
        link(path("runs", name, "curves.csv"), "All curves (CSV)", "curves.csv"),
        report ? link(path("runs", name, "files", "report.html"), "Report (HTML)", "report.html") : null,
        files.filter((file) => file !== report).map((file) => {
          const of = file.path ?? file.name ?? String(file);
          return link(path("runs", name, "files", of), of, bytes(file.bytes ?? file.size_bytes ?? file.size));
        })));
    } catch (error) {
      replace(place, h("p", { class: "field-error" }, error.text));
    }
  }

  async function resume(name) {
    try {
      const answer = await post(path("runs", name, "resume"));
      toast(answer.position ? `Run ${name} waits in the queue.` : `Run ${name} is resumed.`);
    } catch (error) {
      toast(error.text, "error");
    }
  }

  function remove(run) {
    const field = h("input", { type: "text", autocomplete: "off", spellcheck: "false", "aria-label": "Name of the run" });
    const yes = h("button", { type: "submit", class: "danger", disabled: true }, "Delete for ever");
    const wrong = h("p", { class: "field-error", role: "alert", hidden: true });
    field.addEventListener("input", () => { yes.disabled = field.value.trim() !== run.run; });
    const node = dialog(`Delete ${run.run}?`, h("form", { on: { submit: async (event) => {
      event.preventDefault();
      try {
        await post(path("runs", run.run, "delete"), { confirm: field.value.trim() });
        node.close();
        toast(`Run ${run.run} is deleted.`);
        load();
      } catch (error) {
        setText(wrong, error.text);
        wrong.hidden = false;
      }
    } } }, h("p", {}, `Models, curves and reports of this run (${bytes(run.size_bytes)}) are removed from this machine.`),
    h("label", { class: "field" }, h("span", {}, "Type ", h("b", {}, run.run), " to confirm:"), field), wrong, h("div", { class: "actions" }, yes)));
    field.focus();
  }

  load();
  return {
    update(dirty) {
      const version = store.live.runs_changed;
      if (seen !== null && seen !== version) load();
      seen = version;
      void dirty;
    },
  };
}
