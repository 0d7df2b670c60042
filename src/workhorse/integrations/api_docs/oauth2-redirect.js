// Hands the answer of an OAuth 2 server to the page that asked for it (see start.js), and closes this window once it
// was taken. A code or token does not stay in the address bar.
"use strict";

(() => {
  const PATIENCE_MILLISECONDS = 3000;
  const { hash, search, pathname } = window.location;
  const answer = (hash.length > 1 ? hash : search).slice(1);
  const state = new URLSearchParams(answer).get("state");
  const outcome = document.getElementById("outcome");
  window.history.replaceState(null, "", pathname);

  const channel = new BroadcastChannel("workhorse-docs-oauth2");
  const unheard = window.setTimeout(() => {
    outcome.textContent = "No page waits for this sign-in. Close this window, and start again from the API's page.";
  }, PATIENCE_MILLISECONDS);

  channel.addEventListener("message", ({ data }) => {
    if (data.taken !== undefined && data.taken === state) {
      window.clearTimeout(unheard);
      outcome.textContent = "Done. This window can be closed.";
      window.close();
    }
  });
  channel.postMessage({ answer });
})();
