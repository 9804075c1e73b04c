// What the page knows of the server: asked for at the start, kept current by its events.

import { get } from "./api.js";
import { live } from "./live.js";

/** `about` is the answer of /api/v1/; the rest is the newest state that the events told. */
export const state = { about: null, fills: [], pulls: [], totals: null, disk: null, warms: new Map() };

/** Events: `about`, `state`, `warm`, `changed` (with the repository in `detail`; null where it may be any). */
export const news = new EventTarget();

function tell(type, detail) {
  news.dispatchEvent(new CustomEvent(type, { detail }));
}

/** Asks who we are and what the server is. */
export async function refresh() {
  const about = await get("");
  state.about = about;
  state.totals = about.totals;
  state.disk = about.disk;
  tell("about");
  return about;
}

live.addEventListener("state", ({ detail }) => {
  state.fills = detail.fills ?? [];
  state.pulls = detail.pulls ?? [];
  state.totals = detail.totals ?? state.totals;
  state.disk = detail.disk ?? state.disk;
  tell("state");
});

live.addEventListener("warm", ({ detail }) => warmed(detail));

// Many changes in a row, as of a push, are one question.
let asking = 0;
live.addEventListener("changed", ({ detail }) => {
  tell("changed", detail.repository);
  asking ||= setTimeout(() => {
    asking = 0;
    refresh().catch(() => {});
  }, 2000);
});

/** Takes in how far the fetching of an image is. */
export function warmed(warm) {
  if (!warm || !warm.id) return;
  state.warms.set(warm.id, { ...state.warms.get(warm.id), ...warm });
  tell("warm", warm.id);
}

/** Runs `then` for these events until the view goes. */
export function listen(signal, target, types, then) {
  for (const type of types) target.addEventListener(type, then, { signal });
}

/** What `docker pull` needs in front of a repository: the address by which this page was reached. */
export function host() {
  return state.about?.address || location.host;
}
