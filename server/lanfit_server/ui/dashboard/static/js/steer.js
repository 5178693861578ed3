// Steering a running job: pause, stop, change what may change from the next epoch or round.

import { post } from "./api.js";
import { button, card, confirm, empty, h, keyed, memo, newId, replace, setAttr, setText, toast } from "./dom.js";
import { byName, number, plural } from "./format.js";
import { STATES, stopClient } from "./machines.js";

export function view(root, { store }) {
  const nothing = h("div", {}), main = h("div", { class: "columns" });
  const pause = button("Pause", () => command(store.live.run?.paused ? "resume" : "pause"), { class: "primary" });
  const stop = button("Stop the run", stopRun, { class: "danger" });
  const pausedNote = h("p", { class: "muted" });
  const rate = setting(store, "learning_rate", "Learning rate", "any");
  const epochs = setting(store, "epochs", "Epochs", "1");
  const rounds = setting(store, "rounds", "Rounds", "1");
  const changes = h("div", {}), clients = h("ul", { class: "plain" });
  const clientsCard = card("Clients", {}, h("p", { class: "muted" }, "A client that is stopped leaves the run. Its work is given to others."), clients);
  main.append(h("div", {},
    card("The run", {}, pausedNote, h("div", { class: "actions" }, pause, stop)),
    card("Change a setting", {}, h("p", { class: "muted" }, "A change holds from the next round, or for tasks that are leased from now on. It is recorded: job.toml repeats the run with it."),
      rate.node, epochs.node, rounds.node, changes)),
    clientsCard);
  root.append(h("div", { class: "view-head" }, h("h1", {}, "Steer")), nothing, main);

  async function command(name) {
    try {
      await post("/api/command", { command: name });
      toast({ pause: "The run pauses: clients stop after the current batches.", resume: "The run continues.", stop: "The run is being stopped." }[name]);
    } catch (error) {
      toast(error.text, "error");
    }
  }

  async function stopRun() {
    if (await confirm("Stop the run?", "Finished results are kept, and the run can be resumed later.", "Stop the run")) command("stop");
  }

  const drawChanges = memo((list) => {
    replace(changes, list.length ? [h("h3", {}, "Changes so far"), h("ul", {}, list.map((each) => h("li", {}, `${each.setting.replaceAll("_", " ")} ${number(each.value)}${each.from ? ` from ${/^\d+$/.test(each.from) ? "round " : ""}${each.from}` : ""}`)))] : null);
  });
  const drawNothing = memo((none) => {
    replace(nothing, none ? empty("No run to steer.", "A run can be steered from its start until its end.", h("a", { class: "button", href: "#/setup" }, "Set up a run")) : null);
  });

  return {
    update(dirty) {
      if (!["all", "run", "clients"].some((each) => dirty.has(each))) return;
      const { run } = store.live;
      const going = Boolean(run && ["queued", "starting", "running"].includes(run.state));
      drawNothing(!going);
      main.hidden = !going;
      if (!going) return;
      setText(pause, run.paused ? "Resume" : "Pause");
      setText(pausedNote, run.paused ? "The run is paused: no client trains." : "A paused run keeps its results and its clients.");
      rate.show(run.learning_rate ?? undefined); // without one, that of the optimizer
      epochs.show(run.epochs);
      rounds.show(run.method === "federated" ? run.rounds : null);
      drawChanges(run.changes ?? []);
      const all = Object.values(store.live.clients).sort((a, b) => byName(a.name, b.name));
      clientsCard.hidden = !all.length;
      keyed(clients, all, (each) => each.name, (each) => h("li", { class: "line" }, h("b", {}, each.name), h("span", { class: "state" }), button("Stop", () => stopClient(each.name), { class: "small", "aria-label": `Stop ${each.name}` })), (node, each) => {
        const [sign, word] = STATES[each.state] ?? ["", each.state];
        setAttr(node, "data-state", each.state);
        setText(node.children[1], `${sign} ${word}`);
        node.children[2].hidden = ["done", "lost", "failed"].includes(each.state);
      });
    },
  };
}

function setting(store, key, label, step) {
  const id = newId(key), wrong = h("p", { class: "field-error", id: `${id}-error`, role: "alert", hidden: true });
  const input = h("input", { id, name: key, type: "number", step, min: "0", inputmode: "decimal", required: true, "aria-describedby": `${id}-error` });
  const now = h("span", { class: "muted" });
  const node = h("form", { class: "inline-form", novalidate: true, on: { submit: send } },
    h("label", { for: id }, label), h("div", { class: "line" }, input, h("button", { type: "submit" }, "Change"), now), wrong);

  async function send(event) {
    event.preventDefault();
    wrong.hidden = true;
    setAttr(input, "aria-invalid", null);
    const text = input.value.trim();
    try {
      await post("/api/command", { command: "change", setting: key, value: text === "" ? null : Number(text) });
      toast(`${label} ${text}: from the next round or task.`);
      input.value = "";
    } catch (error) {
      const found = Object.values(error.fields)[0];
      setText(wrong, found ? [found.error, found.hint].filter(Boolean).join(" ") : error.text);
      wrong.hidden = false;
      setAttr(input, "aria-invalid", "true");
      input.focus();
    }
  }

  return {
    node,
    show(value) {
      node.hidden = value === null;
      setText(now, value === undefined || value === null ? "now: that of the optimizer" : `now: ${number(value)}`);
    },
  };
}
