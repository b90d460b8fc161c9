// Everything that is known of one part.

import { get } from "./api.js";
import { scoreBar } from "./chart.js";
import { h } from "./dom.js";
import { addKeys } from "./keys.js";
import { labelForm, labelsTable } from "./labelling.js";
import { complain, note } from "./notes.js";
import { Picture } from "./picture.js";
import { count, moment, number, percent, t } from "./texts.js";
import { agreedBadge, badge } from "./verdict.js";
import { countWaiting } from "./waiting.js";

const TIMES = ["start_ms", "grab_ms", "preprocess_ms", "network_ms", "postprocess_ms", "score_ms", "decided_ms", "recorded_ms", "taken_ms"];

export function open(root, { rest }) {
  const id = rest[0];
  const picture = new Picture();
  const head = h("h1", { class: "part-head" });
  const side = h("div", { class: "part-side" });
  const labels = h("div", {});
  const form = labelForm((part) => {
    note(t("label.saved_short"));
    drawLabels(part);
    countWaiting().catch(complain);
  });
  root.append(head, h("div", { class: "part" }, h("section", { class: "panel" }, picture.element), side));
  let closed = false;

  function drawLabels(part) {
    form.show(part);
    labels.replaceChildren(labelsTable(part));
    head.replaceChildren(badge(part.result), t("live.part", { part: part.part_id }), agreedBadge(part.agreed) ?? "");
  }

  async function load() {
    const { part, defects } = await get(`/api/parts/${encodeURIComponent(id)}`);
    if (closed) return;
    const panel = (title, ...children) => h("section", { class: "panel" }, h("h2", {}, title), ...children);
    side.append(
      panel(t("part.decision"), part.error && errorText(part), scoreBar(part), list(decision(part))),
      panel(t("part.judgement"), labels, form.element),
      panel(t("part.recorded"), list(identity(part))),
      panel(t("part.times"), timesTable(part)),
      ...(defects?.length ? [panel(t("part.defects"), defectsTable(defects))] : []),
    );
    drawLabels(part);
    await picture.show(part).catch((error) => {
      if (error.status === 404) picture.clear(t("part.no_picture"));
      else throw error;
    });
  }

  const to = (by) => () => (location.hash = `#/part/${Number(id) + by}`);
  const removeKeys = addKeys({ ...form.keys, ArrowLeft: ["part.before", to(-1)], ArrowRight: ["part.after", to(1)] });
  load().catch((error) => {
    if (error.status !== 404) complain(error);
    if (!closed) picture.clear(error.message);
  });
  return () => {
    closed = true;
    removeKeys();
    picture.close();
  };
}

const errorText = (part) =>
  h(
    "div",
    { class: "hint" },
    h("p", {}, h("strong", {}, t(`alarm.${part.error}.cause`)), ` ${t(`alarm.${part.error}.remedy`)}`),
    h("small", {}, [part.error, part.detail].filter(Boolean).join(": ")),
  );

const decision = (part) => [
  ["region", part.region ?? t("part.whole_frame")],
  ["p_value", number(part.p_value, 2)],
  ["area_px", count(part.area_px)],
  ["executed", part.executed ?? "–"],
  ["brightness", number(part.brightness)],
  ["sharpness", number(part.sharpness)],
];

const identity = (part) => [
  ["inspection_id", String(part.inspection_id)],
  ["part_id", String(part.part_id)],
  ["triggered_at", moment(part.triggered_at)],
  ["job", String(part.job)],
  ["bundle", part.bundle ?? "–"],
  ["bundle_sha256", h("code", {}, part.bundle_sha256 ?? "–")],
  ["sampled", part.sampled ? t("part.sampled_long") : t("part.not_sampled")],
  ["picture", part.picture ?? "–"],
];

const list = (facts) =>
  h(
    "dl",
    { class: "facts" },
    facts.map(([name, value]) => h("div", { class: name === "bundle_sha256" && "whole" }, h("dt", {}, t(`field.${name}`)), h("dd", {}, value))),
  );

function timesTable(part) {
  const rows = TIMES.filter((name) => part[name] !== null && part[name] !== undefined).map((name) =>
    h("tr", {}, h("td", {}, t(`field.${name}`)), h("td", { class: "figure" }, `${number(part[name])} ms`)),
  );
  const used = part.decided_ms / part.deadline_ms;
  const last = h("tr", {}, h("td", {}, t("field.deadline_ms")), h("td", { class: "figure" }, `${number(part.deadline_ms, 4)} ms`));
  return h("div", {}, h("table", { class: "plain" }, h("tbody", {}, rows, last)), h("p", { class: "muted" }, t("part.used", { share: percent(used, 2) })));
}

const defectsTable = (defects) =>
  h(
    "table",
    { class: "plain" },
    h("thead", {}, h("tr", {}, ["place", "size", "area", "peak"].map((name) => h("th", { scope: "col" }, t(`column.${name}`))))),
    h(
      "tbody",
      {},
      defects.map(({ box: [top, left, height, width], area_px, peak }) =>
        h(
          "tr",
          {},
          h("td", {}, `x ${left}, y ${top}`),
          h("td", {}, `${width} × ${height}`),
          h("td", { class: "figure" }, count(area_px)),
          h("td", { class: "figure" }, `×${number(peak)}`),
        ),
      ),
    ),
  );
