import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { Icon, type IconName } from "./icons.tsx";

export interface Item {
  readonly label: string;
  readonly icon?: IconName;
  readonly danger?: boolean;
  readonly href?: string;
  onSelect?(): void;
}

const EDGE = 8;

interface Props {
  label: string;
  icon: IconName;
  text?: string;
  items: readonly Item[];
}

/** A button that opens a list of actions. */
export function Menu({ label, icon, text, items }: Props) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  // To the left of its button, or to the right where the page ends.
  useLayoutEffect(() => {
    const list = root.current?.querySelector(".menu-list");
    if (list && list.getBoundingClientRect().left < EDGE) list.classList.add("from-left");
  }, [open]);
  useEffect(() => {
    if (!open) return undefined;
    root.current?.querySelector<HTMLElement>(".menu-item")?.focus();
    const outside = (event: Event): void => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    document.addEventListener("focusin", outside);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("focusin", outside);
    };
  }, [open]);
  const close = (): void => {
    setOpen(false);
    root.current?.querySelector("button")?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (open && event.key === "Escape") {
      event.stopPropagation();
      close();
    } else if (open && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      event.stopPropagation();
      moveFocus(root.current, event.key === "ArrowDown" ? 1 : -1);
    }
  };
  return (
    <div class="menu" ref={root} onKeyDown={onKeyDown}>
      <button
        type="button"
        class={text ? "quiet-button" : "icon-button"}
        aria-label={text ? undefined : label}
        title={text ? undefined : label}
        aria-haspopup="true"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      >
        {text ? <span>{text}</span> : null}
        <Icon name={icon} size={text ? 16 : 20} />
      </button>
      {open && (
        <ul class="menu-list">
          {items.map((item) => (
            <li key={item.label}>
              <MenuItem item={item} close={close} />
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

function MenuItem({ item, close }: { item: Item; close: () => void }) {
  const inside = (
    <>
      {item.icon && <Icon name={item.icon} size={18} />}
      <span>{item.label}</span>
    </>
  );
  if (item.href) {
    return (
      <a class="menu-item" href={item.href}>
        {inside}
      </a>
    );
  }
  const select = (): void => {
    close();
    item.onSelect?.();
  };
  return (
    <button type="button" class={item.danger ? "menu-item danger" : "menu-item"} onClick={select}>
      {inside}
    </button>
  );
}

function moveFocus(root: HTMLElement | null, step: number): void {
  const items = [...(root?.querySelectorAll<HTMLElement>(".menu-item") ?? [])];
  const at = items.indexOf(document.activeElement as HTMLElement);
  items[(at + step + items.length) % items.length]?.focus();
}
