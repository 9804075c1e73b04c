// Numbers and times as people read them. Sizes are decimal, as docker prints them.
//
// The browser's own formats are right for each language, and this page has one: to get ready for them takes a browser
// tens of milliseconds, more than all else that the page does.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Bytes with three digits: `482 MB`, `1.24 GB`. */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  let unit = 0;
  let value = count;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${digits(value, unit)}\u00a0${UNITS[unit]}`;
}

function digits(value, unit) {
  if (unit === 0) return String(Math.round(value));
  if (value >= 99.95) return value.toFixed(0);
  return value.toFixed(value >= 9.995 ? 1 : 2);
}

export function speed(perSecond) {
  return `${bytes(perSecond)}/s`;
}

export function count(number) {
  return number === null || number === undefined ? "–" : String(number).replace(/\B(?=(?:\d{3})+$)/g, ",");
}

/** `1 tag`, `2 tags`. */
export function many(number, one, more = `${one}s`) {
  return `${count(number)}\u00a0${number === 1 ? one : more}`;
}

export function share(part, whole) {
  if (!whole) return "0\u00a0%";
  const percent = (100 * part) / whole;
  return `${percent > 0 && percent < 1 ? "<1" : percent > 99 && percent < 100 ? ">99" : Math.round(percent)}\u00a0%`;
}

/** A time to come, or a time that something took. */
export function duration(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return "–";
  const s = Math.max(0, Math.ceil(seconds));
  if (s < 60) return `${s}\u00a0s`;
  if (s < 3600) return `${Math.floor(s / 60)}\u00a0min ${String(s % 60).padStart(2, "0")}\u00a0s`;
  if (s < 86400) return `${Math.floor(s / 3600)}\u00a0h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}\u00a0min`;
  return `${many(Math.floor(s / 86400), "day")}`;
}

const STEPS = [[60, "min"], [60, "hour"], [24, "day"], [30.4, "month"], [12, "year"]];

/** How long ago: `3 min ago`. Also of times to come: `in 3 min`. */
export function ago(time, now = Date.now()) {
  if (!time) return "–";
  const at = Date.parse(time);
  if (Number.isNaN(at)) return "–";
  const past = now >= at;
  let value = Math.abs(now - at) / 1000;
  if (value < 45) return past ? "just now" : "in a moment";
  let unit = "second";
  for (const [size, next] of STEPS) {
    if (value / size < 0.95) break;
    value /= size;
    unit = next;
  }
  const text = unit === "min" ? `${Math.max(1, Math.round(value))}\u00a0min` : many(Math.max(1, Math.round(value)), unit);
  return past ? `${text} ago` : `in ${text}`;
}

export function clock(time) {
  const at = new Date(time);
  return [at.getHours(), at.getMinutes()].map((part) => String(part).padStart(2, "0")).join(":");
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sept", "Oct", "Nov", "Dec"];

/** A date and time that nobody misreads. */
export function date(time) {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return String(time);
  return `${at.getDate()} ${MONTHS[at.getMonth()]} ${at.getFullYear()}, ${clock(at)}`;
}

/** The beginning of a digest, enough to tell two apart. */
export function short(digest) {
  const text = String(digest ?? "");
  const [algorithm, hex] = text.split(":");
  return hex ? `${algorithm === "sha256" ? "" : `${algorithm}:`}${hex.slice(0, 12)}` : text.slice(0, 19);
}
