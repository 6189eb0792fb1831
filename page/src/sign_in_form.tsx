import { useEffect, useRef } from "preact/hooks";

import { Icon } from "./icons.tsx";
import { signIn, tokenRefused } from "./session.ts";

/** Asks for the token where the service wants one. */
export function SignInForm({ onSignIn }: { onSignIn(): void }) {
  const input = useRef<HTMLInputElement>(null);
  const refused = tokenRefused.value;
  useEffect(() => input.current?.focus(), []);
  const submit = (event: Event): void => {
    event.preventDefault();
    const value = input.current?.value.trim();
    if (!value) return;
    signIn(value);
    onSignIn();
  };
  return (
    <form class="sign-in panel" aria-labelledby="sign-in-title" onSubmit={submit}>
      <span class="sign-in-icon">
        <Icon name="key" size={24} />
      </span>
      <h1 id="sign-in-title">Sign in</h1>
      <p>This service asks for a token. Whoever runs it can give you one.</p>
      <div class="field">
        <label for="token">Token</label>
        <input
          ref={input}
          id="token"
          type="password"
          autocomplete="current-password"
          required
          aria-invalid={refused ? "true" : undefined}
          aria-describedby={refused ? "token-error" : "token-hint"}
        />
        {refused ? (
          <p class="field-error" id="token-error" role="alert">
            The service does not accept this token.
          </p>
        ) : (
          <p class="field-hint" id="token-hint">
            It is kept until you close this tab.
          </p>
        )}
      </div>
      <button type="submit" class="generate">
        Sign in
      </button>
    </form>
  );
}
