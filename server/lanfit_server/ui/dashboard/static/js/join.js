// The page behind the QR code: how a machine joins, one system at a time. It is served to people who join.

import { button, copy, h, replace, segmented } from "./dom.js";

const place = document.getElementById("join");

const withCopy = (line) => h("div", { class: "join-box" }, h("pre", {}, line.split(" ").flatMap((word) => [h("span", {}, word), " "])), button("Copy", () => copy(line), { class: "small", "aria-label": `Copy: ${line}` }));
const guess = () => /Win/.test(navigator.userAgent) ? "Windows" : /Mac/.test(navigator.userAgent) ? "macOS" : "Linux";

async function load() {
  let server;
  try {
    const answer = await fetch("/api/state", { credentials: "same-origin" });
    if (!answer.ok) throw new Error(String(answer.status));
    ({ server } = await answer.json());
  } catch {
    return replace(place, h("p", {}, "The lines could not be loaded. Open the link of the class again."), button("Try again", load));
  }
  const systems = server.join_lines ?? [];
  const lines = h("div", {});
  const show = (name) => replace(lines, h("ol", { class: "steps" }, (systems.find((each) => each.system === name)?.lines ?? []).map((line) =>
    h("li", {}, withCopy(line)))));
  const first = systems.find((each) => each.system === guess())?.system ?? systems[0]?.system;
  if (first) show(first);
  replace(place,
    systems.length ? segmented("System", systems.map((each) => [each.system, each.system]), first, show) : null, lines,
    h("h2", {}, "If lanfit is already installed"),
    withCopy(server.join ?? ""),
    h("p", { class: "muted" }, "It asks for the passphrase, which your teacher knows."));
}

load();
