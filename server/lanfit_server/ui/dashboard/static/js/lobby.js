// Who joins and how: made for a projector, readable from the last row.

import { get, post } from "./api.js";
import { button, card, copy, h, memo, replace, segmented, setText, table, toast } from "./dom.js";
import { byName, number, plural, seconds } from "./format.js";

export function view(root, { store, go }) {
  const how = h("div", {});
  const count = h("p", { class: "count" });
  const people = h("ul", { class: "people" });
  const waiting = h("p", { class: "muted" });
  const actions = h("div", { class: "actions" });
  const bans = h("div", {});
  root.append(
    h("div", { class: "lobby" },
      h("section", { class: "card join" }, h("h1", {}, "Join the run"), how),
      h("section", { class: "card who", "aria-live": "polite" }, count, people, waiting, actions)),
    bans);

  const drawHow = memo((server) => {
    // The line is broken between its words only: a hyphen at the end of a line would look like a part of a word.
    const line = h("code", { class: "join-line" }, (server.join ?? "").split(" ").flatMap((word) => [h("span", {}, word), " "]));
    const systems = server.join_lines ?? [];
    const lines = h("div", {});
    const showSystem = (name) => {
      const chosen = systems.find((each) => each.system === name);
      replace(lines, h("pre", { class: "lines", tabindex: "0" }, (chosen?.lines ?? []).join("\n")));
    };
    const first = systems[0]?.system;
    if (first) showSystem(first);
    replace(how,
      h("div", { class: "join-grid" },
        h("div", {},
          h("div", {}, h("div", { class: "step" }, h("p", {}, "Type this in a terminal:"), button("Copy", () => copy(server.join), { class: "small", "aria-label": "Copy the join line" })),
            h("div", { class: "join-box" }, line)),
          server.passphrase ? passphrase(server.passphrase) : null,
          systems.length ? h("details", { class: "systems" }, h("summary", {}, "lanfit is not installed yet?"),
            segmented("System", systems.map((each) => [each.system, each.system]), first, showSystem), lines) : null),
        h("figure", { class: "qr" }, h("img", { src: "/qr.svg", alt: "QR code of the page with instructions for joining", width: "240", height: "240" }),
          h("figcaption", {}, server.class_link ? h("a", { href: "/join" }, "How to join, step by step") : h("a", { href: "/join" }, "How to join")))));
  });

  const drawPeople = memo((lobby, running) => {
    const joined = [...(lobby.joined ?? [])].sort(byName);
    replace(count, h("strong", {}, number(joined.length)), lobby.wanted ? ` of ${number(lobby.wanted)} joined` : " joined");
    const shown = joined.map((name) => h("li", { class: "here" }, h("span", { "aria-hidden": "true" }, "✓ "), name));
    const missing = Math.max(0, lobby.missing ?? 0);
    for (let i = 0; i < Math.min(missing, 60); i++) shown.push(h("li", { class: "missing", "aria-hidden": "true" }, "…"));
    replace(people, shown);
    people.classList.toggle("many", joined.length + missing > 24);
    setText(waiting, running ? "A run is in progress; clients that join now can take part." : lobby.waiting_for || (missing ? `${plural(missing, "client is", "clients are")} missing.` : ""));
    const tools = [];
    if (store.teacher && lobby.can_start_now) {
      tools.push(button("Start now", async () => {
        try { await post("/api/start_now"); toast("The run starts."); } catch (error) { toast(error.text, "error"); }
      }, { class: "primary" }));
    }
    if (store.teacher && !running) tools.push(button("Set up a run", () => go("setup")));
    if (running) tools.push(button("See the machines", () => go("machines"), { class: "primary" }));
    replace(actions, tools);
  });

  async function loadBans() {
    if (!store.teacher) return;
    let found;
    try { found = (await get("/api/bans")).bans ?? []; } catch { return; }
    drawBans(found);
  }
  const drawBans = memo((found) => {
    replace(bans, found.length ? card("Refused addresses", {},
      h("p", { class: "muted" }, "These addresses gave a wrong passphrase too often, and are refused for a while."),
      table("Refused addresses", ["Address", "Time left", "Reason", "Action"], found.map((ban) => [
        h("code", {}, ban.address), seconds(ban.seconds_left), ban.reason ?? "",
        button("Admit again", async () => {
          try { await post("/api/bans/lift", { address: ban.address }); toast(`${ban.address} may join again.`); } catch (error) { toast(error.text, "error"); }
          loadBans();
        }, { class: "small", "aria-label": `Admit ${ban.address} again` }),
      ]))) : null);
  });
  const timer = setInterval(loadBans, 5000);
  loadBans();

  return {
    update(dirty) {
      if (dirty.has("all") || dirty.has("server")) drawHow(store.server);
      if (dirty.has("all") || dirty.has("lobby") || dirty.has("run")) {
        const { run } = store.live;
        drawPeople(store.live.lobby, Boolean(run && ["starting", "running", "finishing"].includes(run.state)));
      }
    },
    leave: () => clearInterval(timer),
  };
}

function passphrase(text) {
  const shown = h("code", { class: "passphrase" }, "• • • •");
  let open = false;
  const control = button("Show", () => {
    open = !open;
    setText(shown, open ? text : "• • • •");
    setText(control, open ? "Hide" : "Show");
  }, { class: "small", "aria-label": "Show or hide the passphrase" });
  return h("div", {}, h("div", { class: "step" }, h("p", {}, "The passphrase that it asks for:"), control), h("div", { class: "join-box" }, shown));
}
