// Dialogs for login and password. A login may be asked for in the middle of a request.

import { login, onSession, post, session } from "./api.js";
import { field, h } from "./dom.js";
import { attempt, note } from "./notes.js";
import { t } from "./texts.js";

let pending = null;
let last = null; // who was logged in last

onSession(() => (last = session.user ?? last));

/** Ask for a login; true once somebody is logged in, false if the dialog was closed. */
export function signIn() {
  pending ??= ask().finally(() => (pending = null));
  return pending;
}

function ask() {
  const expired = last;
  const user = h("input", {
    name: "user",
    autocomplete: "username",
    required: true,
    value: expired ?? "",
  });
  const password = h("input", {
    name: "password",
    type: "password",
    autocomplete: "current-password",
    required: true,
  });
  const error = h("p", { class: "wrong", role: "alert" });
  const enter = h("button", { class: "primary" }, t("login.enter"));
  const form = h(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        enter.disabled = true;
        try {
          await login(user.value, password.value);
          dialog.close("in");
        } catch (failed) {
          const wait = failed.retryAfter && t("login.wait", { n: failed.retryAfter });
          error.textContent = failed.status === 401 ? t("login.wrong") : (wait ?? failed.message);
          password.select();
        } finally {
          enter.disabled = false;
        }
      },
    },
    field(t("login.user"), user),
    field(t("login.password"), password),
    error,
    h(
      "div",
      { class: "actions" },
      h("button", { type: "button", onclick: () => dialog.close("") }, t("shell.cancel")),
      enter,
    ),
  );
  const dialog = h(
    "dialog",
    { "aria-labelledby": "login-title" },
    h("h2", { id: "login-title" }, t("login.title")),
    expired && h("p", {}, t("login.expired")),
    form,
  );
  return shown(dialog, expired ? password : user).then((value) => value === "in");
}

/** Show a dialog until it is closed; its return value. */
function shown(dialog, first) {
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
    document.body.append(dialog);
    dialog.showModal();
    first.focus();
  });
}

export async function logOut() {
  await attempt(async () => {
    await post("/api/logout");
    location.reload(); // nothing of this user stays on the page
  });
}

export function changePassword() {
  const inputs = ["current-password", "new-password", "new-password"].map((use) =>
    h("input", { type: "password", autocomplete: use, required: true }),
  );
  const [old, fresh, again] = inputs;
  const error = h("p", { class: "wrong", role: "alert" });
  const form = h(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        if (fresh.value !== again.value) {
          error.textContent = t("password.differ");
          return;
        }
        try {
          await post("/api/password", { old: old.value, new: fresh.value });
          dialog.close();
          note(t("password.done"));
        } catch (failed) {
          error.textContent = failed.message;
        }
      },
    },
    h("input", { autocomplete: "username", value: session.user, hidden: true }), // whose it is
    field(t("password.old"), old),
    field(t("password.new"), fresh),
    field(t("password.again"), again),
    error,
    h(
      "div",
      { class: "actions" },
      h("button", { type: "button", onclick: () => dialog.close() }, t("shell.cancel")),
      h("button", { class: "primary" }, t("password.change")),
    ),
  );
  const dialog = h(
    "dialog",
    { "aria-labelledby": "password-title" },
    h("h2", { id: "password-title" }, t("password.title")),
    form,
  );
  shown(dialog, old);
}
