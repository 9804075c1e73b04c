// The pieces that several views are made of.

import { fill, h, icon, visible } from "./dom.js";
import { ago, date } from "./format.js";

/** A part of a view, under a heading. */
export function panel(title, aside, ...body) {
  return h("section", { class: "panel" }, h("div", { class: "head" }, h("h2", {}, title), aside), body);
}

/** Nothing to show, and what to do about it. */
export function empty(title, text, ...commands) {
  return h("div", { class: "empty" }, h("p", { class: "lead" }, title), text && h("p", {}, text), commands.map((command) => copyable(command)));
}

/** A command with a button that copies it. */
export function copyable(text, label = "command") {
  return h("div", { class: "copy" }, h("code", {}, text), copyButton(text, label));
}

export function copyButton(text, label = "command") {
  const button = h("button", { class: "quiet square", type: "button", title: `Copy the ${label}`, "aria-label": `Copy the ${label}: ${text}` }, icon("copy"));
  button.addEventListener("click", async () => {
    const done = await copy(text);
    toast(done ? `Copied: ${text}` : "The browser did not let us copy. Select the text instead.", done ? "" : "bad");
    if (!done) return;
    fill(button, icon("done"));
    setTimeout(() => fill(button, icon("copy")), 1500);
  });
  return button;
}

// The clipboard is for pages over HTTPS; over plain HTTP the old way still works.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "offscreen", "aria-hidden": "true", tabindex: "-1", value: text });
    const before = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    before?.focus();
    return done;
  }
}

/** Says something at the edge of the page, and to screen readers. */
export function toast(text, kind = "") {
  const note = h("div", { class: `toast ${kind}` }, text);
  const box = document.getElementById("toasts");
  while (box.children.length > 2) box.firstChild.remove();
  box.append(note);
  setTimeout(() => note.remove(), kind === "bad" ? 9000 : 3500);
}

export function badge(kind, text, title = text) {
  return h("span", { class: `badge ${kind}`, title }, text);
}

/** Whose repository it is: ours, or a mirror of which registry. */
export function origin(of) {
  return of === "local" ? badge("local", "local", "pushed here, kept for ever") : badge("mirror", of, `a mirror of ${of}`);
}

/** A time as a distance, with the time itself for who wants it. */
export function when(time, none = "never") {
  if (!time) return h("span", { class: "soft" }, none);
  return h("time", { datetime: time, title: date(time) }, ago(time));
}

/** An error where the content would be, and a way to try again. */
export function failed(error, again) {
  return h(
    "div",
    { class: "empty bad", role: "alert" },
    h("p", { class: "lead" }, error.status === 403 ? "You may not see this" : error.status === 404 ? "This is not here" : "That did not work"),
    h("p", {}, error.message),
    again && h("button", { type: "button", onclick: again }, "Try again"),
  );
}

/** Facts as terms and values; those without a value are left out. */
export function facts(...pairs) {
  const list = h("dl", { class: "facts" });
  for (const [term, ...value] of pairs) {
    if (value.some((part) => part !== null && part !== undefined && part !== "" && part !== false)) {
      list.append(h("div", {}, h("dt", {}, term), h("dd", {}, value)));
    }
  }
  return list;
}

const SHOWN_AT_ONCE = 600;

/** A text of any length that others wrote. */
export function foreign(text, block = "pre") {
  const all = String(text);
  if (all.length <= SHOWN_AT_ONCE) return h(block, { class: "foreign", dir: "auto" }, all);
  const element = h(block, { class: "foreign", dir: "auto" }, `${all.slice(0, SHOWN_AT_ONCE)} …`);
  const more = h("button", { class: "quiet", type: "button" }, `Show all ${all.length} characters`);
  more.addEventListener("click", () => {
    element.textContent = visible(all, block === "pre");
    more.remove();
  });
  return [element, more];
}

/** A value of a label or an annotation: a link only where it is one to the web, and then the whole of it shows. */
export function value(key, text) {
  const linked = /\.(source|url|documentation)$/.test(key) && webAddress(text);
  if (!linked) return foreign(text, "span");
  return h("a", { class: "foreign", href: linked, target: "_blank", rel: "noopener noreferrer", dir: "ltr" }, text);
}

function webAddress(text) {
  try {
    const url = new URL(text);
    const plain = (url.protocol === "https:" || url.protocol === "http:") && !url.username && !url.password;
    return plain && /^[\x21-\x7e]+$/.test(text) ? url.href : null;
  } catch {
    return null;
  }
}

/** Parts of a whole, side by side: `[kind, amount, label]`. The label says what the colour means. */
export function parts(whole, list, label) {
  const bar = h("div", { class: "parts", role: "img", "aria-label": label });
  for (const [kind, amount, title] of list) {
    if (amount > 0 && whole > 0) bar.append(h("span", { class: kind, title, style: { "flex-basis": `${(100 * amount) / whole}%` } }));
  }
  return bar;
}

/** A list that comes in pages: rows are added by `more`, which says whether there are others. */
export function pages(load) {
  const button = h("button", { class: "more", type: "button" }, "Show more");
  const end = h("div", { class: "end" });
  button.addEventListener("click", async () => {
    button.setAttribute("aria-disabled", "true");
    try {
      await load();
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, "bad");
    }
    button.removeAttribute("aria-disabled");
  });
  return { end, more: (there) => fill(end, there ? button : null) };
}
