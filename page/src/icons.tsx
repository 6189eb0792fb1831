/** Icons of one line width on a grid of 24. They say nothing to screen readers: their buttons have names. */

const PATHS = {
  play: "M8 5.5v13l10.5-6.5z",
  pause: "M7.5 6h2.5v12H7.5zM14 6h2.5v12H14z",
  stop: "M7 7h10v10H7z",
  headphones: "M4 15v-2a8 8 0 0 1 16 0v2M4 15.5A2.5 2.5 0 0 1 6.5 13H8v7H6.5A2.5 2.5 0 0 1 4 17.5zM20 15.5a2.5 2.5 0 0 0-2.5-2.5H16v7h1.5a2.5 2.5 0 0 0 2.5-2.5z",
  download: "M12 4v11M7 10.5l5 5 5-5M5 19.5h14",
  forward: "M4 12h12M11 6.5l5.5 5.5-5.5 5.5M20 5v14",
  melody: "M9 18V6l10-2v12M9 18a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0zM19 16a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0z",
  vary: "M4 7h3.5c4 0 5 10 9 10H20M4 17h3.5c1.4 0 2.4-1.2 3.2-2.8M13.3 9.8C14.1 8.2 15.1 7 16.5 7H20M17.5 4.5L20 7l-2.5 2.5M17.5 14.5L20 17l-2.5 2.5",
  more: "M5.5 11.4a.6.6 0 1 1 0 1.2.6.6 0 0 1 0-1.2zM12 11.4a.6.6 0 1 1 0 1.2.6.6 0 0 1 0-1.2zM18.5 11.4a.6.6 0 1 1 0 1.2.6.6 0 0 1 0-1.2z",
  spectrum: "M5 19V9M9.7 19V5M14.3 19v-7M19 19V8",
  code: "M8.5 8L4.5 12l4 4M15.5 8l4 4-4 4",
  close: "M6.5 6.5l11 11M17.5 6.5l-11 11",
  microphone: "M12 4a2.5 2.5 0 0 1 2.5 2.5v5a2.5 2.5 0 0 1-5 0v-5A2.5 2.5 0 0 1 12 4zM6 11.5a6 6 0 0 0 12 0M12 17.5V20.5",
  upload: "M12 16V5M7 9.5l5-5 5 5M5 19.5h14",
  sun: "M12 8.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7zM12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4M5.6 18.4L7 17M17 7l1.4-1.4",
  moon: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z",
  dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01",
  loop: "M7 7h9a4 4 0 0 1 4 4M17 17H8a4 4 0 0 1-4-4M14 4l3 3-3 3M10 20l-3-3 3-3",
  search: "M11 5a6 6 0 1 1 0 12 6 6 0 0 1 0-12zM15.5 15.5L20 20",
  chevron: "M7 10l5 5 5-5",
  alert: "M12 8v5M12 16.5h.01M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17z",
  key: "M8 10a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM10.9 11.2L19 4M15.5 7.1l2.6 2.9",
  trash: "M5 7h14M10 7V5h4v2M7 7l1 12.5h8L17 7M10.5 10.5V16M13.5 10.5V16",
  book: "M5 5.5h5a2 2 0 0 1 2 2v11.5a2 2 0 0 0-2-1.5H5zM19 5.5h-5a2 2 0 0 0-2 2v11.5a2 2 0 0 1 2-1.5h5z",
} as const;

const FILLED: ReadonlySet<string> = new Set(["play", "pause", "stop", "more"]);

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  const filled = FILLED.has(name);
  return (
    <svg class={filled ? "icon filled" : "icon"} width={size} height={size} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
