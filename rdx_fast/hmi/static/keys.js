// Shortcuts of the keyboard. Each view names its own; "?" lists them.

import { h } from "./dom.js";
import { t } from "./texts.js";

const layers = []; // the newest counts first

/**
 * Add shortcuts; returns how to remove them.
 * @param shortcuts by key ("g", "?", "Shift+1", "ArrowLeft"): [key of the text, action]
 */
export function addKeys(shortcuts) {
  layers.push(shortcuts);
  return () => layers.splice(layers.indexOf(shortcuts), 1);
}

const typing = (target) =>
  target.closest?.("input:not([type=checkbox], [type=radio]), select, textarea, dialog[open]");

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
  if (document.querySelector("dialog[open]")) return;
  // Buttons and links take Enter and Space themselves.
  if (["Enter", " "].includes(event.key) && event.target.closest("a, button, summary")) return;
  const digit = /^Digit(\d)$/.exec(event.code)?.[1];
  const name = event.shiftKey && digit ? `Shift+${digit}` : event.key;
  for (const layer of layers.toReversed()) {
    const found = layer[name] ?? layer[name.toLowerCase()];
    if (!found) continue;
    if (found[1](event) !== false) event.preventDefault();
    return;
  }
});

const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };

/** List all shortcuts in a dialog. */
export function showKeys() {
  const rows = layers
    .toReversed()
    .flatMap((layer) =>
      Object.entries(layer).map(([key, [text, , values]]) =>
        h(
          "li",
          {},
          h("span", {}, h("kbd", {}, NAMES[key] ?? key.replace(/^[a-z]$/, (k) => k.toUpperCase()))),
          t(text, values),
        ),
      ),
    );
  const dialog = h(
    "dialog",
    { class: "keys", "aria-labelledby": "keys-title", onclose: () => dialog.remove() },
    h("h2", { id: "keys-title" }, t("keys.title")),
    h("ul", {}, rows),
    h("form", { method: "dialog", class: "actions" }, h("button", {}, t("shell.close"))),
  );
  document.body.append(dialog);
  dialog.showModal();
}
