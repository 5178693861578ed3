// Set up and start a run. The form is generated from the server's table of settings, and checked by the server.

import { get, path, post } from "./api.js";
import { button, card, confirm, dialog, empty, h, memo, newId, replace, setAttr, setText, toast } from "./dom.js";
import { methodName, number, plural } from "./format.js";

// What a first run needs is always in sight; the rest is one click away.
const MAIN = new Set(["model", "optimizer", "loss", "learning_rate", "data", "dataset", "samples", "normalizer", "method", "epochs", "batch_size", "folds", "rounds", "strategy", "clients", "local", "device", "deal"]);

// What was filled in stays while the page is open.
const entered = {};
const one = { on: false, machine: "" };

export function view(root, { store, go }) {
  const place = h("div", { class: "setup" }), start = h("div", {}), queue = h("div", {});
  root.append(h("div", { class: "view-head" }, h("h1", {}, "Set up a run")), h("div", { class: "with-side" }, place, h("div", { class: "side" }, start, queue)));
  const fields = new Map();
  let form = null, timer = null, turn = 0, whole = null, submitButton = null, sizes = new Map();

  async function load() {
    let found;
    try {
      found = await get("/api/form");
    } catch (error) {
      replace(place, empty("The form could not be loaded.", error.text, button("Try again", load)));
      return;
    }
    draw(found);
  }

  function draw(found) {
    fields.clear();
    sizes = new Map((found.models ?? []).filter((each) => each.parameters).map((each) => [each.file, each.parameters]));
    whole = h("p", { class: "field-error", role: "alert", hidden: true });
    const machine = h("label", { class: "control", hidden: !one.on }, h("span", { class: "control-label" }, "Which machine"),
      h("select", { on: { change: (e) => { one.machine = e.target.value; } } }, (found.one_machine ?? [{ value: "here", label: "this machine" }]).map((each) => h("option", { value: each.value, selected: each.value === one.machine }, each.label))));
    submitButton = h("button", { type: "submit", form: "setup-form", class: "primary large" }, "Start the run");
    form = h("form", { id: "setup-form", novalidate: true, on: { submit, input: changed, change: changed } },
      found.groups.map((group) => {
        const made = group.fields.map((each) => [each, field(each)]);
        const main = made.filter(([each]) => MAIN.has(each.key)), more = made.filter(([each]) => !MAIN.has(each.key));
        return card(group.title, { class: "group-card" },
          group.title === "Model" ? modelTools(found) : null,
          h("div", { class: "fields" }, main.map(([, node]) => node)),
          more.length ? h("details", { class: "more" }, h("summary", {}, "More settings"), h("div", { class: "fields" }, more.map(([, node]) => node))) : null);
      }));
    replace(start, h("div", { class: "card submit" },
      h("label", { class: "switch" }, h("input", { type: "checkbox", checked: one.on, on: { change: (e) => { one.on = e.target.checked; machine.hidden = !one.on; } } }), h("span", {}, h("b", {}, "Train on one machine too"), h("small", {}, "The same model, rows and budget without distributing, for comparison."))),
      machine, whole, h("div", { class: "actions" }, submitButton, button("Back to the defaults", reset, { class: "small quiet" }))));
    replace(place, form);
    showFields();
  }

  function modelTools(found) {
    const nothing = !found.models?.length;
    return h("div", { class: "line wrap" }, nothing ? h("p", { class: "muted" }, "There is no model in model/ yet.") : null,
      (found.builders ?? []).map((each) => button(`Build ${TITLES[each.kind] ?? each.label ?? each.kind}`, () => build(each), { class: "small" })));
  }

  function field(each) {
    const id = newId(each.key), wrong = h("p", { class: "field-error", id: `${id}-error`, hidden: true });
    const input = control(each, id);
    setAttr(input, "aria-describedby", `${id}-help ${id}-error`);
    const node = h("div", { class: "field", "data-key": each.key }, h("label", { for: id }, each.label),
      input, h("p", { class: "help", id: `${id}-help` }, each.help ?? ""), wrong);
    fields.set(each.key, { each, input, node, wrong });
    return node;
  }

  function control(each, id) {
    const start = entered[each.key] ?? each.default ?? "";
    if (each.type === "bool") return h("input", { id, name: each.key, type: "checkbox", checked: Boolean(start) });
    if (each.type === "choice" && each.choices) {
      const choices = each.choices.map((choice) => ({ ...choice, label: sizes.has(choice.value) ? `${choice.label} (${plural(sizes.get(choice.value), "parameter")})` : choice.label }));
      if (each.optional || !choices.some((choice) => String(choice.value) === String(start))) choices.unshift({ value: "", label: each.default_in_words || (choices.length ? "default" : "none found") });
      return h("select", { id, name: each.key }, choices.map((choice) => h("option", { value: choice.value, selected: String(choice.value) === String(start) }, choice.label)));
    }
    return h("input", { id, name: each.key, type: "text", autocomplete: "off", spellcheck: "false", inputmode: each.type === "int" ? "numeric" : each.type === "float" ? "decimal" : null, value: start === null ? "" : String(start), placeholder: each.default_in_words ?? (each.optional ? "default" : "") });
  }

  function values() {
    const found = {};
    for (const [key, { each, input, node }] of fields) {
      if (node.hidden) continue;
      const value = each.type === "bool" ? input.checked : input.value.trim();
      if (value !== "") found[key] = value;
    }
    return found;
  }

  const current = (key) => {
    const found = fields.get(key);
    return !found ? undefined : found.each.type === "bool" ? String(found.input.checked) : found.input.value;
  };

  function showFields() {
    // A field may depend on one that is hidden itself.
    for (const [, { each, node }] of fields) {
      const wanted = Object.entries(each.shown_if ?? {});
      node.hidden = !wanted.every(([key, allowed]) => current(key) === undefined || (!fields.get(key).node.hidden && allowed.map(String).includes(String(current(key)))));
    }
    for (const more of form.querySelectorAll("details.more")) more.hidden = ![...more.querySelectorAll(".field")].some((node) => !node.hidden);
  }

  function changed(event) {
    const key = event.target.name;
    if (!fields.has(key)) return;
    entered[key] = fields.get(key).each.type === "bool" ? event.target.checked : event.target.value;
    showFields();
    clearTimeout(timer);
    timer = setTimeout(check, 350);
  }

  async function check() {
    const mine = ++turn;
    try {
      const answer = await post("/api/check", { values: values() });
      if (mine === turn) showErrors(answer.fields ?? {});
    } catch (error) {
      if (mine === turn) showErrors(error.fields, error.fields && Object.keys(error.fields).length ? "" : error.text);
    }
  }

  function showErrors(found, general = "") {
    for (const [key, { input, wrong }] of fields) {
      const error = found[key];
      setText(wrong, error ? [error.error, error.hint].filter(Boolean).join(" ") : "");
      wrong.hidden = !error;
      setAttr(input, "aria-invalid", error ? "true" : null);
    }
    const others = Object.entries(found).filter(([key]) => !fields.has(key) || fields.get(key).node.hidden).map(([, error]) => [error.error, error.hint].filter(Boolean).join(" "));
    setText(whole, [general, ...others].filter(Boolean).join(" "));
    whole.hidden = !whole.textContent;
  }

  async function submit(event) {
    event.preventDefault();
    clearTimeout(timer);
    turn += 1;
    submitButton.disabled = true;
    try {
      const answer = await post("/api/runs", { values: values(), also_one_machine: one.on, one_machine: one.on ? one.machine : "" });
      showErrors({});
      toast(answer.position ? `The run waits in the queue: ${plural(answer.position, "run comes", "runs come")} before it.` : "The run is submitted.");
      if (!answer.position) go(store.live.lobby.missing ? "lobby" : "machines");
    } catch (error) {
      showErrors(error.fields, Object.keys(error.fields).length ? "" : error.text);
      const first = [...fields.values()].find(({ wrong, node }) => !wrong.hidden && !node.hidden);
      if (first) {
        const more = first.node.closest("details");
        if (more) more.open = true;
        first.input.focus();
      } else whole.scrollIntoView({ block: "center" });
    } finally {
      submitButton.disabled = false;
    }
  }

  function reset() {
    for (const key of Object.keys(entered)) delete entered[key];
    one.on = false;
    one.machine = "";
    load();
  }

  function build(builder) {
    const inputs = new Map();
    const wrong = h("p", { class: "field-error", role: "alert", hidden: true });
    const body = h("form", { novalidate: true, on: { submit: make } },
      h("div", { class: "fields" }, builder.fields.map((each) => {
        const id = newId(each.key), error = h("p", { class: "field-error", id: `${id}-error`, hidden: true });
        const input = each.type === "choice"
          ? h("select", { id, name: each.key }, each.choices.map((choice) => h("option", { value: choice.value, selected: String(choice.value) === String(each.default) }, choice.label)))
          : each.type === "bool" ? h("input", { id, name: each.key, type: "checkbox", checked: Boolean(each.default) })
          : h("input", { id, name: each.key, type: "text", autocomplete: "off", value: each.default ?? "", placeholder: each.of ? `that of ${each.of}` : "", inputmode: each.type === "int" ? "numeric" : each.type === "float" ? "decimal" : null });
        setAttr(input, "aria-describedby", `${id}-help ${id}-error`);
        inputs.set(each.key, { input, error, each });
        return h("div", { class: "field" }, h("label", { for: id }, each.label), input, h("p", { class: "help", id: `${id}-help` }, each.help ?? ""), error);
      })), wrong, h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Build the model")));
    const node = dialog(`Build ${TITLES[builder.kind] ?? builder.kind}`, body, { wide: true });

    async function make(event) {
      event.preventDefault();
      const chosen = {};
      for (const [key, { input, each }] of inputs) {
        const value = each.type === "bool" ? input.checked : input.value.trim();
        if (value !== "") chosen[key] = value;
      }
      try {
        const answer = await post(path("models"), { kind: builder.kind, fields: chosen, values: values() });
        toast(`${answer.file} is built${answer.parameters ? `: ${plural(answer.parameters, "parameter")}` : ""}.`);
        entered.model = answer.file;
        node.close();
        load();
      } catch (error) {
        for (const [key, { input, error: place }] of inputs) {
          const found = error.fields[key];
          setText(place, found ? [found.error, found.hint].filter(Boolean).join(" ") : "");
          place.hidden = !found;
          setAttr(input, "aria-invalid", found ? "true" : null);
        }
        const known = Object.keys(error.fields).some((key) => inputs.has(key));
        setText(wrong, known ? "" : error.text);
        wrong.hidden = known;
      }
    }
  }

  const drawQueue = memo((list, current) => {
    replace(queue, card("Queue", {},
      current ? h("p", {}, "Now: ", h("b", {}, `run ${current[0]}`), ` (${methodName(current[1])})`) : null,
      list.length ? h("ol", { class: "plain" }, list.map((each) => h("li", { class: "line" },
        h("span", {}, h("b", {}, each.model || `Run ${number(each.id)}`), h("small", { class: "muted" }, ` ${methodName(each.method)}`)),
        button("Withdraw", () => withdraw(each), { class: "small", "aria-label": `Withdraw number ${each.position} of the queue` })))) : h("p", { class: "muted" }, "The queue is empty. A run that is submitted during another one waits here.")));
  });

  async function withdraw(each) {
    if (!await confirm("Withdraw this run?", `${each.model} (${methodName(each.method)}) is taken out of the queue.`, "Withdraw")) return;
    try {
      await post(path("queue", each.id, "withdraw"));
      toast("It is withdrawn.");
    } catch (error) {
      toast(error.text, "error");
    }
  }

  load();
  return {
    update(dirty) {
      if (!["all", "queue", "run"].some((each) => dirty.has(each))) return;
      const { run, queue: list } = store.live;
      drawQueue(list ?? [], run && run.state !== "ended" ? [run.run, run.method] : null);
    },
    leave: () => clearTimeout(timer),
  };
}

const TITLES = { mlp: "an MLP", cnn: "a CNN" };
