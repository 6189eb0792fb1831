/** How waveforms look: the same bars for takes, clips and recordings, in the colours of the page. */

export const BAR = { barWidth: 3, barGap: 2, barRadius: 2 } as const;

export interface WaveColours {
  readonly wave: string;
  readonly played: string;
  readonly cursor: string;
  readonly region: string;
}

export function waveColours(): WaveColours {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  return {
    wave: colour("--wave"),
    played: colour("--wave-played"),
    cursor: colour("--ink"),
    region: colour("--region"),
  };
}

/** The page's nonce, which style elements need. */
export const cspNonce = document.querySelector<HTMLMetaElement>("meta[name=csp-nonce]")?.content;
