// Requests to /api/v1. The page sends the credentials itself, and says that it is the page, so that a 401 leads to
// its own form and not to the browser's question.

const KEY = "larder.login";

/** What went wrong, in words for the person who looks at the page. */
export class ApiError extends Error {
  constructor(status, code, message, after) {
    super(message);
    this.status = status;
    this.code = code;
    this.after = after;
  }
}

let authorization = null;
try {
  authorization = sessionStorage.getItem(KEY);
} catch {
  // Without storage the login lasts as long as the page.
}

/** Remembers credentials for this tab: until it is closed, and never on disk by us. `null` forgets them. */
export function keep(value) {
  authorization = value;
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // As above.
  }
}

export function isLoggedIn() {
  return authorization !== null;
}

export function basic(user, password) {
  const raw = new TextEncoder().encode(`${user}:${password}`);
  return `Basic ${btoa(String.fromCharCode(...raw))}`;
}

/** Called when the server asks for credentials. */
export const unauthorized = { tell: () => {} };

function headers(more) {
  const all = { "X-Requested-With": "larder", ...more };
  if (authorization) all.Authorization = authorization;
  return all;
}

function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters || {})) {
    if (value !== null && value !== undefined && value !== "") query.set(key, value);
  }
  const text = query.toString();
  return `api/v1/${path}${text ? `?${text}` : ""}`;
}

// What first.js has asked before this was there, with the same credentials. Each answers one question.
const asked = window.larderAsked ?? new Map();

function taken(method, url, signal) {
  const begun = method === "GET" ? asked.get(url) : undefined;
  if (!begun) return undefined;
  asked.delete(url);
  signal?.addEventListener("abort", () => begun.stop.abort(signal.reason));
  return begun.answer;
}

/** Throws away what has not been taken: what is asked from now on is to be answered as it is then. */
export function forget() {
  for (const { stop } of asked.values()) stop.abort();
  asked.clear();
}

/** The answer, whatever its status; a lost connection is an error with status 0. */
export async function raw(method, path, parameters, options = {}) {
  const url = address(path, parameters);
  try {
    return await (taken(method, url, options.signal) ?? fetch(url, { method, cache: "no-store", ...options, headers: headers(options.headers) }));
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "UNREACHABLE", "larder can’t be reached. Nothing was changed by this page.");
  }
}

async function request(method, path, parameters, options) {
  const answer = await raw(method, path, parameters, options);
  if (!answer.ok) throw await failure(answer);
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

/** The error that an answer tells. */
export async function failure(answer) {
  let code = "";
  let message = "";
  try {
    const first = (await answer.json()).errors[0];
    code = String(first.code ?? "");
    message = String(first.message ?? "");
  } catch {
    // A proxy's page, or nothing: the status is all there is.
  }
  const after = Number(answer.headers.get("retry-after")) || null;
  if (answer.status === 401) unauthorized.tell();
  return new ApiError(answer.status, code, message || `the server answered ${answer.status} ${answer.statusText}`.trim(), after);
}

export function get(path, parameters, signal) {
  return request("GET", path, parameters, { signal });
}

/** Changes something: with the header that a foreign page can't send. */
export function act(method, path, parameters, body) {
  const options = { headers: { "X-Larder-Action": "1" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  return request(method, path, parameters, options);
}
