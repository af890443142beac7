// Asks for a token where the server wants one.

import { token } from "./api.js";
import { byId, fault, show } from "./dom.js";

// `started` begins the page anew with the token that was given.
export function useTokens(started) {
  const section = byId("token");
  const field = byId("token-field");
  const forget = byId("forget-token");
  show(forget, token.get() !== null);
  // The server refused: it knows none, or not this one.
  addEventListener("token-refused", (e) => {
    token.forget();
    show(forget, false);
    const hidden = section.hidden;
    show(section, true);
    if (e.detail) fault("token-fault", "The server does not know this token, or it has expired.");
    if (hidden || e.detail) field.focus();
  });
  byId("token-form").addEventListener("submit", (e) => {
    e.preventDefault();
    const text = field.value.trim();
    field.value = "";
    // What a header cannot carry is no token.
    if (!/^[\x21-\x7e]+$/.test(text)) {
      fault("token-fault", "A token has letters, digits and signs, and no spaces.");
      return;
    }
    token.set(text);
    fault("token-fault", "");
    show(section, false);
    show(forget, true);
    started();
  });
  forget.addEventListener("click", () => {
    token.forget();
    location.reload();
  });
}
