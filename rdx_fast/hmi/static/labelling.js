// A person's judgement of a part: really good or really bad, why, and a comment.

import { isUser, post, session } from "./api.js";
import { h } from "./dom.js";
import { signIn } from "./login.js";
import { attempt } from "./notes.js";
import { moment, reasonText, t } from "./texts.js";
import { agreedBadge } from "./verdict.js";

const KEYS = 9; // reasons that a digit chooses

/** Whether people judge this part: those between or above the limits, and the random sample. */
export const isJudged = (part) => ["REVIEW", "NG"].includes(part.result) || Boolean(part.sampled);

/** The labels that were given, oldest first. */
export const labelsTable = (part) =>
  part.labels.length === 0
    ? h("p", { class: "muted" }, t(part.labels_shown ? "label.none" : "label.withheld"))
    : h(
        "ul",
        { class: "labels" },
        part.labels.map((label) =>
          h(
            "li",
            {},
            agreedBadge(label.verdict),
            h("span", {}, reasonText(label.reason)),
            label.comment && h("q", {}, label.comment),
            h("small", {}, `${label.user}, ${moment(label.time)}`),
          ),
        ),
      );

/**
 * A form with two buttons, then the reasons. Choosing a reason saves.
 * @param saved called with the part as the server returns it
 */
export function labelForm(saved) {
  let part = null;
  let verdict = null;
  const buttons = ["good", "bad"].map((name) =>
    h(
      "button",
      {
        type: "button",
        class: "judge",
        data: { agreed: name },
        "aria-pressed": "false",
        onclick: () => choose(name),
      },
      t(`label.${name}`),
      h("kbd", {}, name[0].toUpperCase()),
    ),
  );
  const reasons = h("div", { class: "reasons", role: "group", "aria-label": t("label.reason") });
  const comment = h("input", {
    maxlength: 500,
    placeholder: t("label.comment_hint"),
    "aria-label": t("label.comment"),
  });
  const hint = h("p", { class: "muted" });
  const element = h(
    "form",
    { class: "judging", onsubmit: (event) => event.preventDefault() },
    h("div", { class: "judges" }, buttons),
    hint,
    reasons,
    comment,
  );

  function draw() {
    const allowed = part !== null && isJudged(part);
    for (const button of buttons) {
      button.disabled = !allowed;
      button.setAttribute("aria-pressed", String(button.dataset.agreed === verdict));
    }
    comment.hidden = !allowed;
    hint.textContent =
      part === null
        ? ""
        : !allowed
          ? t("label.not_judged")
          : t(verdict ? "label.choose_reason" : "label.choose");
    reasons.replaceChildren(
      ...(verdict ? session.reasons[verdict] : []).map((reason, i) =>
        h(
          "button",
          { type: "button", onclick: (event) => save(reason, event.currentTarget) },
          i < KEYS ? h("kbd", {}, String(i + 1)) : null,
          reasonText(reason),
        ),
      ),
    );
  }

  async function choose(name) {
    if (part === null || !isJudged(part) || (!isUser() && !(await signIn()))) return;
    verdict = name;
    draw();
  }

  async function save(reason, button = null) {
    const judged = part;
    const body = { verdict, reason, comment: comment.value.trim() };
    await attempt(async () => {
      const told = await post(`/api/parts/${judged.inspection_id}/label`, body);
      if (part === judged) {
        verdict = null;
        comment.value = "";
        draw();
      }
      saved(told.part, body);
    }, button);
  }

  const { good, bad } = session.reasons;
  const keys = {
    g: ["label.good", () => choose("good")],
    b: ["label.bad", () => choose("bad")],
    c: ["label.comment", () => comment.focus()],
    ...Object.fromEntries(
      Array.from({ length: Math.min(KEYS, Math.max(good.length, bad.length)) }, (_, i) => [
        String(i + 1),
        [
          "label.reason_key",
          () => verdict && session.reasons[verdict][i] && save(session.reasons[verdict][i]),
          { n: i + 1 },
        ],
      ]),
    ),
  };
  comment.addEventListener("keydown", (event) => {
    if (!["Escape", "Enter"].includes(event.key)) return;
    event.preventDefault();
    comment.blur(); // so that a digit chooses the reason
  });
  return {
    element,
    keys,
    show(other) {
      part = other;
      verdict = null;
      comment.value = "";
      draw();
    },
  };
}
