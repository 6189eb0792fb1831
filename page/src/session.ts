/** The token of this tab: kept until the tab is closed, and never in a cookie or in the address. */

import { signal } from "@preact/signals";

const KEY = "musicgen-token";

export const token = signal<string | null>(read());
/** True once the service has refused a request for want of a valid token. */
export const signedOut = signal(false);
/** True when a token that the user gave was refused. */
export const tokenRefused = signal(false);

function read(): string | null {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export function signIn(value: string): void {
  token.value = value;
  tokenRefused.value = false;
  store(value);
}

export function signOut(): void {
  token.value = null;
  signedOut.value = true;
  store(null);
}

/** Take note that the service asks for another token. */
export function refuse(): void {
  tokenRefused.value = token.value !== null;
  signOut();
}

function store(value: string | null): void {
  try {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch {
    // Storage is blocked: the token holds until the page is loaded again.
  }
}
