// The one connection of a tab: server-sent events, or polling where something on the way holds them back.

import { get } from "./api.js";

const OPENS_WITHIN = 5000;
const SILENT_FOR = 8000;
const TRY_AGAIN = 30000;

export function connect(store) {
  let source = null, pollTimer = null, openTimer = null, silentTimer = null, retryTimer = null, retries = 0;
  const pollEvery = () => (store.server.poll_seconds ?? 3) * 1000;

  async function start() {
    try {
      store.snapshot(await get("/api/state"));
    } catch (error) {
      if (error.status === 401 || error.status === 403) return store.setConnection("refused");
      store.setConnection("lost");
      retryTimer = setTimeout(start, 1000 * Math.min(++retries, 10));
      return;
    }
    stream();
  }

  function stream() {
    closeStream();
    if (typeof EventSource === "undefined") return poll();
    source = new EventSource(`/api/events?since=${store.live.seq}`);
    openTimer = setTimeout(blocked, OPENS_WITHIN);
    source.onopen = () => {
      clearTimeout(openTimer);
      if (store.connection !== "polling") store.setConnection("live");
      listenForSilence();
    };
    source.onmessage = (event) => {
      clearTimeout(openTimer);
      retries = 0;
      stopPolling();
      store.setConnection("live");
      listenForSilence();
      store.delta(JSON.parse(event.data));
    };
    source.onerror = () => {
      // The browser would ask again with the old address; we know better where we are.
      closeStream();
      if (pollTimer) return;
      store.setConnection("lost");
      retries += 1;
      if (retries > 2) poll();
      else retryTimer = setTimeout(stream, 500 * retries);
    };
  }

  /** A proxy can let a stream open and hold back what it says: ask once whether there was something to say. */
  function listenForSilence() {
    clearTimeout(silentTimer);
    silentTimer = setTimeout(async () => {
      const before = store.live.seq;
      try {
        const delta = await get(`/api/poll?since=${before}`);
        const news = (delta.snapshot ?? delta).seq > before && store.live.seq === before;
        store.delta(delta);
        if (news) return blocked();
        store.setConnection("live");
        listenForSilence();
      } catch {
        blocked();
      }
    }, SILENT_FOR);
  }

  function blocked() {
    closeStream();
    poll();
  }

  async function poll() {
    clearTimeout(pollTimer);
    let wait = pollEvery();
    try {
      store.delta(await get(`/api/poll?since=${store.live.seq}`));
      store.setConnection("polling");
    } catch (error) {
      if (error.status === 401 || error.status === 403) return store.setConnection("refused");
      store.setConnection("lost");
    }
    if (source) return;
    pollTimer = setTimeout(poll, wait);
    retryTimer ??= setTimeout(() => { retryTimer = null; stream(); }, TRY_AGAIN);
  }

  function stopPolling() {
    clearTimeout(pollTimer);
    pollTimer = null;
  }

  function closeStream() {
    clearTimeout(openTimer);
    clearTimeout(silentTimer);
    clearTimeout(retryTimer);
    retryTimer = null;
    source?.close();
    source = null;
  }

  // A laptop that slept, or a network that came back: do not wait for a timer.
  addEventListener("online", () => stream());
  document.addEventListener("visibilitychange", () => { if (!document.hidden && store.connection === "lost") stream(); });
  start();
}
