import { Account } from "./account.tsx";
import { offline } from "./api.ts";
import { Bench } from "./bench.tsx";
import { Composer } from "./composer.tsx";
import { FineTunesDialog } from "./fine_tunes_dialog.tsx";
import { HistoryPanel } from "./history_panel.tsx";
import { Icon } from "./icons.tsx";
import { models, modelsKnown, trouble } from "./service.ts";
import { signedOut } from "./session.ts";
import { SignInForm } from "./sign_in_form.tsx";
import { ThemeSwitch } from "./theme_switch.tsx";

/** The whole page. */
export function App({ onSignIn }: { onSignIn(): void }) {
  return (
    <>
      <a class="skip" href="#main">
        Skip to the form
      </a>
      <Header />
      <Banner />
      <main id="main" tabIndex={-1} class={signedOut.value ? "stage alone" : "stage"}>
        {signedOut.value ? (
          <SignInForm onSignIn={onSignIn} />
        ) : (
          <>
            <h1 class="for-readers">Make music</h1>
            <div class="work">
              <Composer />
              <Bench />
            </div>
            <HistoryPanel />
            <FineTunesDialog />
          </>
        )}
      </main>
    </>
  );
}

function Header() {
  return (
    <header class="top">
      <a class="mark" href="/" aria-label="MusicGen, start afresh">
        <svg width="30" height="30" viewBox="0 0 32 32" aria-hidden="true">
          <path d="M7 14v4M13 8.5v15M19 12v8M25 14.5v3" />
        </svg>
        <span>MusicGen</span>
      </a>
      <Service />
      <span class="spacer" />
      <a class="quiet-button" href="/docs">
        <Icon name="book" size={18} /> <span>API reference</span>
      </a>
      <ThemeSwitch />
      {!signedOut.value && <Account />}
    </header>
  );
}

/** Whether it works, in two words. */
function Service() {
  if (signedOut.value || !modelsKnown.value) return null;
  // Fine-tunes have the workers and the queue of their base.
  const bases = models.value.filter((model) => !model.fine_tune);
  const workers = bases.reduce((sum, model) => sum + model.workers, 0);
  const waiting = bases.reduce((sum, model) => sum + model.queued, 0);
  const state = offline.value ? "bad" : workers ? "good" : "poor";
  const text = { bad: "No answer", good: waiting ? `${waiting} waiting` : "Ready", poor: "No worker" }[state];
  return (
    <p class={`service ${state}`}>
      <span class="service-dot" /> {text}
    </p>
  );
}

function Banner() {
  const text = offline.value
    ? "The service does not answer. What you entered is kept; this page goes on as soon as it is back."
    : trouble.value;
  return (
    <div class="banner-place">
      {text && (
        <p class="banner" role="alert">
          <Icon name="alert" /> <span>{text}</span>
        </p>
      )}
    </div>
  );
}
