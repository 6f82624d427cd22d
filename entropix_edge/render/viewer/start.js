// The file has its traces with it; the server's page has none.

{
  const held = document.getElementById("traces");
  const root = document.getElementById("app");
  window.entropix = held ? new FilePage(root, JSON.parse(held.textContent)) : new Page(root);
}
