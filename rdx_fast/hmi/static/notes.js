// Short messages, and questions that need a yes.

import { h } from "./dom.js";
import { t } from "./texts.js";

/** Show a message for some seconds; errors stay until they are closed. */
export function note(text, kind = "done") {
  const close = h(
    "button",
    { type: "button", "aria-label": t("shell.close"), onclick: () => shown.remove() },
    "×",
  );
  const shown = h("div", { class: "note", data: { kind } }, h("span", {}, text), close);
  const notes = document.getElementById("notes");
  notes.append(shown);
  while (notes.children.length > 4) notes.firstChild.remove();
  if (kind !== "error") setTimeout(() => shown.remove(), 6000);
}

export const complain = (error) => {
  if (error.name === "AbortError") return;
  console.error(error);
  note(error.message, "error");
};

/** Run an action of a button, which is disabled meanwhile; an error is shown. True if it went well. */
export async function attempt(action, button = null) {
  if (button) button.disabled = true;
  try {
    await action();
    return true;
  } catch (error) {
    complain(error);
    return false;
  } finally {
    if (button) button.disabled = false;
  }
}

/** Ask before something of consequence; true if it was confirmed. */
export function confirmed(title, text, yes) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "confirm-title" },
      h("h2", { id: "confirm-title" }, title),
      h("p", {}, text),
      h(
        "form",
        { method: "dialog", class: "actions" },
        h("button", { value: "no", autofocus: true }, t("shell.cancel")),
        h("button", { value: "yes", class: "primary" }, yes),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
