// The page: which view an address means, what stands around it, and what the connection is like. Reading order:
// dom.js (how text becomes elements), api.js, live.js, state.js, then the views.

import { forget, isLoggedIn, keep, unauthorized } from "./api.js";
import { fill, h, icon, name, say } from "./dom.js";
import { ago } from "./format.js";
import { image } from "./image.js";
import { images } from "./images.js";
import { connect, disconnect, link, live } from "./live.js";
import { now } from "./now.js";
import { login, setup, upstreams } from "./pages.js";
import { failed, toast } from "./parts.js";
import { search } from "./search.js";
import { news, refresh, state } from "./state.js";

const main = document.getElementById("main");
let leaving = new AbortController();
// Where to go once somebody is logged in, and what is shown now.
let wanted = location.hash.startsWith("#/login") ? "#/" : location.hash || "#/";
let shown = null;

/** The address as words: `#/image/a/b:1` is the view `image` of `a/b:1`. */
function address() {
  const [, view = "", rest = ""] = /^#\/([^/]*)\/?(.*)$/s.exec(location.hash) ?? [];
  try {
    return { view: view || "now", rest: decodeURIComponent(rest) };
  } catch {
    return { view: "lost", rest: "" };
  }
}

function build(signal, { view, rest }) {
  switch (view) {
    case "now":
      return ["Now", now(signal)];
    case "images":
      return [rest || "Images", images(signal, rest)];
    case "image": {
      const at = rest.includes("@") ? rest.lastIndexOf("@") : rest.lastIndexOf(":");
      return [rest, image(signal, rest.slice(0, at), rest.slice(at + 1))];
    }
    case "upstreams":
      return ["Upstreams", upstreams(signal)];
    case "setup":
      return ["Set up", setup(signal)];
    case "login":
      return ["Log in", login(signal, entered)];
    default:
      return ["Not found", failed(Object.assign(new Error("This page has no such view."), { status: 404 }))];
  }
}

function show(focus = false) {
  leaving.abort();
  leaving = new AbortController();
  const where = address();
  shown = location.hash;
  if (where.view !== "login") wanted = location.hash || "#/";
  const [title, view] = build(leaving.signal, where);
  fill(main, view);
  document.title = `${fill(h("span"), title).textContent} – larder`;
  for (const one of document.querySelectorAll("[data-view]")) {
    const current = one.dataset.view === where.view || (one.dataset.view === "images" && where.view === "image");
    if (current) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  if (focus && where.view !== "login") {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function entered() {
  connect();
  const who = state.about?.you.name;
  toast(who ? `Logged in as ${who}` : "Logged in");
  location.hash = wanted;
}

function leave() {
  keep(null);
  toast("Logged out");
  start();
}

unauthorized.tell = () => {
  if (address().view === "login") return;
  disconnect("login");
  keep(null);
  location.hash = "#/login";
};

// Around the view

function account() {
  const place = document.getElementById("account");
  const you = state.about?.you;
  if (you?.name) fill(place, h("span", { class: "who" }, name(you.name)), h("button", { class: "quiet", type: "button", onclick: leave }, "Log out"));
  else if (isLoggedIn()) fill(place, h("button", { class: "quiet", type: "button", onclick: leave }, "Log out"));
  // Where nobody is asked who he is there is nothing to log in to.
  else if (state.about?.login === false) fill(place);
  else fill(place, h("a", { class: "button quiet", href: "#/login" }, "Log in"));
}

function foot() {
  const about = state.about;
  if (!about) return;
  fill(document.getElementById("foot"), `larder ${about.version}`, h("span", {}, `started ${ago(about.started)}`), about.readonly && h("span", { class: "badge warn" }, "read only"), about.offline && h("span", { class: "badge warn" }, "offline: no upstream is asked"), h("span", {}, "JSON at ", h("a", { href: "api/v1/" }, "api/v1/")));
}

const LINK = {
  wait: ["connecting", ""],
  live: ["live", "What you see is what happens now"],
  lost: ["no connection", ""],
  off: ["paused", ""],
  asleep: ["paused", ""],
  login: ["not logged in", ""],
};

let ticking = 0;
let broken = false;

function connection() {
  const place = document.getElementById("link");
  const banner = document.getElementById("banner");
  const [words, title] = LINK[link.state];
  place.dataset.state = link.state;
  place.title = title;
  say(place, words);
  clearInterval(ticking);
  if (link.state === "lost") {
    broken = true;
    const in_ = h("span", { class: "num", "aria-live": "off" });
    fill(banner, h("span", {}, link.reason, " What you see is as it was. "), in_, h("button", { type: "button", onclick: connect }, "Try now"));
    const tick = () => say(in_, link.until > Date.now() ? `Trying again in ${Math.ceil((link.until - Date.now()) / 1000)} s.` : "Trying …");
    tick();
    ticking = setInterval(tick, 250);
    banner.hidden = false;
  } else if (link.state !== "wait") {
    banner.hidden = true;
  }
  if (link.state === "live" && broken) {
    broken = false;
    toast("Connected again");
    // The views ask again for what may have changed; one that could not even begin is made again.
    if (main.querySelector(".empty.bad")) refresh().then(() => show(), () => {});
  }
}

const THEMES = { auto: "light", light: "dark", dark: "auto" };

function theme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const paint = () => {
    const is = root.dataset.theme ?? "auto";
    fill(button, icon(is));
    const words = is === "auto" ? "Colours: as the system" : `Colours: ${is}`;
    button.title = words;
    button.setAttribute("aria-label", `${words}. Change to ${THEMES[is]}`);
  };
  button.addEventListener("click", () => {
    const next = THEMES[root.dataset.theme ?? "auto"];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      localStorage.setItem("larder.theme", next);
    } catch {
      // It holds until the page goes.
    }
    paint();
  });
  paint();
}

async function start() {
  try {
    await refresh();
    connect();
    show();
  } catch (error) {
    if (error.status === 401) return show();
    show();
    if (error.status !== 0) fill(main, failed(error, start));
    connect();
  } finally {
    forget();
  }
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
live.addEventListener("link", connection);
news.addEventListener("about", () => {
  account();
  foot();
});
addEventListener("hashchange", () => location.hash !== shown && show(true));
theme();
search();
account();
connection();
start().finally(() => {
  document.documentElement.dataset.ready = "true";
});
