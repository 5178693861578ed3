// Whose model is shown: that of all, or a client's. Views of samples and confusion matrices share the choice.

import { h, memo, replace } from "./dom.js";
import { byName } from "./format.js";

let chosen = "";

export class Whose {
  constructor(change) {
    this.node = h("div", {});
    this.redraw = memo((names) => {
      replace(this.node, names.length < 2 ? null : h("label", { class: "control" }, h("span", { class: "control-label" }, "Whose model"),
        h("select", { on: { change: (e) => { chosen = e.target.value; change(); } } },
          names.map((name) => h("option", { value: name, selected: name === chosen }, whose(name))))));
    });
  }

  /** Offer these models, and return the chosen one's name; null if there is none. */
  choose(models) {
    const names = Object.keys(models ?? {}).sort((a, b) => (a === "" ? -1 : b === "" ? 1 : byName(a, b)));
    if (!names.includes(chosen)) chosen = names[0] ?? "";
    this.redraw(names);
    return names.length ? chosen : null;
  }
}

export const whose = (name) => name || "Model of all";
