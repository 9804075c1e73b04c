// The server's events, by fetch instead of EventSource, so that the page can send its credentials. A lost connection
// is noticed, shown, and made again, less and less often.

import { failure, raw } from "./api.js";

// The server writes at least a comment every 15 seconds.
const SILENCE = 40_000;
const FIRST_WAIT = 500;
// A connection that held for so long was a good one.
const STEADY = 3000;
const LONGEST_WAIT = 15_000;
// A page that nobody looks at leaves its place to others: the server's, and one of the few connections that a browser
// makes to one host.
const HIDDEN = 10_000;

/** Events: `link` (how the connection is), and those of the server by their names, with their data in `detail`. */
export const live = new EventTarget();
export const link = { state: "wait", until: null, reason: "" };

let connected = false;
let running = null;
let wait = FIRST_WAIT;
let timer = 0;
let hidden = 0;

function tell(type, detail) {
  live.dispatchEvent(new CustomEvent(type, { detail }));
}

function become(state, reason = "", until = null) {
  Object.assign(link, { state, reason, until });
  tell("link", link);
}

/** Begins, or begins again at once: after a login, or when somebody asks for it. */
export function connect() {
  clearTimeout(timer);
  running?.abort();
  const own = (running = new AbortController());
  const begun = Date.now();
  read(own).then(
    // A server that reads its configuration again ends the streams; they come back at once.
    () => own === running && (Date.now() - begun > STEADY ? soon() : again("The server closed the connection.")),
    (error) => own === running && again(error.status === 0 || !error.status ? "The connection to larder is lost." : error.message, error),
  );
}

export function disconnect(state = "off") {
  clearTimeout(timer);
  running?.abort();
  running = null;
  become(state);
}

function soon() {
  become("wait");
  timer = setTimeout(connect, FIRST_WAIT);
}

function again(reason, error) {
  if (error?.status === 401) return disconnect("login");
  const pause = error?.after ? error.after * 1000 : wait * (0.8 + 0.4 * Math.random());
  wait = Math.min(wait * 2, LONGEST_WAIT);
  become("lost", reason, Date.now() + pause);
  timer = setTimeout(connect, pause);
}

async function read(own) {
  const guard = silence(own);
  try {
    const answer = await raw("GET", "events", null, { signal: own.signal, headers: { Accept: "text/event-stream" } });
    if (!answer.ok) throw await failure(answer);
    wait = FIRST_WAIT;
    become("live");
    // What happened since the last connection was told to nobody here.
    if (connected) tell("changed", { repository: null });
    connected = true;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const feed = parser(tell);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      guard.heard();
      feed(value);
    }
  } finally {
    guard.end();
  }
}

// Cuts a connection that says nothing: a network that is gone often doesn't say so.
function silence(own) {
  let until = 0;
  const heard = () => {
    clearTimeout(until);
    until = setTimeout(() => own.abort(new Error("nothing was heard")), SILENCE);
  };
  heard();
  return { heard, end: () => clearTimeout(until) };
}

/** Takes text as it comes, and tells each event that is complete in it. */
export function parser(onEvent) {
  let rest = "";
  let type = "";
  let data = [];
  const line = (text) => {
    if (text === "") {
      if (data.length) emit(onEvent, type || "message", data.join("\n"));
      type = "";
      data = [];
    } else if (text.startsWith("event:")) type = text.slice(6).trim();
    else if (text.startsWith("data:")) data.push(text.slice(5).replace(/^ /, ""));
  };
  return (text) => {
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    lines.forEach(line);
  };
}

function emit(onEvent, type, text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    return; // Not ours; the next one may be.
  }
  onEvent(type, data);
}

// A browser may keep a page that was left, with its connections, to show it again when one goes back.
addEventListener("pagehide", () => running && disconnect("asleep"));
addEventListener("pageshow", (event) => event.persisted && link.state === "asleep" && connect());
addEventListener("online", () => link.state === "lost" && connect());
document.addEventListener("visibilitychange", () => {
  clearTimeout(hidden);
  if (document.hidden) hidden = setTimeout(() => running && disconnect("asleep"), HIDDEN);
  else if (link.state === "asleep" || link.state === "lost") connect();
});
