// A classic script in the head: the theme must be known before the first paint.
(() => {
  let theme = "system";
  try { theme = localStorage.getItem("lanfit.theme") || "system"; } catch { /* storage is blocked: follow the system */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
