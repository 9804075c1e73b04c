// One small chart: what was served, and how much of it had to be fetched, over time. Columns start at zero, the scale
// is written beside them, and the times are those of the data. Arrow keys read the columns one by one.

import { fill, h, s, say } from "./dom.js";
import { bytes, clock } from "./format.js";

const WIDTH = 720;
const HEIGHT = 168;
const TOP = 8;
const SPANS = [1, 2, 5, 10, 15, 30];
const MOST_COLUMNS = 96;
const FEWEST_COLUMNS = 30;

/** The points of the server, summed into columns of so many minutes that they stay readable. */
export function columns(points, step) {
  const minutes = (points.length * step) / 60;
  const span = SPANS.find((span) => minutes / span <= MOST_COLUMNS) ?? 30;
  const width = Math.max(span * 60, step) * 1000;
  const sums = new Map();
  for (const point of points) {
    // The time is that of the step's end; its middle is inside of the column.
    const from = Math.floor((Date.parse(point.time) - step * 500) / width) * width;
    const sum = sums.get(from) ?? { from, served: 0, fetched: 0 };
    sum.served += point.served;
    sum.fetched += point.fetched;
    sums.set(from, sum);
  }
  const last = Math.max(...sums.keys());
  const first = Math.min(...sums.keys(), last - (FEWEST_COLUMNS - 1) * width);
  const list = [];
  for (let from = first; from <= last; from += width) list.push(sums.get(from) ?? { from, served: 0, fetched: 0, none: from < Math.min(...sums.keys()) });
  return { width, list };
}

// 1, 2 or 5 times a power of ten, at least this much.
function round(most) {
  if (most <= 0) return 1000;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= most);
}

/** The chart, with `update(history)` on it. */
export function chart() {
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "chart", "aria-hidden": "true" });
  const scale = h("div", { class: "scale", "aria-hidden": "true" });
  const axis = h("div", { class: "axis", "aria-hidden": "true" });
  const read = h("output", { class: "read num", "aria-hidden": "true" });
  const slider = h("div", { class: "plot", tabindex: "0", role: "slider", "aria-label": "Served and fetched over time. Arrow keys go through the columns", "aria-valuemin": "0" }, svg);
  const figure = h("figure", { class: "history" }, h("figcaption", {}, h("span", { class: "key served" }, "served"), h("span", { class: "key fetched" }, "fetched from upstreams"), read), h("div", { class: "frame" }, scale, slider, axis));
  let shown = null;
  let at = -1;

  const point = (index) => {
    if (!shown) return;
    at = Math.max(0, Math.min(shown.list.length - 1, index));
    svg.querySelector(".at")?.remove();
    const one = shown.list[at];
    const wide = WIDTH / shown.list.length;
    svg.prepend(s("rect", { class: "at", x: at * wide, y: 0, width: wide, height: HEIGHT }));
    const text = one.none ? `${clock(one.from)} · larder had not started` : `${clock(one.from)}–${clock(one.from + shown.width)} · ${bytes(one.served)} served, ${bytes(one.fetched)} fetched`;
    say(read, text);
    slider.setAttribute("aria-valuenow", at);
    slider.setAttribute("aria-valuetext", text);
  };
  const away = () => {
    svg.querySelector(".at")?.remove();
    say(read, "");
  };
  slider.addEventListener("pointermove", (event) => {
    const box = slider.getBoundingClientRect();
    point(Math.floor(((event.clientX - box.left) / box.width) * shown?.list.length));
  });
  slider.addEventListener("pointerleave", away);
  slider.addEventListener("blur", away);
  slider.addEventListener("focus", () => slider.matches(":focus-visible") && point(at < 0 ? (shown?.list.length ?? 1) - 1 : at));
  slider.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, Home: 0, End: Infinity }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    point(to);
  });

  figure.update = ({ points, step, started }) => {
    figure.hidden = points.length === 0;
    if (figure.hidden) return;
    shown = columns(points, step);
    draw(svg, scale, axis, shown, started);
    slider.setAttribute("aria-valuemax", shown.list.length - 1);
    slider.setAttribute("aria-valuenow", shown.list.length - 1);
    const { served, fetched } = points.reduce((sum, one) => ({ served: sum.served + one.served, fetched: sum.fetched + one.fetched }), { served: 0, fetched: 0 });
    slider.setAttribute("aria-valuetext", `Since ${clock(points[0].time)}: ${bytes(served)} served, ${bytes(fetched)} fetched`);
    if (at >= 0 && slider.matches(":hover")) point(at);
  };
  return figure;
}

// Why the most of it is empty, soon after the start.
function began(list, started) {
  const empty = list.filter((one) => one.none).length;
  if (empty < list.length / 4 || !started) return null;
  return h("span", { class: "began", style: { right: `${100 - (100 * empty) / list.length}%` } }, `larder started at ${clock(started)}`);
}

function draw(svg, scale, axis, { list, width }, started) {
  const most = round(Math.max(...list.map((one) => Math.max(one.served, one.fetched))));
  const wide = WIDTH / list.length;
  const tall = (amount) => (amount / most) * (HEIGHT - TOP);
  const gap = Math.min(2, wide * 0.22);
  const column = (kind, inset) => (one, index) => {
    const height = tall(one[kind]);
    if (height <= 0) return null;
    return s("rect", { class: kind, x: index * wide + gap / 2 + inset, y: HEIGHT - Math.max(height, 1), width: wide - gap - 2 * inset, height: Math.max(height, 1) });
  };
  const marks = [0.5, 1];
  fill(
    svg,
    marks.map((mark) => s("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT - tall(most * mark), y2: HEIGHT - tall(most * mark), "vector-effect": "non-scaling-stroke" })),
    list.map(column("served", 0)),
    list.map(column("fetched", Math.min(2, wide * 0.15))),
    s("line", { class: "zero", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5, "vector-effect": "non-scaling-stroke" }),
  );
  fill(scale, [1, 0.5, 0].map((mark) => h("span", { style: { top: `${100 - (100 * tall(most * mark)) / HEIGHT}%` } }, mark === 0 ? "0" : bytes(most * mark).replace(/\.0+(?!\d)/, "").replace(/(\.\d)0/, "$1"))));
  const every = Math.max(1, Math.ceil(list.length / 6));
  const labels = list.map((one, index) => [one, index]).filter(([, index]) => index % every === 0 && index < list.length - every / 2);
  fill(axis, labels.map(([one, index]) => h("span", { style: { left: `${(100 * index) / list.length}%` } }, clock(one.from))), began(list, started), h("span", { class: "now" }, clock(list.at(-1).from + width)));
}
