// Light or dark, before the first paint. A choice is kept in this browser; without one the system decides.
try {
  const chosen = localStorage.getItem("larder.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that keeps nothing for pages follows the system.
}
