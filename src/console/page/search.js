// The search in the header: `/` goes there, arrows choose, Enter opens, Escape leaves.

import { get } from "./api.js";
import { fill, h, path } from "./dom.js";
import { encode } from "./now.js";
import { origin } from "./parts.js";

const PAUSE = 90;

export function search() {
  const input = document.getElementById("search");
  const list = document.getElementById("found");
  let timer = 0;
  let running = null;
  let at = -1;

  const close = () => {
    running?.abort();
    clearTimeout(timer);
    list.hidden = true;
    at = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const mark = (to) => {
    const options = list.querySelectorAll("[role=option]");
    if (!options.length) return;
    at = (to + options.length) % options.length;
    options.forEach((option, index) => option.setAttribute("aria-selected", String(index === at)));
    input.setAttribute("aria-activedescendant", options[at].id);
    options[at].scrollIntoView({ block: "nearest" });
  };
  const open = () => {
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
  };
  const find = async () => {
    const q = input.value.trim();
    if (!q) return close();
    running?.abort();
    const mine = (running = new AbortController());
    try {
      const { found, more } = await get("search", { q, n: 20 }, mine.signal);
      if (mine !== running || document.activeElement !== input) return;
      at = -1;
      fill(list, found.map(option), found.length ? more && h("p", { class: "soft" }, "More are like this; type on.") : h("p", { class: "soft" }, "No image is like that."));
      open();
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(list, h("p", { class: "soft" }, error.message));
      open();
    }
  };
  const go = (option) => {
    if (!option) return;
    close();
    input.value = "";
    input.blur();
    location.hash = option.dataset.to;
  };
  const option = (one, index) =>
    h("div", { role: "option", id: `found-${index}`, "aria-selected": "false", "data-to": one.tag ? `#/image/${encode(one.repository)}:${encode(one.tag)}` : `#/images/${encode(one.repository)}`, onpointerdown: (event) => event.preventDefault(), onclick: (event) => go(event.currentTarget) }, path(one.tag ? `${one.repository}:${one.tag}` : one.repository), one.origin === "local" ? origin("local") : null);

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(find, PAUSE);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) find();
      else mark(event.key === "ArrowDown" ? at + 1 : at < 0 ? -1 : at - 1);
    } else if (event.key === "Enter") {
      event.preventDefault();
      const options = list.querySelectorAll("[role=option]");
      if (!list.hidden) go(options[Math.max(at, 0)]);
    } else if (event.key === "Escape") {
      if (list.hidden) input.blur();
      else close();
    }
  });
  input.addEventListener("blur", () => setTimeout(close, 0));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, dialog");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.focus();
    input.select();
  });
}
