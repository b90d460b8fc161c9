// The queue of parts that wait for a person's judgement, one at a time.

import { get, isUser, session } from "./api.js";
import { scoreBar } from "./chart.js";
import { h } from "./dom.js";
import { addKeys } from "./keys.js";
import { isJudged, labelForm } from "./labelling.js";
import { signIn } from "./login.js";
import { attempt, complain } from "./notes.js";
import { Picture } from "./picture.js";
import { count, moment, reasonText, t } from "./texts.js";
import { badge } from "./verdict.js";
import { countWaiting, onWaiting } from "./waiting.js";

const BATCH = 30;
const MOST = 200; // that the server gives

export function open(root) {
  if (!isUser()) {
    const button = h("button", { class: "primary", onclick: signIn }, t("login.title"));
    root.append(h("div", { class: "locked" }, h("p", {}, t("label.needs_user")), button));
    return () => {};
  }
  const picture = new Picture();
  const form = labelForm(saved);
  const waits = h("p", { class: "queue-count", role: "status" });
  const facts = h("div", { class: "queue-facts" });
  const last = h("p", { class: "muted", role: "status" });
  const back = h("button", { type: "button", onclick: () => move(-1) }, `← ${t("label.back")}`);
  const skip = h("button", { type: "button", onclick: () => move(1) }, `${t("label.skip")} →`);
  root.append(
    h("h1", { class: "unseen" }, t("label.title")),
    h(
      "div",
      { class: "queue" },
      h("section", { class: "panel" }, picture.element),
      h(
        "section",
        { class: "panel queue-side" },
        waits,
        facts,
        form.element,
        h("div", { class: "actions" }, back, skip),
        last,
      ),
    ),
  );
  let parts = [];
  let place = 0;
  let waiting = 0;
  let loading = false;
  let closed = false;

  /** Add what waits and is not in the list yet. Those already seen stay before, to go back to. */
  async function load() {
    const skipped = parts.filter((part) => !part.labelledNow).length;
    const told = await get("/api/queue", { limit: Math.min(MOST, BATCH + skipped) });
    if (closed) return;
    const known = new Set(parts.map((part) => part.inspection_id));
    const dropped = Math.max(0, parts.length - MOST);
    const fresh = told.parts.filter((part) => !known.has(part.inspection_id));
    parts = [...parts.slice(dropped), ...fresh];
    place -= dropped;
    drawWaiting(told.waiting);
  }

  function drawWaiting(n) {
    waiting = n ?? 0;
    waits.replaceChildren(h("strong", {}, count(waiting)), ` ${t("label.waiting")}`);
  }

  function draw() {
    const part = parts[place];
    back.disabled = place === 0;
    skip.disabled = !part;
    form.show(part ?? null);
    if (!part) {
      facts.replaceChildren();
      picture.clear(waiting ? t("label.only_skipped", { n: count(waiting) }) : t("label.empty"));
      return;
    }
    facts.replaceChildren(
      h(
        "p",
        { class: "queue-part" },
        badge(part.result),
        h("a", { href: `#/part/${part.inspection_id}` }, t("live.part", { part: part.part_id })),
        part.sampled
          ? h("span", { class: "chip", title: t("part.sampled_long") }, t("part.sampled"))
          : null,
      ),
      h("p", { class: "muted" }, `${moment(part.triggered_at)} · ${t("column.job")} ${part.job}`),
      scoreBar(part),
    );
    picture.show(part).catch((error) => {
      if (error.status === 404) picture.clear(t("part.no_picture"));
      else complain(error);
    });
  }

  async function move(by) {
    if (loading) return;
    const atEnd = place === parts.length;
    if (place + by >= parts.length) {
      loading = true;
      await attempt(load);
      loading = false;
    }
    // At the end the next part is the one that has come there.
    place = Math.min(Math.max(atEnd && by > 0 ? place : place + by, 0), parts.length);
    if (!closed) draw();
  }

  function saved(part, given) {
    const at = parts.findIndex((one) => one.inspection_id === part.inspection_id);
    if (!parts[at].labelledNow) drawWaiting(Math.max(0, waiting - 1));
    parts[at] = { ...part, labelledNow: true };
    last.textContent = t("label.saved", {
      part: part.part_id,
      verdict: t(`agreed.${given.verdict}`),
      reason: reasonText(given.reason),
    });
    countWaiting().catch(complain);
    if (at === place) move(1);
  }

  const removeKeys = addKeys({
    ...form.keys,
    ArrowRight: ["label.skip", () => move(1)],
    ArrowLeft: ["label.back", () => move(-1)],
  });
  attempt(load).then(() => closed || draw());
  const stop = onWaiting((n) => {
    drawWaiting(n);
    if (n && place === parts.length) move(1);
  });
  return () => {
    closed = true;
    stop();
    removeKeys();
    picture.close();
  };
}
