// Starts Swagger UI with the settings that stand in the page, and takes the answers of OAuth 2 sign-ins.
//
// A sign-in happens in a window of its own. Cross-Origin-Opener-Policy: same-origin cuts the tie between that window
// and this one, so its answer does not come through `window.opener`, but through a channel that only pages of this
// origin hear. An answer counts only if its state is that of the sign-in that waits in this very page (RFC 6749,
// section 10.12).
"use strict";

(() => {
  const CODE_FLOWS = ["accessCode", "authorizationCode", "authorization_code"];
  const settings = JSON.parse(document.currentScript.dataset.settings);
  const channel = new BroadcastChannel("workhorse-docs-oauth2");

  const take = (flow, answer) => {
    const { auth, redirectUrl } = flow;
    if (!CODE_FLOWS.includes(auth.schema.get("flow"))) {
      flow.callback({ auth, token: Object.fromEntries(answer), isValid: true, redirectUrl });
    } else if (answer.get("code")) {
      auth.code = answer.get("code");
      flow.callback({ auth, redirectUrl });
    } else {
      const said = [answer.get("error"), answer.get("error_description"), answer.get("error_uri")];
      const message = said.filter(Boolean).join(": ") || "The server sent no code.";
      flow.errCb({ authId: auth.name, source: "auth", level: "error", message });
    }
  };

  channel.addEventListener("message", ({ data }) => {
    const flow = window.swaggerUIRedirectOauth2;
    const answer = new URLSearchParams(data.answer ?? "");
    if (flow === undefined || answer.get("state") !== flow.state) {
      return; // another page's, or nobody's
    }
    delete window.swaggerUIRedirectOauth2;
    channel.postMessage({ taken: flow.state });
    take(flow, answer);
  });

  const options = { ...settings.parameters, presets: [SwaggerUIBundle.presets.apis] };
  if (settings.redirect !== null) {
    options.oauth2RedirectUrl = window.location.origin + settings.redirect;
  }
  const ui = SwaggerUIBundle(options);
  if (settings.oauth !== null) {
    ui.initOAuth(settings.oauth);
  }
})();
