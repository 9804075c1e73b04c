// The first view: what is going on, what has been saved, what the disk holds and what would go next.

import { get } from "./api.js";
import { warms } from "./actions.js";
import { chart } from "./chart.js";
import { fill, follow, h, name, path, say } from "./dom.js";
import { byRepository, fills } from "./fills.js";
import { ago, bytes, count, many, share, short } from "./format.js";
import { badge, copyable, panel, parts, when } from "./parts.js";
import { host, listen, news, state } from "./state.js";

const OUTCOMES = [
  ["hit", "from the disk"],
  ["joined", "joined a fill"],
  ["revalidated", "checked, unchanged"],
  ["stale", "upstream away"],
  ["miss", "fetched"],
  ["pass", "passed on"],
];

// As many as the chart can show, and not more to send than that. first.js asks for them too.
const POINTS = 100;

export function now(signal) {
  const running = fills(signal);
  const under = pulls(signal);
  return h(
    "div",
    { class: "view now" },
    h("h1", { class: "offscreen" }, "Now"),
    saved(signal),
    warms(signal),
    h("div", { class: "two" },
      h("div", { class: "stack" }, panel("Being fetched", running.title, running.body), disk(signal)),
      h("div", { class: "stack" }, panel("Pulls under way", under.title, under.body), next(signal))),
  );
}

function saved(signal) {
  const number = h("p", { class: "hero num" });
  const words = h("p", { class: "words" });
  const outcomes = h("div", { class: "outcomes" });
  const picture = chart();
  const first = h("div", { class: "first", hidden: true });
  const tell = h("div", { class: "tell" }, h("h2", {}, "Not fetched again"), number, words, outcomes);
  const show = () => {
    const totals = state.totals;
    if (!totals) return;
    const fresh = state.about?.repositories === 0 && !totals.served && !totals.fetched;
    if (fresh && !first.firstChild) {
      fill(first, welcome([]));
      get("upstreams", null, signal).then(({ upstreams }) => fill(first, welcome(upstreams)), () => {});
    }
    first.hidden = !fresh;
    tell.hidden = fresh;
    say(number, bytes(totals.saved));
    fill(words, sentence(totals));
    fill(outcomes, kinds(totals.pulls));
  };
  const history = async () => {
    try {
      picture.update({ ...(await get("history", { n: POINTS }, signal)), started: state.about?.started });
    } catch {
      // The header says that the connection is lost; the picture stays as it was.
    }
  };
  listen(signal, news, ["about", "state"], show);
  listen(signal, news, ["about"], history);
  const timer = setInterval(history, 60_000);
  signal.addEventListener("abort", () => clearInterval(timer));
  show();
  history();
  return h("section", { class: "panel saved" }, first, tell, picture);
}

// A registry that mirrors nothing has nothing to pull before somebody pushes.
function welcome(upstreams) {
  const from = host();
  const names = upstreams.map(({ name }) => name);
  const first = names.includes("docker.io") ? ["Docker Hub", "alpine"] : names.length ? [names[0], `${names[0]}/org/app`] : null;
  return [
    h("h2", {}, "Nothing is here yet"),
    first && [h("p", {}, "Pull a first image. It comes from ", h("bdi", {}, first[0]), ", and stays:"), copyable(`docker pull ${from}/${first[1]}`)],
    h("p", {}, first ? "Or push one that is yours:" : "Push a first image:"),
    copyable(`docker tag alpine ${from}/team/app && docker push ${from}/team/app`),
    h("p", { class: "soft" }, "So that docker, containerd, podman and others ask larder by themselves: ", h("a", { href: "#/setup" }, "set them up"), "."),
  ];
}

function sentence({ served, fetched, saved: kept }) {
  const since = state.about ? ` since ${ago(state.about.started)}` : "";
  if (!served && !fetched) return "Nothing has been pulled since the start. From the second pull of an image on, it is counted here.";
  // What was pushed here is served too, but never fetched: it doesn't count in this.
  const times = fetched > 0 ? (kept + fetched) / fetched : 0;
  const ratio = times >= 1.05 ? ` Each byte that was fetched was served ${times >= 10 ? Math.round(times) : times.toFixed(1)} times.` : "";
  return `${bytes(served)} served and ${bytes(fetched)} fetched${since.replace("since", "since the start,")}.${ratio}`;
}

function kinds(pulls) {
  const all = OUTCOMES.map(([key]) => pulls?.[key] ?? 0).reduce((a, b) => a + b, 0);
  if (!all) return [];
  const list = OUTCOMES.filter(([key]) => pulls[key] > 0);
  const label = `${many(all, "pull")}: ${list.map(([key, words]) => `${count(pulls[key])} ${words}`).join(", ")}`;
  return [
    parts(all, list.map(([key, words]) => [key, pulls[key], `${count(pulls[key])} ${words}`]), label),
    h("ul", { class: "keys" }, list.map(([key, words]) => h("li", { class: `key ${key}` }, h("span", { class: "num" }, count(pulls[key])), ` ${words}`))),
  ];
}

function pulls(signal) {
  const groups = h("div", { class: "pulls" });
  const none = h("p", { class: "quiet-line" }, "No client is being answered just now.");
  const title = h("span", { class: "soft num" });
  const show = () => {
    none.hidden = state.pulls.length > 0;
    say(title, state.pulls.length ? many(state.pulls.length, "answer") : "");
    follow(groups, byRepository(state.pulls), ([repository]) => repository, ([repository]) => pullGroup(repository));
  };
  listen(signal, news, ["state"], show);
  show();
  return { title, body: [groups, none] };
}

function pullGroup(repository) {
  const rows = h("div", { class: "rows" });
  const group = h("article", {}, h("header", {}, path(repository)), rows);
  group.update = ([, list]) => follow(rows, numbered(list), ({ key }) => key, ({ one }) => pull(one));
  return group;
}

// Clients behind one address may take the same thing at the same time.
function numbered(list) {
  const seen = new Map();
  return list.map((one) => {
    const same = `${one.client} ${one.reference} ${one.since}`;
    seen.set(same, (seen.get(same) ?? 0) + 1);
    return { one, key: `${same} ${seen.get(same)}` };
  });
}

function pull(first) {
  const bar = h("span", {});
  const sent = h("span", { class: "num" });
  const words = OUTCOMES.find(([key]) => key === first.outcome)?.[1];
  const row = h("div", { class: "pull" }, name(first.client, "mono"), name(short(first.reference), "mono soft"), h("div", { class: "bar thin" }, bar), sent, badge(OUTCOMES.some(([key]) => key === first.outcome) ? first.outcome : "", first.outcome, words));
  row.update = ({ one }) => {
    say(sent, one.size ? `${bytes(one.sent)} of ${bytes(one.size)}` : bytes(one.sent));
    bar.style.transform = `scaleX(${one.size ? Math.min(1, one.sent / one.size) : 0})`;
  };
  return row;
}

function disk(signal) {
  const body = h("div", {});
  const show = () => {
    if (state.disk) fill(body, diskParts(state.disk));
  };
  listen(signal, news, ["about", "state"], show);
  show();
  return panel("Disk", null, body);
}

function diskParts(disk) {
  const { used, mirrors, local, free, size, maxsize, minfree, counted } = disk;
  const others = Math.max(0, size - free - used);
  const list = [
    ["mirrors", mirrors, `mirrors ${bytes(mirrors)}`],
    ["local", local, `pushed here ${bytes(local)}`],
    ["others", others, `other programs ${bytes(others)}`],
  ];
  const label = `${list.map(([, , words]) => words).join(", ")}, free ${bytes(free)}, of ${bytes(size)}`;
  const line = (kind, words, amount, more) => h("li", {}, h("span", { class: `key ${kind}` }, words), h("span", { class: "num" }, bytes(amount)), more && h("span", { class: "soft" }, more));
  return [
    parts(size, list, label),
    h("ul", { class: "amounts" },
      line("mirrors", "mirrored images", mirrors, maxsize ? `at most ${bytes(maxsize)}, ${share(mirrors, maxsize)} of it used` : null),
      line("local", "pushed here", local, "never evicted"),
      line("others", "other programs", others),
      line("free", "free", free, minfree ? `at least ${bytes(minfree)} is kept free` : null)),
    !counted && h("p", { class: "soft" }, "Still counting since the start; the figures grow until that is done."),
  ];
}

function next(signal) {
  const body = h("div", {});
  const load = async () => {
    try {
      const { next: list } = await get("evictions", { n: 8 }, signal);
      fill(body, list.length ? evictions(list) : h("p", { class: "quiet-line" }, "Nothing: no mirrored image may be evicted."));
    } catch (error) {
      if (error.name !== "AbortError") fill(body, h("p", { class: "quiet-line" }, error.message));
    }
  };
  let timer = 0;
  listen(signal, news, ["changed"], () => {
    clearTimeout(timer);
    timer = setTimeout(load, 3000);
  });
  signal.addEventListener("abort", () => clearTimeout(timer));
  load();
  return panel("Would go next", h("span", { class: "soft" }, "if room were needed"), body);
}

function evictions(list) {
  return h("ol", { class: "evictions" }, list.map((one) =>
    h("li", {}, h("div", { class: "line" }, one.tags?.length ? h("a", { href: `#/image/${encode(one.repository)}:${encode(one.tags[0])}` }, path(`${one.repository}:${one.tags.join(", ")}`)) : [path(one.repository), name(short(one.digest), "mono")], h("span", { class: "num" }, bytes(one.frees))), h("div", { class: "soft" }, "last used ", when(one.used)))));
}

/** A name as part of an address of this page. */
export function encode(text) {
  return encodeURIComponent(text).replaceAll("%2F", "/");
}
