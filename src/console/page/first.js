// What does not wait for the rest of the page, which is on its way meanwhile: the questions of the view that the
// address names, in the words of that view. api.js takes their answers; what nobody takes at once is thrown away.
{
  const headers = { "X-Requested-With": "larder" };
  try {
    const login = sessionStorage.getItem("larder.login");
    if (login) headers.Authorization = login;
  } catch {
    // Without storage nobody is logged in yet.
  }
  const asked = (window.larderAsked = new Map());
  const ask = (path, parameters, more) => {
    const query = new URLSearchParams(parameters).toString();
    const url = `api/v1/${path}${query && "?"}${query}`;
    const stop = new AbortController();
    const answer = fetch(url, { cache: "no-store", signal: stop.signal, headers: { ...headers, ...more } });
    // Whoever takes it learns what went wrong.
    answer.catch(() => {});
    asked.set(url, { answer, stop });
  };
  ask("");
  try {
    const [, view, rest] = /^#\/([^/]*)\/?(.*)$/s.exec(location.hash || "#/");
    const of = decodeURIComponent(rest);
    if (view === "" || view === "now") {
      ask("evictions", { n: 8 });
      ask("history", { n: 100 });
    }
    if (view === "images") {
      ask("repositories", { sort: "name", n: 100 });
      ask("upstreams");
      if (of) ask("tags", { repository: of, sort: "name", n: 100 });
    }
    const tagged = view === "image" && /^([^@:]+):([^@:]+)$/.exec(of);
    if (tagged) {
      const [, repository, reference] = tagged;
      ask("image", { repository, reference });
      ask("tags", { repository, search: reference, n: 100 });
    }
  } catch {
    // No address of this page.
  }
  ask("events", {}, { Accept: "text/event-stream" });
}

// Light or dark, before the first paint. A choice is kept in this browser; without one the system decides.
try {
  const chosen = localStorage.getItem("larder.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that keeps nothing for pages follows the system.
}
