// Making elements. All text goes in as text nodes: nothing here reads HTML.

/** Return an element. `props`: `class`, `on: {event: handler}`, `value`/`checked`/…, and attributes. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "selected", "open", "required", "readOnly", "indeterminate"]);

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) {
      if (PROPERTIES.has(name)) node[name] = value ?? "";
    } else if (name === "on") {
      for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    } else if (name === "vars") {
      for (const [key, each] of Object.entries(value)) node.style.setProperty(key, each);
    } else if (PROPERTIES.has(name)) {
      node[name] = value;
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children) {
    if (Array.isArray(child)) add(node, child);
    else if (child !== null && child !== undefined && child !== false) {
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
  }
}

/** Put these children in the place of all others. */
export function replace(node, ...children) {
  node.textContent = "";
  add(node, children);
}

/** Set the text only where it changed: a screen reader hears what is new, and the page is not laid out again. */
export function setText(node, text) {
  const wanted = String(text ?? "");
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function setAttr(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value === true ? "" : String(value));
}

/**
 * Keep one child per item, in order; a child is made once and updated afterwards, so that focus and scrolling stay.
 * `create(item)` returns a node; `update(node, item)` puts its contents right.
 */
export function keyed(container, items, key, create, update) {
  const known = container.keyedNodes ??= new Map();
  const wanted = new Set();
  let at = container.firstChild;
  for (const item of items) {
    const name = key(item);
    wanted.add(name);
    let node = known.get(name);
    if (!node) known.set(name, node = create(item));
    update(node, item);
    if (node !== at) container.insertBefore(node, at);
    else at = at.nextSibling;
  }
  for (const [name, node] of known) {
    if (!wanted.has(name)) {
      node.remove();
      known.delete(name);
    }
  }
}

/** Run `draw` only if what it depends on is not the same as the last time. */
export function memo(draw) {
  let last = null;
  return (...values) => {
    const now = JSON.stringify(values);
    if (now === last) return;
    last = now;
    draw(...values);
  };
}

export function button(label, action, props = {}) {
  return h("button", { type: "button", ...props, on: { click: action } }, label);
}

/** Return a card with a heading. */
export function card(title, props = {}, ...children) {
  const { level = 2, class: extra = "", ...others } = props;
  return h("section", { class: `card ${extra}`, ...others }, title ? h(`h${level}`, {}, title) : null, ...children);
}

export function empty(title, text, ...more) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), text ? h("p", {}, text) : null, ...more);
}

/** One of a few choices, as radio buttons that look like one switch. `choices`: [[value, label], …]. */
export function segmented(label, choices, value, change) {
  const name = `s${++counter}`;
  const group = h("div", { class: "segmented", role: "radiogroup", "aria-label": label },
    choices.map(([each, text]) => h("label", {},
      h("input", { type: "radio", name, value: each, checked: each === value, on: { change: () => change(each) } }),
      h("span", {}, text))));
  return h("div", { class: "control" }, h("span", { class: "control-label", "aria-hidden": "true" }, label), group);
}

let counter = 0;
export const newId = (prefix) => `${prefix}-${++counter}`;

export function toggle(label, value, change) {
  return h("label", { class: "toggle" }, h("input", { type: "checkbox", checked: value, on: { change: (e) => change(e.target.checked) } }), h("span", {}, label));
}

/** Open a dialog; returns it. Escape and the button close it, and the focus goes back. */
export function dialog(title, body, { wide = false, actions = [] } = {}) {
  const id = newId("dialog");
  const before = document.activeElement;
  const node = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": id },
    h("div", { class: "dialog-head" }, h("h2", { id }, title),
      button("✕", () => node.close(), { class: "quiet icon", "aria-label": "Close" })),
    h("div", { class: "dialog-body" }, body),
    actions.length ? h("div", { class: "actions" }, actions) : null);
  node.addEventListener("close", () => {
    node.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
  });
  node.addEventListener("click", (e) => { if (e.target === node) node.close(); });
  document.body.append(node);
  node.showModal();
  return node;
}

/** Ask a question; resolves to whether it was confirmed. */
export function confirm(title, text, yes, { danger = true } = {}) {
  return new Promise((resolve) => {
    let answer = false;
    const node = dialog(title, h("p", {}, text), {
      actions: [
        button("Cancel", () => node.close(), { autofocus: true }),
        button(yes, () => { answer = true; node.close(); }, { class: danger ? "danger" : "primary" }),
      ],
    });
    node.addEventListener("close", () => resolve(answer));
  });
}

export function toast(text, kind = "info") {
  const node = h("div", { class: `toast ${kind}` }, h("span", {}, text), button("✕", () => node.remove(), { class: "quiet icon", "aria-label": "Dismiss" }));
  document.getElementById("toasts").append(node);
  setTimeout(() => node.remove(), kind === "error" ? 15000 : 6000);
}

/** Copy text; the clipboard of the browser is only there on secure pages. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "offscreen", readOnly: true });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast("Copied.");
}

/** A definition list of pairs. */
export function facts(pairs, props = {}) {
  return h("dl", { class: "facts", ...props }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, value))));
}

/** A table in a box that scrolls by itself, also by keyboard. */
export function table(caption, head, rows, props = {}) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", props, h("caption", { class: "offscreen" }, caption),
      h("thead", {}, h("tr", {}, head.map((cell) => cell instanceof Node ? cell : h("th", { scope: "col" }, cell)))),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => cell instanceof Node && /^T[HD]$/.test(cell.tagName) ? cell : h("td", {}, cell)))))));
}
