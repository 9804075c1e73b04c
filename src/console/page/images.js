// Every repository, and the tags of one.

import { get } from "./api.js";
import { pullCommand, tagActions, warmButton, warms } from "./actions.js";
import { fill, h, name, path, say, swap } from "./dom.js";
import { bytes, many, short } from "./format.js";
import { encode } from "./now.js";
import { badge, copyButton, empty, failed, origin, pages, when } from "./parts.js";
import { listen, news, state } from "./state.js";

const PAGE = 100;

const ORDERS = [["name", "by name"], ["size", "largest first"], ["used", "used last first"]];

function orders(of, id) {
  return h("select", { "aria-label": `Order of the ${of}`, id }, ORDERS.map(([value, words]) => h("option", { value }, words)));
}

/** The view: repositories on the left, the tags of `repository` on the right. */
export function images(signal, repository) {
  const list = repositories(signal, repository);
  const right = repository ? tags(signal, repository) : h("div", { class: "panel hint" }, h("p", { class: "quiet-line" }, "Choose a repository to see its tags."));
  return h(
    "div",
    { class: `view images ${repository ? "chosen" : ""}` },
    h("div", { class: "title" }, h("h1", {}, "Images"), h("span", { class: "soft num" }, totals()), warmButton()),
    warms(signal),
    h("div", { class: "split" }, list, right),
  );
}

function totals() {
  const { repositories: r, tags: t } = state.about ?? {};
  return r === null || r === undefined ? "" : `${many(r, "repository", "repositories")}, ${many(t, "tag")}`;
}

// What was typed stays while one looks at a repository and comes back.
const kept = { search: "", origin: "", sort: "name", tags: "name" };

function repositories(signal, chosen) {
  const rows = h("ul", { class: "repos" });
  const paged = pages(() => load(false));
  const search = h("input", { type: "search", id: "filter", "aria-label": "Only repositories whose name contains", placeholder: "Filter", autocomplete: "off", spellcheck: "false", value: kept.search });
  const from = h("select", { "aria-label": "Only repositories from", id: "origin" }, h("option", { value: "" }, "all"), h("option", { value: "local" }, "pushed here"), h("option", { value: "mirror" }, "mirrors"));
  from.value = kept.origin;
  const sort = orders("repositories", "sort");
  sort.value = kept.sort;
  let last = null;
  let turn = 0;

  async function load(anew) {
    const mine = (turn += 1);
    if (anew) last = null;
    const answer = await get("repositories", { search: kept.search, origin: kept.origin, sort: kept.sort, n: PAGE, last }, signal);
    if (mine !== turn) return;
    last = answer.next;
    const made = answer.repositories.map((one) => repositoryRow(one, chosen));
    const first = !rows.firstChild;
    if (anew) swap(rows, made);
    else rows.append(...made);
    if (!rows.firstChild) rows.append(h("li", {}, nothing()));
    paged.more(answer.more);
    // In the frame that lays the list out: to ask earlier where it is would be another layout.
    if (first) requestAnimationFrame(() => bring(rows.querySelector("[aria-current]")));
  }
  const anew = () => load(true).catch((error) => error.name !== "AbortError" && fill(rows, h("li", {}, failed(error, anew))));
  let timer = 0;
  const soon = (pause) => {
    clearTimeout(timer);
    timer = setTimeout(anew, pause);
  };
  search.addEventListener("input", () => {
    kept.search = search.value.trim();
    soon(120);
  });
  from.addEventListener("change", () => {
    kept.origin = from.value;
    anew();
  });
  sort.addEventListener("change", () => {
    kept.sort = sort.value;
    anew();
  });
  listen(signal, news, ["changed"], () => rows.children.length <= PAGE ? soon(1500) : null);
  signal.addEventListener("abort", () => clearTimeout(timer));
  get("upstreams", null, signal).then(({ upstreams }) => {
    for (const one of upstreams) from.append(h("option", { value: one.name }, one.name));
    from.value = kept.origin;
  }, () => {});
  anew();
  return h("section", { class: "panel list", "aria-label": "Repositories" }, h("div", { class: "filters" }, search, from, sort), h("div", { class: "scroll" }, rows, paged.end));
}

// Into the part of the list that shows, without moving the page.
function bring(link) {
  if (!link) return;
  const box = link.closest(".scroll");
  box.scrollTop += link.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 2;
}

function nothing() {
  if (kept.search || kept.origin) return empty("No repository is like that", "Another word may find it, or no filter at all.");
  return h("div", { class: "empty" }, h("p", { class: "lead" }, "Nothing is here yet"), h("p", {}, h("a", { href: "#/" }, "How it begins")));
}

function repositoryRow(one, chosen) {
  const here = one.name === chosen;
  return h(
    "li",
    {},
    h(
      "a",
      { href: `#/images/${encode(one.name)}`, "aria-current": here ? "true" : null },
      path(one.name),
      h("span", { class: "meta" }, one.origin === "local" ? origin("local") : null, one.shadows ? badge("warn", "hides", "A repository of the same name at an upstream can’t be pulled by this name") : null, h("span", { class: "num" }, many(one.tags, "tag")), h("span", { class: "num size" }, bytes(one.bytes))),
    ),
  );
}

function tags(signal, repository) {
  const body = h("tbody", {});
  const place = h("div", {});
  const kind = h("span", {});
  const search = h("input", { type: "search", "aria-label": "Only tags that contain", placeholder: "Filter tags", autocomplete: "off", spellcheck: "false" });
  const sort = orders("tags", "tag-sort");
  sort.value = kept.tags;
  const paged = pages(() => load(false));
  const table = h("table", { class: "tags" }, h("thead", {}, h("tr", {}, ["Tag", "Platforms", "Size", "Last used", ""].map((text) => h("th", { scope: "col" }, text || h("span", { class: "offscreen" }, "Actions"))))), body);
  let last = null;
  let turn = 0;

  async function load(anew) {
    const mine = (turn += 1);
    if (anew) last = null;
    const answer = await get("tags", { repository, sort: kept.tags, n: PAGE, last, search: search.value.trim() }, signal);
    if (mine !== turn) return;
    last = answer.next;
    fill(kind, origin(answer.origin));
    const made = answer.tags.map((tag) => tagRow({ ...answer, repository }, tag, again));
    if (anew) swap(body, made);
    else body.append(...made);
    if (body.firstChild && table.isConnected) return paged.more(answer.more);
    fill(place, body.firstChild ? table : empty(search.value ? "No tag is like that" : "No tags", search.value ? null : "Its images have digests only, or have all gone."));
    paged.more(answer.more);
  }
  const again = () => load(true).catch((error) => error.name !== "AbortError" && fill(place, failed(error, again)));
  let timer = 0;
  const soon = (pause) => {
    clearTimeout(timer);
    timer = setTimeout(again, pause);
  };
  search.addEventListener("input", () => soon(120));
  sort.addEventListener("change", () => {
    kept.tags = sort.value;
    again();
  });
  listen(signal, news, ["changed"], ({ detail }) => (detail ?? repository) === repository && soon(300));
  signal.addEventListener("abort", () => clearTimeout(timer));
  again();
  return h(
    "section",
    { class: "panel detail", "aria-label": `Tags of ${repository}` },
    h("a", { class: "backlink", href: "#/images" }, "All repositories"),
    h("div", { class: "head" }, h("h2", {}, path(repository)), kind, h("div", { class: "picks" }, search, sort)),
    h("div", { class: "scroll" }, place, paged.end),
  );
}

function tagRow(where, tag, again) {
  const { repository } = where;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, h("div", { class: "named" }, h("a", { href: `#/image/${encode(repository)}:${encode(tag.tag)}` }, name(tag.tag)), states(tag)), h("div", { class: "under" }, name(short(tag.digest), "mono soft"))),
    h("td", { "data-of": "Platforms" }, platforms(tag.platforms)),
    h("td", { "data-of": "Size", class: "num" }, bytes(tag.size), tag.shared ? h("div", { class: "soft" }, `${bytes(tag.own)} of its own`) : null),
    h("td", { "data-of": "Last used" }, when(tag.used), tag.dated ? h("div", { class: "soft" }, where.origin === "local" ? "pushed " : "checked ", when(tag.dated)) : null),
    h("td", { class: "end" }, h("div", { class: "acts" }, copyButton(pullCommand(repository, tag.tag), "pull command"), tagActions(where, tag, again))),
  );
}

/** What is special about a tag. */
export function states(tag) {
  return [
    tag.pinned && badge("pinned", "pinned", "It stays, however full the disk gets"),
    tag.held && badge("held", "held", "It stays at this image, whatever the upstream does"),
    tag.stale_since && badge("warn", "stale", `The upstream could not be asked, or has it no more, since ${tag.stale_since}`),
  ];
}

const MOST_PLATFORMS = 2;

function platforms(list) {
  const sorted = [...(list ?? [])].sort((a, b) => b.here - a.here);
  const shown = sorted.slice(0, MOST_PLATFORMS);
  const rest = sorted.length - shown.length;
  const element = h("span", { class: "platforms" }, shown.map((one) => h("bdi", { class: `platform ${one.here ? "here" : "away"}`, title: `${one.name}: ${one.here ? "here" : "not here, fetched when it is pulled"}` }, one.name.replace(/^linux\//, ""))));
  if (rest > 0) element.append(h("span", { class: "soft", title: sorted.slice(MOST_PLATFORMS).map((one) => one.name).join(", ") }, ` +${rest}`));
  if (!sorted.length) say(element, "–");
  return element;
}
