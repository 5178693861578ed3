// The head of the page: state of the run in one line, progress, time left, connection, theme.

import { button, h, memo, replace, setAttr, setText } from "./dom.js";
import { left, methodName, number } from "./format.js";

const THEMES = ["system", "light", "dark"];
const LINK = {
  live: "Live", polling: "Live, every few seconds", lost: "Connection lost, trying again", connecting: "Connecting",
  refused: "Not signed in",
};
const STATES = { queued: "is queued", starting: "is starting", running: "is running", finishing: "is being finished", ended: "has ended" };
const STATUS = { done: "is done", partial: "is done in part", failed: "has failed", interrupted: "was interrupted" };

export function header(store) {
  const id = (name) => document.getElementById(name);
  theme(store, id("theme"));
  const drawHeadline = memo((...facts) => replace(id("headline"), headline(...facts)));

  return (dirty) => {
    const { run, lobby, server } = store.live;
    if (dirty.has("all") || dirty.has("connection")) {
      const link = id("link-state");
      setAttr(link, "data-state", store.connection);
      setText(link.querySelector(".text"), LINK[store.connection] ?? store.connection);
    }
    if (!dirty.has("all") && !dirty.has("run") && !dirty.has("lobby") && !dirty.has("server") && !dirty.has("connection")) return;
    if (!store.loaded) {
      setText(id("headline"), store.connection === "refused" ? "This browser is not signed in" : "Connecting …");
      setText(id("detail"), store.connection === "refused" ? "Open the link that the server printed." : "");
      return;
    }
    drawHeadline(run && [run.run, run.state, run.status, run.paused, run.stopping], lobby.missing, lobby.wanted);
    setText(id("detail"), detail(run, lobby));
    const fraction = run && run.state !== "ended" ? Math.max(0, Math.min(1, run.progress ?? 0)) : null;
    id("progress").hidden = fraction === null;
    if (fraction !== null) {
      id("progress-fill").style.transform = `scaleX(${fraction})`;
      setAttr(id("progress"), "aria-valuenow", Math.round(fraction * 100));
      id("progress").classList.toggle("paused", Boolean(run.paused));
    }
    document.title = title(run, server);
    replaceOpened(store, id("notices"));
  };
}

/** On a phone the name of the run is left out. */
function headline(run, missing, wanted) {
  if (missing) return [`Waiting for ${number(missing)} more of ${number(wanted)}`];
  if (!run) return ["Ready"];
  const [name, state, status, paused, stopping] = run;
  const says = state === "ended" ? STATUS[status] ?? "has ended" : stopping ? "is being stopped" : paused ? "is paused" : STATES[state] ?? state;
  return ["Run ", name ? h("span", { class: "run-id" }, `${name} `) : null, says];
}

function detail(run, lobby) {
  if (!run || lobby.missing) return lobby.waiting_for || (lobby.joined?.length ? `${number(lobby.joined.length)} joined` : "");
  const parts = [methodName(run.method)];
  if (run.state === "ended") {
    const { accuracy, loss } = run.metrics ?? {};
    if (accuracy !== undefined) parts.push(`accuracy ${(accuracy * 100).toFixed(1)} %`);
    else if (loss !== undefined) parts.push(`loss ${number(loss)}`);
    if (run.error) parts.push(run.error);
  } else {
    parts.push(`${Math.round((run.progress ?? 0) * 100)} %`);
    if (!run.paused && run.seconds_left !== null) parts.push(left(run.seconds_left));
  }
  return parts.filter(Boolean).join(" · ");
}

function title(run, server) {
  if (run && run.state !== "ended") return `${Math.round((run.progress ?? 0) * 100)} % · lanfit`;
  if (run) return `${run.status || "ended"} · lanfit`;
  return server.name ? `${server.name} · lanfit` : "lanfit";
}

function replaceOpened(store, place) {
  const run = store.opened?.run;
  if (place.dataset.run === (run?.run ?? "")) return;
  place.dataset.run = run?.run ?? "";
  replace(place, run ? h("div", { class: "notice" },
    h("p", {}, h("strong", {}, `You see run ${run.run}`), " as it was kept. The views of the run show it."),
    button("Back to the live run", () => store.open(null), { class: "small" })) : null);
}

function theme(store, control) {
  let current = document.documentElement.dataset.theme ?? "system";
  const show = () => replace(control, h("span", {}, "Theme: "), current);
  control.addEventListener("click", () => {
    current = THEMES[(THEMES.indexOf(current) + 1) % THEMES.length];
    if (current === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = current;
    try { localStorage.setItem("lanfit.theme", current); } catch { /* storage is blocked: for this page only */ }
    show();
    store.touch("theme");
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => store.touch("theme"));
  show();
}
