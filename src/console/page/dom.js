// Elements from calls. Text goes in as text nodes only, and what could disturb its neighbours (control characters,
// marks that turn the direction) is shown as a symbol. Nothing here reads markup, so nothing can become markup.

const SVG = "http://www.w3.org/2000/svg";

// Nearly all texts have nothing in them that needs a look.
const PLAIN = /^[ -~\u00a0]*$/;
// Marks that turn the direction of text, take no room, or break lines: shown by their number.
const UNSEEN = /[\u0080-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e0fff}]/gu;
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f]/g;
// eslint-disable-next-line no-control-regex
const CONTROL_IN_LINES = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
// More than three marks on one letter reach into the lines above and below.
const PILED = /(\p{M}{3})\p{M}+/gu;

/** A text as it may be shown. With `lines`, tabs and line ends stay. */
export function visible(text, lines = false) {
  const all = String(text);
  if (PLAIN.test(all)) return all;
  return all
    .replace(lines ? CONTROL_IN_LINES : CONTROL, (c) => (c === "\x7f" ? "\u2421" : String.fromCharCode(0x2400 + c.charCodeAt(0))))
    .replace(UNSEEN, (c) => `\u27e8${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`)
    .replace(PILED, "$1\u2026");
}

/** An element: properties by name (`class`, `on` + event, `aria-…`, attributes), then children: nodes, texts, lists. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) set(element, name, value);
  put(element, children);
  return element;
}

/** An element of a drawing. */
export function s(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  put(element, children);
  return element;
}

const SHOWN = new Set(["title", "aria-label", "aria-valuetext", "placeholder", "alt"]);

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "style") for (const [key, part] of Object.entries(value)) element.style.setProperty(key, part);
  else if (name === "value") element.value = value;
  else element.setAttribute(name, value === true ? "" : SHOWN.has(name) ? visible(value) : value);
}

function put(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) put(element, child);
    else if (child instanceof Node) element.append(child);
    else element.append(document.createTextNode(visible(child, element.localName === "pre")));
  }
}

/** The text of an element, changed only where it is another one: so a frame without news costs no layout. */
export function say(element, text) {
  const shown = visible(text);
  if (element.textContent !== shown) element.textContent = shown;
}

export function fill(element, ...children) {
  element.replaceChildren();
  put(element, children);
  return element;
}

/** Other children, with the focus where it was: on the same link, else on what is now at its place. */
export function swap(parent, ...children) {
  const focusable = () => [...parent.querySelectorAll("a[href], button")];
  const before = document.activeElement;
  const at = parent.contains(before) ? focusable().indexOf(before) : -1;
  fill(parent, ...children);
  if (at < 0) return;
  const now = focusable();
  const same = before.href && now.find((one) => one.href === before.href);
  (same || now[Math.min(at, now.length - 1)])?.focus({ preventScroll: true });
}

/** A name that others chose: isolated, so that its direction stays its own. */
export function name(text, kind = "") {
  return h("bdi", { class: `name ${kind}`.trim(), title: text }, text);
}

/** A repository's name, which may break after its slashes. */
export function path(text) {
  const element = h("bdi", { class: "name", title: text });
  const parts = String(text).split("/");
  parts.forEach((part, index) => {
    const last = index === parts.length - 1;
    element.append(h("span", { class: last ? "leaf" : "stem" }, last ? part : `${part}/`));
    if (!last) element.append(document.createElement("wbr"));
  });
  return element;
}

const ICONS = {
  copy: "M6 6h7v8H6zM3.5 10.5V2.5h6.5",
  done: "M3 8.5l3.2 3.2L13 4.8",
  pin: "M8 10.5V15M5 1.5h6M6 1.5v4.2L4 8v2.5h8V8l-2-2.3V1.5",
  hold: "M4 7.2h8v6.3H4zM5.7 7.2V5a2.3 2.3 0 0 1 4.6 0v2.2",
  trash: "M2.5 4.2h11M6 4V2.3h4V4M4 4.2l.7 9.5h6.6l.7-9.5M6.6 6.8v4.4M9.4 6.8v4.4",
  warm: "M8 2v8.2M4.6 7L8 10.4 11.4 7M2.8 13.5h10.4",
  light: "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8L13 13M13 3l-1.2 1.2M4.2 11.8L3 13",
  dark: "M13.4 9.6A5.8 5.8 0 0 1 6.4 2.6a5.8 5.8 0 1 0 7 7z",
  auto: "M8 2.2a5.8 5.8 0 1 0 0 11.6zM8 2.2a5.8 5.8 0 0 1 0 11.6",
  back: "M9.5 3.5L5 8l4.5 4.5",
  next: "M6.5 3.5L11 8l-4.5 4.5",
};

export function icon(which) {
  return s("svg", { class: "icon", viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, s("path", { d: ICONS[which] }));
}

/**
 * Rows that follow a list: an item keeps its element, so that focus, selection and movement survive.
 * `make(item)` gives an element with `update(item)` on it; `leave(element)` may delay the removal.
 */
export function follow(parent, items, key, make, leave = (element) => element.remove()) {
  const rows = (parent.rows ||= new Map());
  const seen = new Set();
  let after = null;
  for (const item of items) {
    const id = key(item);
    if (seen.has(id)) continue;
    seen.add(id);
    let row = rows.get(id);
    if (!row) rows.set(id, (row = make(item)));
    row.update?.(item);
    const place = after ? after.nextSibling : parent.firstChild;
    if (row !== place) parent.insertBefore(row, place);
    after = row;
  }
  for (const [id, row] of rows) {
    if (!seen.has(id)) {
      rows.delete(id);
      leave(row);
    }
  }
}
