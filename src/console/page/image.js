// One image: how to pull it, what it consists of, how it was made, what it runs, who refers to it.

import { get } from "./api.js";
import { pullCommand, tagActions, warms } from "./actions.js";
import { fill, h, name, path } from "./dom.js";
import { bytes, count, date, many, share, short } from "./format.js";
import { states } from "./images.js";
import { encode } from "./now.js";
import { copyable, copyButton, empty, facts, failed, foreign, origin, panel, value, when } from "./parts.js";
import { listen, news } from "./state.js";

export function image(signal, repository, reference) {
  const view = h("div", { class: "view image" }, h("p", { class: "wait" }, "Loading …"));
  let platform = null;
  const load = async () => {
    try {
      const [one, tag] = await Promise.all([get("image", { repository, reference, platform }, signal), tagOf(signal, repository, reference)]);
      fill(view, whole(signal, { repository, reference, one, tag, platform }, choose, load));
    } catch (error) {
      if (error.name !== "AbortError") fill(view, crumbs(repository, reference), failed(error, load));
    }
  };
  const choose = (name) => {
    platform = name;
    load().then(() => view.querySelector(".platform-tabs [aria-pressed=true]")?.focus());
  };
  listen(signal, news, ["changed"], ({ detail }) => (detail ?? repository) === repository && load());
  load();
  return view;
}

// What larder knows of the tag itself. An image by digest has none.
async function tagOf(signal, repository, reference) {
  if (reference.includes(":")) return null;
  const answer = await get("tags", { repository, search: reference, n: 100 }, signal);
  const tag = answer.tags.find((one) => one.tag === reference);
  return tag ? { where: { ...answer, repository }, tag } : null;
}

function crumbs(repository, reference) {
  return h("nav", { class: "crumbs", "aria-label": "Where this is" }, h("a", { href: "#/images" }, "Images"), h("span", { "aria-hidden": "true" }, "›"), h("a", { href: `#/images/${encode(repository)}` }, path(repository)), h("span", { "aria-hidden": "true" }, "›"), name(reference.includes(":") ? short(reference) : reference));
}

function whole(signal, { repository, reference, one, tag, platform }, choose, again) {
  const gone = () => again();
  return [
    crumbs(repository, reference),
    h("div", { class: "title" },
      h("h1", {}, path(repository), h("span", { class: "soft" }, reference.includes(":") ? "@" : ":"), name(reference.includes(":") ? short(reference) : reference)),
      tag && origin(tag.where.origin), tag && states(tag.tag),
      tag && tagActions(tag.where, tag.tag, gone, true)),
    warms(signal),
    copyable(one.pull || pullCommand(repository, reference), "pull command"),
    tabs(one, platform, choose),
    h("div", { class: "two wide-left" },
      h("div", { class: "stack" }, layers(one)),
      h("div", { class: "stack" }, about(one, tag), runs(one.config), pairs("Labels", one.config?.labels), pairs("Annotations", one.annotations), referrers(one, repository))),
  ];
}

function tabs(one, platform, choose) {
  const list = one.platforms ?? [];
  if (list.length < 2) return null;
  const now = platform ?? (one.config ? `${one.config.os}/${one.config.architecture}` : "");
  const current = list.find((each) => each.name === now) ?? list.find((each) => each.name.startsWith(now)) ?? null;
  return h("div", { class: "platform-tabs", role: "group", "aria-label": "Platforms" }, list.map((each) =>
    h("button", { type: "button", class: `platform ${each.here ? "here" : "away"}`, "aria-pressed": String(each === current), title: each.here ? "here" : "not here, fetched when it is pulled", onclick: () => choose(each.name) }, h("bdi", {}, each.name), each.size ? h("span", { class: "num soft" }, ` ${bytes(each.size)}`) : null)));
}

function about(one, tag) {
  const config = one.config;
  return panel("About", null, facts(
    ["Digest", h("span", { class: "withcopy" }, h("code", { title: one.digest }, short(one.digest)), copyButton(one.digest, "digest"))],
    ["Size", bytes(one.size), tag?.tag.shared ? h("span", { class: "soft" }, `, ${bytes(tag.tag.own)} of it nowhere else`) : null],
    ["Made", config?.created ? when(config.created) : null],
    ["For", config?.os ? [h("bdi", {}, config.os), "/", h("bdi", {}, config.architecture)] : null],
    ["By", config?.author ? foreign(config.author, "span") : null],
    ["Last used", tag ? when(tag.tag.used) : null],
    ["Checked", tag?.tag.dated ? when(tag.tag.dated) : null],
    ["Stale since", tag?.tag.stale_since ? date(tag.tag.stale_since) : null],
    ["Type", h("code", { class: "small" }, one.media_type)],
  ));
}

function runs(config) {
  if (!config) return null;
  const command = (list) => (list?.length ? h("code", { class: "foreign" }, JSON.stringify(list)) : null);
  const list = facts(
    ["Entrypoint", command(config.entrypoint)],
    ["Command", command(config.cmd)],
    ["Directory", config.workdir ? h("code", {}, config.workdir) : null],
    ["User", config.user ? h("code", {}, config.user) : null],
    ["Variables", config.env_names?.length ? h("code", { class: "foreign" }, config.env_names.join(" ")) : null],
  );
  return list.firstChild ? panel("What it runs", null, list) : null;
}

// Whoever pushes an image may write as much as he likes into it.
const MOST = 400;

function rest(all) {
  return all.length > MOST ? h("p", { class: "soft" }, `… and ${count(all.length - MOST)} more`) : null;
}

function pairs(title, of) {
  const all = Object.entries(of ?? {});
  if (!all.length) return null;
  return panel(title, h("span", { class: "soft num" }, String(all.length)), h("dl", { class: "pairs" }, all.slice(0, MOST).map(([key, text]) => h("div", {}, h("dt", {}, h("bdi", {}, key)), h("dd", {}, value(key, text))))), rest(all));
}

function referrers(one, repository) {
  const list = one.referrers ?? [];
  if (!list.length) return null;
  return panel("Signatures and more", h("span", { class: "soft" }, "refer to this image"), h("ul", { class: "referrers" }, list.slice(0, MOST).map((each) =>
    h("li", {}, h("div", { class: "line" }, h("strong", {}, kind(each.artifact_type)), h("span", { class: "num" }, bytes(each.size))), h("code", { class: "small foreign" }, each.artifact_type || "no type"), h("div", { class: "withcopy" }, h("code", { class: "small", title: each.digest }, short(each.digest)), copyButton(`${repository}@${each.digest}`, "reference"))))));
}

const KINDS = [[/cosign|sigstore|notary|signature/i, "Signature"], [/spdx|cyclonedx|sbom|syft/i, "SBOM"], [/in-toto|slsa|provenance/i, "Provenance"], [/vuln|sarif|scan/i, "Scan"]];

function kind(type) {
  return KINDS.find(([pattern]) => pattern.test(type ?? ""))?.[1] ?? "Artifact";
}

function layers(one) {
  const list = one.layers ?? [];
  const all = list.reduce((sum, each) => sum + (each.size || 0), 0);
  if (!list.length) return panel("Layers", null, empty(one.platforms?.length ? "No platform of it is here" : "It has no layers", one.platforms?.length ? "Each is fetched when it is pulled." : null));
  const title = h("span", { class: "soft num" }, `${many(list.length, "layer")}, ${bytes(all)}`);
  const made = steps(one);
  const strip = h("div", { class: "strip", "aria-hidden": "true" }, list.slice(0, MOST).map((each, index) => h("span", { class: `${index % 2 ? "odd" : ""} ${each.here ? "" : "away"}`, style: { "flex-grow": String(Math.max(each.size || 0, all / 400)) } })));
  return panel("How it was made", title, strip, h("ol", { class: "steps" }, made.slice(0, MOST).map((each) => step(each, all))), rest(made));
}

// The history tells each step, also those that made no layer. Where it does not fit the layers they are shown alone.
function steps({ layers: list, history }) {
  const made = (history ?? []).filter((each) => !each.empty);
  if (made.length !== list.length) return list.map((layer) => ({ layer, created_by: layer.created_by }));
  const rest = [...list];
  return history.map((each) => ({ ...each, layer: each.empty ? null : rest.shift() }));
}

function step({ layer, created_by: by, comment, created }, all) {
  const text = by || comment || (layer ? "not said" : "");
  return h("li", { class: layer ? "" : "empty-step" },
    foreign(tidy(text)),
    layer && h("div", { class: "line soft" },
      h("span", { class: "num size" }, bytes(layer.size)),
      h("span", { class: "weight", "aria-hidden": "true" }, h("span", { style: { width: `${all ? (100 * layer.size) / all : 0}%` } })),
      h("span", { class: "num" }, share(layer.size, all)),
      h("code", { class: "small", title: layer.digest }, short(layer.digest)),
      !layer.here && h("span", { class: "badge warn", title: "It is fetched when it is pulled" }, "not here"),
      created && h("span", { class: "offscreen" }, date(created))));
}

// As in the Dockerfile: without what docker and buildkit wrap around it.
function tidy(text) {
  return String(text)
    .replace(/^\/bin\/sh -c #\(nop\)\s+/, "")
    .replace(/^\/bin\/sh -c /, "RUN ")
    .replace(/\s*# buildkit$/, "")
    .replace(/^RUN \/bin\/sh -c /, "RUN ")
    .replace(/\t+/g, " ");
}
