// The smaller views: upstreams, how to set clients up, the login.

import { basic, get, isLoggedIn, keep } from "./api.js";
import { fill, h, name } from "./dom.js";
import { bytes, count, many, share } from "./format.js";
import { badge, copyable, copyButton, empty, facts, failed, parts, when } from "./parts.js";
import { host, listen, news, refresh, state } from "./state.js";

const STATES = {
  up: ["good", "answers"],
  down: ["bad", "does not answer"],
  limited: ["warn", "limits us"],
  offline: ["off", "not to be asked"],
  unknown: ["off", "not asked yet"],
};

export function upstreams(signal) {
  const list = h("div", { class: "cards" });
  const load = async () => {
    try {
      const { upstreams: all } = await get("upstreams", null, signal);
      fill(list, all.length ? all.map(card) : empty("No upstreams", "This larder mirrors nothing. Name registries under upstreams in its configuration."));
    } catch (error) {
      if (error.name !== "AbortError") fill(list, failed(error, load));
    }
  };
  const timer = setInterval(load, 10_000);
  signal.addEventListener("abort", () => clearInterval(timer));
  listen(signal, news, ["about"], load);
  load();
  const note = state.about?.offline ? h("p", { class: "note warn" }, "larder is offline: no registry is asked for anything. ", h("code", {}, "larder offline off"), " ends it.") : null;
  return h("div", { class: "view" }, h("div", { class: "title" }, h("h1", {}, "Upstreams"), h("span", { class: "soft" }, "the registries that are mirrored")), note, list);
}

function card(one) {
  const [kind, words] = STATES[one.state] ?? STATES.unknown;
  return h(
    "article",
    { class: `panel card ${kind}` },
    h("div", { class: "head" }, h("h2", {}, name(one.name)), badge(kind, words)),
    h("p", { class: "soft" }, h("bdi", { class: "mono small" }, one.url)),
    one.reason && h("p", { class: "reason" }, one.reason, one.until ? [", asked again ", when(one.until)] : null),
    left(one.pulls),
    facts(["Images here", one.images === null ? null : count(one.images)], ["On disk", one.bytes === null ? null : bytes(one.bytes)]),
  );
}

function left(pulls) {
  if (!pulls) return null;
  const { limit, remaining, seen } = pulls;
  const low = limit && remaining / limit < 0.2;
  return h("div", { class: "left" },
    limit ? parts(limit, [[low ? "warn" : "good", remaining, many(remaining, "pull")]], `${remaining} of ${limit} pulls left`) : null,
    h("p", {}, h("strong", { class: "num" }, count(remaining)), limit ? ` of ${count(limit)} pulls left, ${share(remaining, limit)}` : " pulls left", h("span", { class: "soft" }, ", seen ", when(seen))));
}

export function setup(signal) {
  const view = h("div", { class: "view" });
  const load = async () => {
    let clients = [];
    try {
      ({ clients } = await get("clients", null, signal));
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status !== 404) return void fill(view, failed(error, load));
    }
    const all = clients.length ? clients : [byHand()];
    fill(view,
      h("div", { class: "title" }, h("h1", {}, "Set up clients"), h("span", { class: "soft" }, "for this larder, at ", isOwn(host()) ? whose(clients) : h("bdi", { class: "mono" }, host()))),
      all.length > 1 && h("ul", { class: "jump", "aria-label": "Clients" }, all.map((one) => h("li", {}, h("button", { type: "button", onclick: () => document.getElementById(`client-${one.name}`)?.scrollIntoView() }, one.title || one.name)))),
      all.map(client));
  };
  load();
  return view;
}

// An address that means another machine on each: the texts name one that all reach.
function isOwn(address) {
  return /^(localhost|127\.[\d.]+|\[::1\])(:\d+)?$/.test(address);
}

// Where larder listens on this machine only there is none.
function whose(clients) {
  const texts = clients.flatMap(({ files }) => files ?? []).map(({ text }) => text);
  const isHere = texts.some((text) => /["/](localhost|127\.[\d.]+|\[::1\])[:/"]/.test(text));
  return isHere ? "an address that this machine alone reaches" : "an address that other machines reach";
}

// Every server understands a name with its address in front, with nothing set up at all.
function byHand() {
  return { name: "any", title: "Any client", files: [], commands: [`docker pull ${host()}/alpine`, `docker pull ${host()}/ghcr.io/org/app`], notes: ["Put the address in front of the image’s name. docker wants HTTPS for it, or the address under insecure-registries, unless it is localhost."] };
}

function client(one) {
  return h(
    "section",
    { class: "panel client", id: `client-${one.name}` },
    h("div", { class: "head" }, h("h2", {}, one.title || one.name)),
    (one.files ?? []).map((file) => h("figure", { class: "file" }, h("figcaption", {}, h("code", {}, file.path), copyButton(file.text, `text of ${file.path}`)), h("pre", { tabindex: "0", "aria-label": file.path }, file.text))),
    (one.commands ?? []).map((command) => copyable(command)),
    (one.notes ?? []).map((note) => h("p", { class: "soft" }, note)),
  );
}

/** The form. `then` is called with credentials that the server has taken. */
export function login(signal, then) {
  const user = h("input", { id: "user", name: "username", autocomplete: "username", required: true, spellcheck: "false", autocapitalize: "none" });
  const password = h("input", { id: "password", name: "password", type: "password", autocomplete: "current-password", required: true });
  const token = h("input", { id: "token", name: "token", type: "password", autocomplete: "off" });
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const form = h("form", { class: "panel login" },
    h("h1", {}, "Log in"),
    h("p", { class: "soft" }, "To larder at ", h("bdi", { class: "mono" }, location.host), ". The password stays in this tab."),
    wrong,
    h("label", { for: "user" }, "User"), user,
    h("label", { for: "password" }, "Password"), password,
    h("details", {}, h("summary", {}, "With a token instead"), h("label", { for: "token" }, "Token"), token),
    h("button", { class: "primary", type: "submit" }, "Log in"));
  // Copied from a header, it may have the header's word in front.
  const pasted = () => token.value.trim().replace(/^bearer\s+/i, "");
  form.addEventListener("input", () => {
    user.required = password.required = !pasted();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong.hidden = true;
    const by = pasted();
    try {
      if (by && !/^[\x21-\x7e]+$/.test(by)) throw new Error("That is no token: it has characters in it that no token has.");
      keep(by ? `Bearer ${by}` : basic(user.value, password.value));
      const about = await refresh();
      if (about.you.anonymous) throw new Error("This larder asks nobody for a password: everybody may do everything here.");
      then();
    } catch (error) {
      keep(null);
      const refused = by ? "The server did not take that token. It may have expired, or be for another server." : "The server did not take that name and password.";
      fill(wrong, error.status === 401 ? refused : error.message);
      wrong.hidden = false;
      password.value = "";
      (by ? token : password).focus();
    }
  });
  signal.addEventListener("abort", () => form.reset());
  queueMicrotask(() => user.focus());
  return h("div", { class: "view" }, form, isLoggedIn() ? h("p", { class: "soft center" }, "Somebody is logged in already.") : null);
}
