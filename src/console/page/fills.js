// The fills under way. The server tells their state twice a second at most; between two states a bar goes on evenly,
// so that it moves as the download does, and one loop moves all of them.

import { follow, h, name, path, say } from "./dom.js";
import { bytes, duration, many, share, short, speed } from "./format.js";
import { origin } from "./parts.js";
import { listen, news, state } from "./state.js";

const STILL = matchMedia("(prefers-reduced-motion: reduce)");
// How long the next state is expected to take; more, and the bar would lag behind.
const SHORTEST = 250;
const LONGEST = 1200;
// More dots than this say no more than the number.
const MOST_DOTS = 60;

/** All fills, by repository. Follows the state until `signal` says that the view is gone. */
export function fills(signal) {
  const groups = h("div", { class: "fills" });
  const title = h("span", { class: "soft num" });
  const none = h("p", { class: "quiet-line" }, "Nothing is being fetched. What is here comes from the disk.");
  const moving = new Set();
  let frame = 0;
  let told = performance.now();

  const step = (now) => {
    frame = 0;
    let more = false;
    for (const row of moving) more = row.move(now) || more;
    if (more) frame = requestAnimationFrame(step);
  };
  const show = () => {
    const now = performance.now();
    const pace = Math.min(LONGEST, Math.max(SHORTEST, now - told));
    told = now;
    follow(groups, byRepository(state.fills), ([repository]) => repository, ([, list]) => group(list[0], moving));
    for (const [repository, list] of byRepository(state.fills)) groups.rows.get(repository).show(list, now, pace);
    say(title, state.fills.length ? `${many(state.fills.length, "layer")} · ${speed(total(state.fills, "speed"))}` : "");
    none.hidden = state.fills.length > 0;
    if (!frame) frame = requestAnimationFrame(step);
  };
  listen(signal, news, ["state", "about"], show);
  signal.addEventListener("abort", () => cancelAnimationFrame(frame));
  show();
  return { title, body: [groups, none] };
}

function total(list, key) {
  return list.reduce((sum, one) => sum + (one[key] || 0), 0);
}

/** Those of one repository together, repositories in the order of their names. */
export function byRepository(list) {
  const groups = new Map();
  for (const one of list) groups.set(one.repository, [...(groups.get(one.repository) ?? []), one]);
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
}

function group(first, moving) {
  const rows = h("div", { class: "rows" });
  const sum = h("span", { class: "num soft" });
  const element = h("article", { class: "fill-group" }, h("header", {}, path(first.repository), first.upstream && !first.repository.startsWith(first.upstream) ? origin(first.upstream) : null, sum), rows);
  element.show = (list, now, pace) => {
    const make = (one) => {
      const row = layer(one);
      moving.add(row);
      return row;
    };
    const leave = (row) => {
      moving.delete(row);
      row.remove();
    };
    follow(rows, list, (one) => one.digest, make, leave);
    for (const one of list) rows.rows.get(one.digest).aim(one, now, pace);
    const followers = Math.max(...list.map((one) => one.followers));
    say(sum, followers > 1 ? `${many(followers, "client")}, one download` : "");
  };
  return element;
}

/** One fill: a bar that moves from where it shows to where the server is. */
function layer(first) {
  const bar = h("span", {});
  const track = h("div", { class: "bar", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": `${first.repository}, layer ${short(first.digest)}` }, bar);
  const written = h("span", { class: "num written" });
  const percent = h("span", { class: "num percent" });
  const pace = h("span", { class: "num pace" });
  const left = h("span", { class: "num left" });
  const dots = h("span", { class: "dots", "aria-hidden": "true" });
  const crowd = h("span", { class: "num" });
  const row = h("div", { class: "fill" }, h("div", { class: "line" }, name(short(first.digest), "mono"), written, pace, left, percent), track, h("div", { class: "line crowd" }, dots, crowd));
  let now = first;
  let from = first.written;
  let shown = first.written;
  let start = 0;
  let length = 0;

  row.aim = (one, at, expected) => {
    from = STILL.matches ? one.written : shown;
    shown = from;
    now = one;
    start = at;
    length = expected;
    track.setAttribute("aria-valuenow", one.size ? Math.floor((100 * one.written) / one.size) : 0);
    say(pace, speed(one.speed));
    say(left, remaining(one));
    say(crowd, one.followers === 0 ? "nobody waits, it is kept for the next" : many(one.followers, "client"));
    dots.style.setProperty("--n", Math.min(one.followers, MOST_DOTS));
  };
  row.move = (at) => {
    // A frame's time is that of its beginning, which may be before the news came.
    const part = length ? Math.min(1, Math.max(0, (at - start) / length)) : 1;
    shown = from + (now.written - from) * part;
    bar.style.transform = `scaleX(${now.size ? Math.min(1, shown / now.size) : 0})`;
    say(written, now.size ? `${bytes(shown)} of ${bytes(now.size)}` : bytes(shown));
    say(percent, now.size ? share(shown, now.size) : "");
    track.classList.toggle("unknown", !now.size);
    return part < 1;
  };
  return row;
}

function remaining({ size, written, speed: pace }) {
  if (!size) return "size not known";
  if (written >= size) return "checking";
  return pace > 0 ? `${duration((size - written) / pace)} left` : "waiting for the upstream";
}
