// The page: views by the address after #, one store, one stream. Only the visible view is drawn.

import { button, empty, h, replace, setAttr } from "./dom.js";
import { header } from "./header.js";
import { Store } from "./state.js";
import { connect } from "./stream.js";

// [address, name, module, for the teacher only]
const GROUPS = [
  ["Class", [["lobby", "Lobby", "./lobby.js"], ["setup", "Set up", "./setup.js", true]]],
  ["Run", [
    ["machines", "Machines", "./machines.js"], ["curves", "Curves", "./curves.js"], ["samples", "Samples", "./samples.js"],
    ["confusion", "Confusion matrix", "./confusion.js"], ["timeline", "Timeline", "./timeline.js"], ["model", "Model", "./model.js"],
    ["steer", "Steer", "./steer.js", true],
  ]],
  ["Results", [["runs", "Runs", "./runs.js"], ["compare", "Compare", "./compare.js"], ["versus", "One machine", "./versus.js"]]],
];
const VIEWS = new Map(GROUPS.flatMap(([, views]) => views.map((view) => [view[0], view])));

const store = new Store();
const updateHeader = header(store);
const place = document.getElementById("view");
const content = document.getElementById("content");
let current = null, shownId = "", opening = 0;

function navigation() {
  const nav = document.getElementById("views");
  replace(nav, GROUPS.map(([title, views]) => h("div", { class: "group" }, h("p", { class: "group-title" }, title),
    h("ul", {}, views.filter(([, , , teacher]) => !teacher || store.teacher).map(([id, name]) =>
      h("li", {}, h("a", { href: `#/${id}`, "data-view": id }, name)))))));
  mark();
}

function mark() {
  for (const link of document.querySelectorAll("#views a")) {
    const here = link.dataset.view === shownId;
    setAttr(link, "aria-current", here ? "page" : null);
    if (here && link.offsetParent) {
      const nav = document.getElementById("views");
      if (nav.scrollWidth > nav.clientWidth) nav.scrollLeft = link.offsetLeft - nav.clientWidth / 2 + link.offsetWidth / 2;
    }
  }
}

const wanted = () => decodeURIComponent(location.hash.replace(/^#\/?/, "")).split("?")[0];

function initial() {
  const { run } = store.live;
  return run && run.state !== "queued" ? "curves" : "lobby";
}

async function show({ focus = false } = {}) {
  let id = wanted();
  if (!VIEWS.has(id) || (VIEWS.get(id)[3] && !store.teacher)) id = initial();
  if (id === shownId) return;
  const turn = ++opening;
  const [, name, file] = VIEWS.get(id);
  let module;
  try {
    module = await import(file);
  } catch {
    replace(place, empty("This view could not be loaded.", "The server does not answer.", button("Load the page again", () => location.reload())));
    return;
  }
  if (turn !== opening) return;
  current?.leave?.();
  shownId = id;
  document.body.dataset.view = id;
  replace(place);
  current = module.view(place, { store, go: (to) => { location.hash = `#/${to}`; } });
  if (!place.querySelector("h1")) place.prepend(h("h1", { class: "offscreen" }, name));
  current.update(new Set(["all"]));
  mark();
  if (focus) {
    content.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

let role = null;
store.listen((dirty) => {
  updateHeader(dirty);
  if (!store.loaded) {
    if (store.connection === "refused") replace(place, empty("This browser is not signed in.", "Open the link that the server printed at its start; it signs this browser in."));
    return;
  }
  if (role !== store.server.role) {
    role = store.server.role;
    navigation();
  }
  if (!current) return void show();
  current.update(dirty);
});

addEventListener("hashchange", () => { if (store.loaded) show({ focus: true }); });
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});
window.lanfitStore = store; // for tests, and for the browser's developer tools
connect(store);
