// What a person can change: delete a tag, pin, hold, fetch ahead. Where it is not allowed the button says why, and
// where the server refuses, its reason shows.

import { act, get } from "./api.js";
import { fill, h, icon, name, say } from "./dom.js";
import { bytes, share, short } from "./format.js";
import { facts, toast } from "./parts.js";
import { host, listen, news, state, warmed } from "./state.js";

/** A button that stays reachable where it may not be used, so that everybody can learn why. */
export function button(label, which, may, why, then, text = "") {
  const element = h("button", { type: "button", class: text ? "" : "quiet square", title: may ? label : why, "aria-label": may ? label : `${label} – ${why}` }, icon(which), text);
  if (!may) element.setAttribute("aria-disabled", "true");
  element.addEventListener("click", () => (element.getAttribute("aria-disabled") === "true" ? toast(why, "bad") : then(element)));
  return element;
}

function why(what) {
  const { name: who } = state.about?.you ?? {};
  if (state.about?.login === false) return `Nobody may ${what} here`;
  return who ? `${who} may not ${what} here` : `You may not ${what} here. Log in as somebody who may`;
}

async function doing(element, work) {
  element?.setAttribute("aria-busy", "true");
  try {
    return await work();
  } catch (error) {
    const reason = error.status === 403 ? `Refused: ${error.message}` : error.message;
    toast(reason, "bad");
    return undefined;
  } finally {
    element?.removeAttribute("aria-busy");
  }
}

/** The buttons for one tag. `then` is called when something has changed. */
export function tagActions(where, tag, then, words = false) {
  const { repository, may, origin } = where;
  const mirror = origin !== "local";
  const label = `${repository}:${tag.tag}`;
  const pinned = tag.pinned;
  return h(
    "div",
    { class: "actions", role: "group", "aria-label": `Actions for ${label}` },
    mirror && button(pinned ? `Unpin ${label}` : `Pin ${label}: it stays, however full the disk gets`, "pin", may.pin, why("pin"), (b) => pin(b, repository, tag, then), words ? (pinned ? "Unpin" : "Pin") : ""),
    mirror && button(tag.held ? `Let ${label} follow its upstream again` : `Hold ${label} at this image`, "hold", may.pin, why("hold"), (b) => hold(b, repository, tag, then), words ? (tag.held ? "Let go" : "Hold") : ""),
    mirror && button(`Fetch ${label} now`, "warm", may.warm, why("fetch images ahead"), () => warmDialog(label), words ? "Fetch" : ""),
    button(`Delete the tag ${label}`, "trash", may.delete, why("delete"), (b) => remove(b, where, tag, then), words ? "Delete" : ""),
  );
}

async function pin(element, repository, tag, then) {
  const method = tag.pinned ? "DELETE" : "PUT";
  await doing(element, async () => {
    await act(method, "pins", { repository, tag: tag.tag });
    toast(tag.pinned ? `${tag.tag} is no longer pinned` : `${tag.tag} is pinned: it stays`);
    then();
  });
}

async function hold(element, repository, tag, then) {
  await doing(element, async () => {
    if (tag.held) await act("DELETE", "holds", { repository, tag: tag.tag });
    else await act("PUT", "holds", { repository, tag: tag.tag, digest: tag.digest });
    toast(tag.held ? `${tag.tag} follows its upstream again` : `${tag.tag} is held at ${short(tag.digest)}`);
    then();
  });
}

async function remove(element, { repository, origin }, tag, then) {
  const local = origin === "local";
  const sure = await confirm({
    title: "Delete this tag?",
    body: [
      facts(
        ["Tag", name(`${repository}:${tag.tag}`)],
        ["Names", h("code", {}, short(tag.digest))],
        ["Only in it", bytes(tag.own)],
        ["Shared", tag.shared ? bytes(tag.shared) : null],
      ),
      h("p", {}, local
        ? "The name goes now. What only this tag needs is removed at the next garbage collection; other tags of the same image stay. This can’t be undone."
        : "The mirrored copy’s name goes now. The next pull asks the upstream for it again, which needs the network."),
    ],
    go: "Delete the tag",
  });
  if (!sure) return;
  await doing(element, async () => {
    await act("DELETE", "tags", { repository, tag: tag.tag });
    toast(`${repository}:${tag.tag} is deleted`);
    then();
  });
}

/** Asks in a dialogue; Escape, or a click beside it, is a no. */
function confirm({ title, body, go }) {
  return new Promise((resolve) => {
    const dialog = box(title, body, [
      h("button", { type: "button", autofocus: true, onclick: () => dialog.close("") }, "Keep it"),
      h("button", { type: "button", class: "danger", onclick: () => dialog.close("go") }, go),
    ]);
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "go"));
    dialog.showModal();
  });
}

let boxes = 0;

function box(title, body, buttons) {
  boxes += 1;
  const id = `dialog-${boxes}`;
  const dialog = h("dialog", { "aria-labelledby": id }, h("h2", { id }, title), body, h("div", { class: "buttons" }, buttons));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close(""));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  return dialog;
}

const PLATFORMS = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386", "linux/ppc64le", "linux/s390x", "linux/riscv64"];

/** Asks which image to fetch before anybody pulls it. */
export function warmDialog(image = "") {
  const input = h("input", { id: "warm-image", name: "image", required: true, autocomplete: "off", spellcheck: "false", placeholder: "python:3.12", value: image });
  const boxesOf = PLATFORMS.map((platform, index) =>
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "platform", value: platform, checked: index === 0 }), platform),
  );
  const form = h(
    "form",
    {},
    h("label", { for: "warm-image" }, "Image"),
    input,
    h("fieldset", {}, h("legend", {}, "For which machines (none ticked: all that it is made for)"), h("div", { class: "checks" }, boxesOf)),
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), h("button", { class: "primary", type: "submit" }, icon("warm"), "Fetch it")),
  );
  const dialog = box("Fetch an image ahead", [h("p", { class: "soft" }, "It is pulled now, as a client would, and is here when it is needed."), form], []);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const platforms = [...form.querySelectorAll("[name=platform]:checked")].map((one) => one.value);
    const wanted = input.value.trim();
    const begun = await doing(form, () => act("POST", "warm", null, { image: wanted, platforms }));
    if (!begun) return;
    warmed({ image: wanted, state: "running", written: 0, size: 0, layers: [], ...begun });
    watch(begun.id);
    dialog.close();
  });
  dialog.showModal();
  input.focus();
  input.select();
}

// The events tell the progress; asking now and then holds where they don't come.
function watch(id) {
  const timer = setInterval(async () => {
    if (state.warms.get(id)?.state !== "running") return clearInterval(timer);
    try {
      warmed(await get(`warm/${encodeURIComponent(id)}`));
    } catch (error) {
      if (error.status === 404) clearInterval(timer);
    }
  }, 1500);
}

/** The button that opens the dialogue, where it may be used. */
export function warmButton() {
  // Nobody may where nothing is mirrored.
  if (state.about?.login === false && !state.about.you.may.warm) return null;
  return button("Fetch an image ahead", "warm", state.about?.you.may.warm, why("fetch images ahead"), () => warmDialog(), "Fetch ahead");
}

/** What is being fetched ahead, as long as it is and a while after. */
export function warms(signal) {
  const list = h("div", { class: "warms", "aria-label": "Images being fetched ahead", role: "group" });
  const rows = new Map();
  const show = () => {
    for (const [id, warm] of state.warms) {
      if (!rows.has(id)) {
        rows.set(id, warmRow(id));
        list.prepend(rows.get(id));
      }
      rows.get(id).update(warm);
    }
  };
  listen(signal, news, ["warm"], show);
  show();
  return list;
}

function warmRow(id) {
  const bar = h("div", { class: "bar" }, h("span", {}));
  const text = h("span", { class: "num" });
  const row = h("div", { class: "warm" });
  const away = h("button", { class: "quiet", type: "button", "aria-label": "Take this off the list", onclick: () => (state.warms.delete(id), row.remove()) }, "Done");
  row.update = (warm) => {
    if (!row.firstChild) fill(row, h("div", { class: "line" }, icon("warm"), name(warm.image), text, away), bar);
    const running = warm.state === "running";
    row.dataset.state = warm.state;
    away.hidden = running;
    const known = warm.size > 0;
    bar.firstChild.style.transform = `scaleX(${warm.state === "done" ? 1 : known ? Math.min(1, warm.written / warm.size) : 0})`;
    say(text, warm.state === "failed" ? `failed: ${warm.error ?? "no reason was given"}` : warm.state === "done" ? `here, ${bytes(warm.size)}` : known ? `${bytes(warm.written)} of ${bytes(warm.size)}, ${share(warm.written, warm.size)}` : "asking for it …");
  };
  return row;
}

/** The command that pulls an image from here. */
export function pullCommand(repository, reference) {
  const by = String(reference).includes(":") ? "@" : ":";
  return `docker pull ${host()}/${repository}${by}${reference}`;
}
